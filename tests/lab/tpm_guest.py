"""A guest with Python and a TPM library, that does with its TPM what the test asks for."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from shype.lab.guests import config
from shype.lab.host import Lab

HERE = Path(__file__).parent
UUID = "5e1f0000-0000-4000-8000-00000000000a"
#: MiB that one of them needs.
MEMORY = 320
#: Seconds from its start until it is ready, at the most, on a busy machine.
START = 400
#: What `shype attest` in the guest has imported by the time it is done.
MODULES = (
    "tpm2_pytss", "libtss2-tcti-device.so.0", "shype.cli.main", "shype.cli.attest",
    "shype.attest.*", "shype.host.audit.*", "shype.host.vtpm.relay", "urllib.request",
    "json", "base64", "subprocess", "threading", "io", "traceback", "select", "termios", "tty",
)
TPM = ("--tpm", "device:/dev/tpm0")
STATE = ("--state", "/tmp/attest")


@dataclass
class Guest:
    """The guest called ``vm``, as `tpm_program.py` answers."""

    lab: Lab
    vm: str = "a-desk"
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    def wait(self) -> None:
        """Until it has its TPM."""
        code, text, _ = self.heard(0, START)
        assert (code, text) == (0, "ready")

    def heard(self, number: int, limit: float = 90) -> tuple[int, str, dict[str, bytes]]:
        """Its answer with this number; 0 is what it says by itself once it is ready."""
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            log = self.lab.sh(f"cat /var/log/xen/console/guest-{self.vm}.log").out
            for line in log.replace("\r", "").splitlines():
                if line.startswith("TPM-GUEST "):
                    found = json.loads(line.removeprefix("TPM-GUEST "))
                    if found[0] == number:
                        return found[1], found[2], {
                            name: base64.b64decode(text) for name, text in found[3].items()}
            time.sleep(1)
        raise AssertionError(f"the guest does not answer: {log[-2000:]}")

    def shype(
        self, *argv: str, files: dict[str, bytes] | None = None, wanted: tuple[str, ...] = (),
    ) -> tuple[int, str, dict[str, bytes]]:
        """A command line of `shype` in it: exit code, what it printed, and the files ``wanted``;
        ``files`` are written before."""
        number = next(self._numbers)
        ask = {"number": number, "argv": argv, "wanted": wanted, "files": {
            name: base64.b64encode(data).decode() for name, data in (files or {}).items()}}
        domid = self.lab.run(["xl", "domid", self.vm]).out.strip()
        done = self.lab.run(["xenstore-write", f"/local/domain/{domid}/data/ask", json.dumps(ask)])
        assert done.code == 0, done.err
        return self.heard(number)


def install(lab: Lab, *vms: str) -> None:
    """Put such guests into dom0: a RAM disk, and a configuration for each of ``vms``."""
    lab.put("/run/tpm_program.py", (HERE / "tpm_program.py").read_bytes())
    done = lab.run(
        ["python3", "-c", (HERE / "python_guest.py").read_text(), "/guest/tpm", *MODULES,
         "/run/tpm_program.py"], timeout=300, env={"PYTHONPATH": "/opt/shype"})
    assert done.code == 0, done.err
    for vm in vms:
        lab.put(f"/etc/xen/vms/{vm}.cfg", config(
            vm, type="pv", memory=MEMORY, args="app=tpm_program.py",
            extra=f'uuid = "{UUID}"').replace("/guest/initrd", "/guest/tpm"))

"""A real guest's own TPM: it quotes, the quote holds, and what it loses is told."""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shype.attest.chain import follow
from shype.attest.host_events import HostEvent, Kind
from shype.compile.flask.build import build
from shype.host.attest_result import attester_id
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.attest.logs import LAUNCH
from tests.attest.test_chain import WITH_TPMS, quoted_by
from tests.attest.world import World, paper_machine

pytestmark = pytest.mark.lab
HERE = Path(__file__).parent
UUID = "5e1f0000-0000-4000-8000-00000000000a"
POLICY = """\
shype: 1
policy: {name: tpms, version: "1.0"}
coalitions: [work, play]
labels:
  manager: {coalitions: all}
  a-desk:  {coalitions: [work], vtpm: true, locked: true}
  toy:     {coalitions: [play], vtpm: true}
host: {dom0: manager}
vms: {a-desk: a-desk, toy: toy}
"""
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
    """The guest, as `tpm_program.py` answers."""

    lab: Lab
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    def heard(self, number: int, limit: float = 90) -> tuple[int, str, dict[str, bytes]]:
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline:
            log = self.lab.sh("cat /var/log/xen/console/guest-a-desk.log").out
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
        number = next(self._numbers)
        ask = {"number": number, "argv": argv, "wanted": wanted, "files": {
            name: base64.b64encode(data).decode() for name, data in (files or {}).items()}}
        domid = self.lab.run(["xl", "domid", "a-desk"]).out.strip()
        done = self.lab.run(["xenstore-write", f"/local/domain/{domid}/data/ask", json.dumps(ask)])
        assert done.code == 0, done.err
        return self.heard(number)


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    place = tmp_path_factory.mktemp("tpms")
    (place / "policy.yaml").write_text(POLICY)
    build(load(place / "policy.yaml").policy, target="xen-4.17", out=place / "bundle")
    with Lab.up(bundle=place / "bundle") as up:
        up.put("/run/tpm_program.py", (HERE / "tpm_program.py").read_bytes())
        done = up.run(
            ["python3", "-c", (HERE / "python_guest.py").read_text(), "/guest/tpm", *MODULES,
             "/run/tpm_program.py"], timeout=300, env={"PYTHONPATH": "/opt/shype"})
        assert done.code == 0, done.err
        for vm in ("a-desk", "toy"):
            up.put(f"/etc/xen/vms/{vm}.cfg", config(
                vm, type="pv", memory=320, args="app=tpm_program.py",
                extra=f'uuid = "{UUID}"').replace("/guest/initrd", "/guest/tpm"))
        yield up


def test_a_guests_quote_is_by_the_tpm_that_the_host_gave_it(lab: Lab, tmp_path: Path) -> None:
    done = lab.run(["shype", "run", "/etc/xen/vms/a-desk.cfg"], 180)
    assert done.code == 0, done.err
    guest = Guest(lab)
    code, text, _ = guest.heard(0, 400)
    assert (code, text) == (0, "ready")
    told, = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert (told["vm"], told["label"], told["state"]) == ("a-desk", "a-desk", "served")

    assert guest.shype("register")[1].strip() == "0" * 64
    code, text, _ = guest.shype("attest", "ek", "--id", *TPM)
    assert (code, text.strip()) == (0, told["ek"]), text

    # A verifier on another machine, with nothing but what the guest and the host show it.
    world = World(tmp_path / "verifier", WITH_TPMS)
    world.clock.now = time.time()
    world.verifier.admit("desk", "vms", told["ek"])
    code, text, files = guest.shype("attest", "enrol", "desk", "-o", "/tmp/request", *TPM, *STATE,
                                    wanted=("/tmp/request",))
    assert code == 0, text
    challenge = world.verifier.enrol(files["/tmp/request"])
    code, text, files = guest.shype(
        "attest", "enrol", "desk", "--challenge", "/tmp/challenge", "-o", "/tmp/answer", *TPM,
        *STATE, files={"/tmp/challenge": challenge}, wanted=("/tmp/answer",))
    assert code == 0, text
    known = world.verifier.complete(files["/tmp/answer"])
    assert known.ak is not None

    def quote(nonce: bytes, pcrs: tuple[int, ...]) -> bytes:
        ask = json.dumps({"eat_nonce": nonce.hex(), "pcrs": list(pcrs)}).encode()
        code, text, files = guest.shype(
            "attest", "quote", "--challenge", "/tmp/ask", "-o", "/tmp/evidence", "--log",
            "/tmp/none", *TPM, *STATE, files={"/tmp/ask": ask}, wanted=("/tmp/evidence",))
        assert code == 0, text
        return files["/tmp/evidence"]

    host = paper_machine(world)
    host.measure(LAUNCH)
    host.measure(HostEvent(Kind.TPM, {key: told[key] for key in ("vm", "uuid", "label", "ek")}))
    chain = follow(
        world.verifier, quoted_by(world, attester_id(known.ak), quote), host.evidence(),
        label="a-desk")
    assert chain.broken == ()
    assert (chain.vm, chain.label, chain.ek) == ("a-desk", "a-desk", told["ek"])


def test_what_serves_is_killed_and_the_guest_gets_errors(lab: Lab) -> None:
    guest = Guest(lab)
    assert lab.run(["pkill", "-KILL", "swtpm"]).code == 0
    code, text, _ = guest.shype("attest", "ek", "--id", *TPM)
    assert code == 3, text
    assert "[tpm." in text
    lab.run(["shype", "recover"])
    told = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert [tpm["state"] for tpm in told] == ["lost"]
    assert lab.run(["xl", "list", "a-desk"]).code == 0


def test_another_label_does_not_get_the_tpm_and_the_vm_gets_it_again(lab: Lab) -> None:
    before, = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert lab.run(["shype", "stop", "a-desk", "--force"], 120).code == 0
    told = lab.run(["shype", "audit", "show", "--json"]).out
    assert told.count('"vtpm.lost"') >= 1
    refused = lab.run(["shype", "run", "--json", "/etc/xen/vms/toy.cfg"], 120)
    assert refused.code == 1
    assert json.loads(refused.out)["decision"]["id"] == "vtpm.owner"
    again = lab.run(["shype", "run", "/etc/xen/vms/a-desk.cfg"], 180)
    assert again.code == 0, again.err
    now, = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert (now["ek"], now["state"]) == (before["ek"], "served")
    assert lab.run(["shype", "stop", "a-desk", "--force"], 120).code == 0
    assert lab.run(["pgrep", "swtpm"]).code == 1

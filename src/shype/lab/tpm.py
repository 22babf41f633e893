"""A machine's TPM 2.0: swtpm, one process for one QEMU."""

from __future__ import annotations

import time
from pathlib import Path

from shype.base.errors import Unavailable
from shype.lab import spawn

#: In the lab's directory: where QEMU finds it, and what it keeps.
SOCKET, STATE, LOG = "tpm.sock", "tpm", "swtpm.log"


def start(directory: Path) -> None:
    """Start the TPM of the machine in ``directory``, new unless there is a `STATE` already.

    A reset of the machine resets the TPM's PCRs and keeps its keys. The process ends with QEMU,
    whose connection it serves, or with this process before there is one.
    Raises Unavailable (``tool.missing``, ``lab.no-tpm``).
    """
    (directory / STATE).mkdir(mode=0o700, exist_ok=True)
    process = spawn.start(
        ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={STATE}", "--ctrl",
         f"type=unixio,path={SOCKET}", "--flags", "startup-clear", "--terminate"],
        cwd=directory, log=directory / LOG, with_parent=True)
    deadline = time.monotonic() + 10
    while not (directory / SOCKET).exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = (directory / LOG).read_text(errors="replace").strip()
            raise Unavailable("lab.no-tpm", f"swtpm does not start: {said or process.poll()}")
        time.sleep(0.01)

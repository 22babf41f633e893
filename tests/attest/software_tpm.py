"""A software TPM for tests: swtpm, a process of its own, on two ports of this machine.

`make setup` installs it. Stopping and starting it is what a reboot is to a TPM.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.attest.tpm import Tpm


class SoftwareTpm:
    """One TPM with its state in a directory; `name` is its TCTI string."""

    def __init__(self, state: Path) -> None:
        self._state = state
        state.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def name(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self._port}"

    def start(self) -> None:
        """Power on. The kernel kills it with the test that started it."""
        for _ in range(20):
            self._port = two_free_ports()
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "swtpm", "socket", "--tpm2",
                 "--tpmstate", f"dir={self._state}",
                 "--server", f"type=tcp,port={self._port},bindaddr=127.0.0.1",
                 "--ctrl", f"type=tcp,port={self._port + 1},bindaddr=127.0.0.1",
                 "--flags", "not-need-init,startup-clear"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 20
            while self._process.poll() is None and time.monotonic() < deadline:
                # the control port: a connection to the other would count as the one it serves
                with contextlib.suppress(OSError), socket.create_connection(
                        ("127.0.0.1", self._port + 1), 1):
                    return
                time.sleep(0.02)
            self.stop()  # somebody else took the port meanwhile
        raise AssertionError("swtpm does not start")

    def stop(self) -> None:
        """Power off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def reboot(self) -> None:
        """Registers are empty again, and the TPM has counted it."""
        self.stop()
        self.start()

    def open(self) -> Tpm:
        return Tpm(self.name)


def two_free_ports() -> int:
    """A port that is free and whose next is too: tss2 takes the next for control."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + 1))
                return port
    raise AssertionError("no two ports are free")


@contextlib.contextmanager
def software_tpm(state: Path) -> Iterator[SoftwareTpm]:
    """A running TPM. Without swtpm the test is skipped, but never in CI or after `make setup`."""
    if shutil.which("swtpm") is None:
        if os.environ.get("CI"):
            pytest.fail("swtpm is not installed: apt-get install swtpm")
        pytest.skip("swtpm is not installed: apt-get install swtpm (`make setup` does)")
    tpm = SoftwareTpm(state)
    tpm.start()
    try:
        yield tpm
    finally:
        tpm.stop()

"""The guest's program: between a console and the kernel, with a real swtpm at the other end."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import struct
import subprocess
import sys
import threading
import tty
from collections.abc import Iterator

import pytest

from shype.host.vtpm import relay
from tests.host.vtpm.desks import Desk, guest, run
from tests.host.vtpm.test_serving import RANDOM

FAILURE = struct.pack(">HII", 0x8001, 10, 0x101)


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    """A terminal as the guest's console is one, and what is behind it."""
    behind, console = pty.openpty()
    tty.setraw(console)
    yield console, behind
    for handle in (behind, console):
        os.close(handle)


class Kernel:
    """What tpm_vtpm_proxy is to the program: messages, whole as they are written."""

    def __init__(self) -> None:
        self.kernel, self._file = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.settimeout(30)

    @property
    def device(self) -> int:
        return self._file.fileno()

    def ask(self, command: bytes) -> bytes:
        self.kernel.send(command)
        return self.kernel.recv(4096)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.kernel.close()


def served(kernel: Kernel, line: int, patience: float = 30) -> threading.Thread:
    thread = threading.Thread(
        target=relay.serve, args=(kernel.device, lambda c: relay.exchange(line, c, patience)))
    thread.start()
    return thread


def pump(terminal: int, tpm: socket.socket) -> None:
    """The hypervisor's console and the device model: bytes, in whatever pieces."""
    def there() -> None:
        with contextlib.suppress(OSError):
            while True:
                tpm.sendall(os.read(terminal, 7))

    def back() -> None:
        with contextlib.suppress(OSError):
            while data := tpm.recv(5):
                os.write(terminal, data)

    for one in (there, back):
        threading.Thread(target=one, daemon=True).start()


def test_commands_reach_the_tpm_and_answers_the_kernel(
    desk: Desk, line: tuple[int, int], kernel: Kernel
) -> None:
    run(desk)
    with guest(desk[1]) as tpm:
        pump(line[1], tpm)
        thread = served(kernel, line[0])
        answers = {kernel.ask(RANDOM) for _ in range(20)}
        assert {len(answer) for answer in answers} == {20}
        assert len(answers) == 20
        kernel.kernel.close()
        thread.join(10)
        assert not thread.is_alive()


def test_setting_the_locality_is_the_program_s_own_matter(
    line: tuple[int, int], kernel: Kernel
) -> None:
    thread = served(kernel, line[0])
    command = struct.pack(">HIIB", 0x8001, 11, 0x20001000, 0)
    assert kernel.ask(command) == struct.pack(">HII", 0x8001, 10, 0)
    kernel.kernel.close()
    thread.join(10)


def test_a_tpm_that_is_silent_fails_for_good(
    line: tuple[int, int], kernel: Kernel, capfd: pytest.CaptureFixture[str]
) -> None:
    thread = served(kernel, line[0], patience=0.1)
    assert kernel.ask(RANDOM) == FAILURE
    os.write(line[1], b"\x80\x01" + struct.pack(">II", 20, 0) + bytes(10))  # too late
    assert kernel.ask(RANDOM) == FAILURE
    kernel.kernel.close()
    thread.join(10)
    assert capfd.readouterr().err.count("serves this TPM no more") == 1


@pytest.mark.parametrize("size", [0, 9, 4097, 2**32 - 1])
def test_what_is_no_response_fails(line: tuple[int, int], kernel: Kernel, size: int) -> None:
    thread = served(kernel, line[0])
    os.write(line[1], struct.pack(">HII", 0x8001, size, 0))
    assert kernel.ask(RANDOM) == FAILURE
    kernel.kernel.close()
    thread.join(10)


def test_what_an_earlier_program_was_answered_is_thrown_away(line: tuple[int, int]) -> None:
    os.write(line[1], bytes(3000))
    relay.silence(line[0])
    os.write(line[1], b"now")
    assert os.read(line[0], 100) == b"now"


def test_the_file_alone_is_enough() -> None:
    """Where there is no console it says so, without anything of shype."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         f"import runpy; m = runpy.run_path({relay.__file__!r}); "
         "m['find_console'].__defaults__ = (0.0,); m['find_console']()"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"no console named {relay.NAME}" in done.stderr


def test_the_console_has_one_name() -> None:
    from shype.host.drivers.config import TPM_CHANNEL

    assert relay.NAME == TPM_CHANNEL

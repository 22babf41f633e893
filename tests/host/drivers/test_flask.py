"""The FLASK hypercall, against a hypervisor side that reads the structures at their C offsets."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.drivers.xen import flask
from shype.host.drivers.xen.flask import Flask


class Xen:
    """xen_flask_op as xen/xsm/flask/flask_op.c handles it: offsets from the public header."""

    def __init__(self, booleans: dict[str, bool], enforcing: bool = True) -> None:
        self.booleans, self.pending = dict(booleans), dict(booleans)
        self.enforcing, self.commits, self.error = enforcing, 0, 0
        self.ignores: set[str] = set()

    def __call__(self, address: int) -> int:
        if self.error:
            raise OSError(self.error, "refused")
        command, version = struct.unpack("=2I", ctypes.string_at(address, 8))
        assert version == 1
        if command == 2:
            return int(self.enforcing)
        if command == 13:
            self.commits += 1
            kept = {name: self.booleans[name] for name in self.ignores}
            self.booleans = {**self.pending, **kept}
            return 0
        number, new, commit, size, pointer = (
            self.u32(address + 8), self.u8(address + 14), self.u8(address + 15),
            self.u32(address + 16), struct.unpack("=Q", ctypes.string_at(address + 24, 8))[0],
        )
        assert number == 0xFFFFFFFF
        assert address & 4095 == 0
        name = ctypes.string_at(pointer, size).decode()
        if name not in self.booleans:
            raise OSError(errno.ENOENT, "No such file or directory")
        if command == 12:
            assert commit == 0
            self.pending[name] = bool(new)
        else:
            assert command == 11
        ctypes.memmove(address + 12, bytes([self.booleans[name], self.pending[name]]), 2)
        return 0

    @staticmethod
    def u8(address: int) -> int:
        return ctypes.string_at(address, 1)[0]

    @staticmethod
    def u32(address: int) -> int:
        value: int = struct.unpack("=I", ctypes.string_at(address, 4))[0]
        return value


def test_booleans_are_read_and_set_in_one_commit() -> None:
    xen = Xen({"win_en": False, "run_a": True, "policy_" + "f" * 64: False})
    driver = Flask(xen)
    assert driver.boolean("run_a") is True
    assert driver.boolean("win_en") is False
    assert driver.boolean("policy_" + "f" * 64) is False
    assert driver.boolean("policy_" + "0" * 64) is None
    assert driver.boolean("x" * 5000) is None
    driver.set_booleans({"win_en": True, "run_a": False})
    assert (xen.commits, xen.booleans["win_en"], xen.booleans["run_a"]) == (1, True, False)


def test_a_boolean_that_does_not_take_the_value_is_noticed() -> None:
    xen = Xen({"win_en": True})
    xen.ignores = {"win_en"}
    with pytest.raises(Unavailable, match="win_en"):
        Flask(xen).set_booleans({"win_en": False})


def test_an_unknown_boolean_commits_nothing() -> None:
    xen = Xen({"win_en": False})
    with pytest.raises(Unavailable):
        Flask(xen).set_booleans({"win_en": True, "other": True})
    assert xen.commits == 0
    assert xen.booleans == {"win_en": False}


@pytest.mark.parametrize(("enforcing", "error", "expected"), [
    (True, 0, True), (False, 0, False), (True, errno.ENOSYS, None),
])
def test_enforcement(enforcing: bool, error: int, expected: bool | None) -> None:
    xen = Xen({}, enforcing)
    xen.error = error
    assert Flask(xen).enforcing() is expected


def test_a_refusal_is_an_error_and_not_an_answer() -> None:
    xen = Xen({"win_en": True})
    xen.error = errno.EACCES
    asked: tuple[Callable[[], object], ...] = (
        lambda: Flask(xen).boolean("win_en"), Flask(xen).enforcing,
        lambda: Flask(xen).set_booleans({"win_en": False}),
    )
    for ask in asked:
        with pytest.raises(Unavailable) as caught:
            ask()
        assert caught.value.id == "host.flask"


def test_without_xen_there_is_no_flask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flask, "PRIVCMD", Path("/nonexistent/privcmd"))
    assert Flask().enforcing() is None
    with pytest.raises(Unavailable) as caught:
        Flask().boolean("win_en")
    assert caught.value.id == "host.no-flask"


def test_the_ioctl_number_is_linux() -> None:
    """_IOC(_IOC_NONE, 'P', 0, 48) of include/uapi/xen/privcmd.h."""
    assert flask.IOCTL_HYPERCALL == 0x305000

"""FLASK's questions, against a hypervisor side that reads the structures at their C offsets."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.drivers.xen import access
from shype.host.drivers.xen.access import Questions

CONTEXTS = {"u:r:a_t:s0": 21, "u:r:b_t:s0-s1:c0": 22}


class Xen:
    """xen_flask_op for commands 4 to 7, as xen/xsm/flask/flask_op.c has it."""

    def __init__(self) -> None:
        self.error = 0
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, address: int) -> int:
        if self.error:
            raise OSError(self.error, "refused")
        assert address & 4095 == 0
        command, version = self._words(address, 2)
        assert version == 1
        {4: self._to_sid, 5: self._to_context, 6: self._vector, 7: self._new}[command](address)
        return 0

    def _to_sid(self, address: int) -> None:
        size, = self._words(address + 12, 1)
        pointer, = struct.unpack("=Q", ctypes.string_at(address + 16, 8))
        name = ctypes.string_at(pointer, size).decode()
        self.calls.append((4, size))
        if name not in CONTEXTS:
            raise OSError(errno.EINVAL, "Invalid argument")
        self._put(address + 8, CONTEXTS[name])

    def _to_context(self, address: int) -> None:
        sid, size = self._words(address + 8, 2)
        pointer, = struct.unpack("=Q", ctypes.string_at(address + 16, 8))
        text = next(name for name, number in CONTEXTS.items() if number == sid).encode() + b"\0"
        self.calls.append((5, sid))
        assert size == 4096
        ctypes.memmove(pointer, text, len(text))
        self._put(address + 12, len(text))

    def _vector(self, address: int) -> None:
        source, target, cls, wanted = self._words(address + 8, 4)
        assert wanted == 0
        self.calls.append((6, source, target, cls))
        for i, value in enumerate((source << 16 | target << 8 | cls, 0xAAAA, 0xBBBB, 7)):
            self._put(address + 24 + 4 * i, value)

    def _new(self, address: int) -> None:
        self.calls.append((7, *self._words(address + 8, 3)))
        self._put(address + 20, 22)

    @staticmethod
    def _words(address: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"={count}I", ctypes.string_at(address, 4 * count))

    @staticmethod
    def _put(address: int, value: int) -> None:
        ctypes.memmove(address, struct.pack("=I", value), 4)


def test_questions_and_answers_are_where_the_header_has_them() -> None:
    xen = Xen()
    with Questions(xen) as asked:
        assert asked.sid("u:r:a_t:s0") == 21
        assert asked.sid("u:r:b_t:s0-s1:c0") == 22
        assert asked.context(22) == "u:r:b_t:s0-s1:c0"
        assert asked.allowed(21, 22, 9) == 21 << 16 | 22 << 8 | 9
        assert asked.sequence == 7
        assert asked.created(21, 22, 8) == 22
    assert xen.calls == [(4, 10), (4, 16), (5, 22), (6, 21, 22, 9), (7, 21, 22, 8)]


def test_a_context_is_looked_up_once() -> None:
    xen = Xen()
    with Questions(xen) as asked:
        assert {asked.sid("u:r:a_t:s0") for _ in range(3)} == {21}
        assert {asked.context(21) for _ in range(3)} == {"u:r:a_t:s0"}
    assert len(xen.calls) == 2


def test_a_context_that_is_not_there_is_an_answer() -> None:
    with Questions(Xen()) as asked:
        assert asked.sid("u:r:c_t:s0") is None
        assert asked.sid("x" * 5000) is None


@pytest.mark.parametrize(("error", "id"), [
    (errno.EACCES, "host.flask"), (errno.EPERM, "host.flask"), (errno.ENOSYS, "host.no-flask"),
])
def test_a_refusal_is_an_error_and_not_an_answer(error: int, id: str) -> None:
    xen = Xen()
    xen.error = error
    with Questions(xen) as asked:
        questions: tuple[Callable[[], object], ...] = (
            lambda: asked.sid("u:r:a_t:s0"), lambda: asked.context(21),
            lambda: asked.allowed(1, 2, 3), lambda: asked.created(1, 2, 3),
        )
        for ask in questions:
            with pytest.raises(Unavailable) as caught:
                ask()
            assert caught.value.id == id
            assert "compute_av" in caught.value.fix or id == "host.no-flask"


def test_without_xen_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PRIVCMD", Path("/nonexistent/privcmd"))
    with pytest.raises(Unavailable) as caught:
        Questions()
    assert caught.value.id == "host.no-flask"

"""The client library of object managers, against a hypervisor that refuses, lies and changes."""

from __future__ import annotations

import ast
import ctypes
import errno
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shype.host import object_manager
from shype.host.object_manager import Access, Id, Monitor, Peer, Unanswered

RED, BLUE = "u:r:l_red_t:s0", "u:r:l_blue_t:s0"
PAGE = Path(__file__).parents[2] / "docs/reference/object-manager.md"


@dataclass
class Xen:
    """FLASK's four questions, on the bytes that the guest hands over."""

    contexts: dict[str, int] = field(default_factory=lambda: {RED: 30, BLUE: 31})
    peers: dict[int, int] = field(default_factory=lambda: {7: 30, 8: 31})
    allowed: dict[tuple[int, int], int] = field(default_factory=lambda: {(30, 30): 3, (31, 31): 1})
    release: tuple[int, int] = (4, 17)
    refuse: dict[int, int] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)

    def __call__(self, number: int, argument: int) -> int:
        if number == 17:
            return self.release[0] << 16 | self.release[1]
        assert number == 27
        command, version = struct.unpack("=2I", ctypes.string_at(argument, 8))
        assert version == 1
        self.asked.append(command)
        if command in self.refuse:
            raise OSError(self.refuse[command], "refused")
        body = argument + 8
        handlers: dict[int, Callable[[int], None]] = {
            4: self._to_sid, 5: self._to_context, 6: self._access, 23: self._peer}
        handlers[command](body)
        return 0

    def _to_sid(self, body: int) -> None:
        _, size, address = struct.unpack("=2IQ", ctypes.string_at(body, 16))
        sid = self.contexts.get(ctypes.string_at(address, size).decode())
        if sid is None:
            raise OSError(errno.EINVAL, "no such context")
        ctypes.memmove(body, struct.pack("=I", sid), 4)

    def _to_context(self, body: int) -> None:
        sid, _, address = struct.unpack("=2IQ", ctypes.string_at(body, 16))
        text = next(text for text, number in self.contexts.items() if number == sid).encode()
        ctypes.memmove(address, text + b"\0", len(text) + 1)

    def _access(self, body: int) -> None:
        source, target, cls = struct.unpack("=3I", ctypes.string_at(body, 12))
        assert cls == 14
        found = struct.pack("=4I", self.allowed.get((source, target), 0), 0, 0, 5)
        ctypes.memmove(body + 16, found, 16)

    def _peer(self, body: int) -> None:
        (port,) = struct.unpack("=I", ctypes.string_at(body, 4))
        if port not in self.peers:
            raise OSError(errno.EINVAL, "not connected")
        ctypes.memmove(body + 4, struct.pack("=I", self.peers[port]), 4)


def test_the_peer_is_who_the_hypervisor_says() -> None:
    monitor = Monitor(Xen())
    assert monitor.peer(7) == Peer(7, 30, RED)
    for port in (9, 0, -1, 1 << 40):
        with pytest.raises(Unanswered) as caught:
            monitor.peer(port)
        assert caught.value.id is Id.NO_PEER


def test_decisions_are_the_hypervisors() -> None:
    monitor = Monitor(Xen())
    red, blue = monitor.peer(7), monitor.peer(8)
    answer = monitor.decide(red, RED, Access.READ | Access.WRITE)
    assert (answer.id, answer.permitted, answer.sequence) == (Id.PERMITTED, True, 5)
    denied = monitor.decide(red, BLUE, Access.READ)
    assert (denied.id, denied.permitted) == (Id.DENIED, False)
    assert denied.reason == f"{RED} may not read what is labelled {BLUE}"
    both = monitor.decide(blue, BLUE, Access.READ | Access.WRITE)
    assert both.reason == f"{BLUE} may not write what is labelled {BLUE}"


def test_nothing_is_kept_between_questions() -> None:
    xen = Xen()
    monitor = Monitor(xen)
    red = monitor.peer(7)
    assert monitor.decide(red, RED, Access.READ).permitted
    xen.allowed.clear()
    assert monitor.decide(red, RED, Access.READ).id is Id.DENIED
    del xen.contexts[RED]
    assert monitor.decide(red, RED, Access.READ).id is Id.UNKNOWN_LABEL
    assert xen.asked.count(23) == 4


def test_another_domain_at_the_same_port_is_not_the_peer() -> None:
    xen = Xen()
    monitor = Monitor(xen)
    red = monitor.peer(7)
    del xen.peers[7]
    assert monitor.decide(red, RED, Access.READ).id is Id.NO_PEER
    xen.peers[7] = 31  # the domid was given again, and the newcomer has bound the port
    assert monitor.decide(red, RED, Access.READ).id is Id.OTHER_PEER
    assert monitor.decide(red, BLUE, Access.READ).id is Id.OTHER_PEER


@pytest.mark.parametrize("command", [4, 5, 6, 23])
@pytest.mark.parametrize("error", [errno.EACCES, errno.ENOSYS, errno.EFAULT, errno.EPERM])
def test_whatever_cannot_be_asked_is_refused(command: int, error: int) -> None:
    xen = Xen()
    monitor = Monitor(xen)
    red = monitor.peer(7)
    xen.refuse = {command: error}
    if command in (5, 23):
        with pytest.raises(Unanswered) as caught:
            monitor.peer(7)
        assert caught.value.id is Id.NOT_ASKED
    if command != 5:
        assert monitor.decide(red, RED, Access.READ).id is Id.NOT_ASKED


@pytest.mark.parametrize("context", ["", "u:r:l_red_t:s0\0", "x" * 5000, "u:r:l_r\u00e9d_t:s0"])
def test_a_context_that_is_none_is_refused(context: str) -> None:
    monitor = Monitor(Xen())
    assert not monitor.decide(monitor.peer(7), context, Access.READ).permitted


@pytest.mark.parametrize("access", [Access(0), Access(4), Access(7)])
def test_no_access_and_unknown_access_are_refused(access: Access) -> None:
    monitor = Monitor(Xen())
    assert monitor.decide(monitor.peer(7), RED, access).id is Id.NOT_ASKED


@pytest.mark.parametrize("release", [(4, 16), (4, 23), (5, 0)])
def test_a_release_whose_classes_are_not_known_is_refused(release: tuple[int, int]) -> None:
    xen = Xen()
    red = Monitor(xen).peer(7)
    xen.release = release
    assert Monitor(xen).decide(red, RED, Access.READ).id is Id.NOT_ASKED
    with pytest.raises(Unanswered):
        Monitor(xen).peer(7)


def test_without_xen_nothing_is_permitted() -> None:
    if not Path("/dev/xen/privcmd").exists():
        assert Monitor().decide(Peer(7, 30, RED), RED, Access.READ).id is Id.NOT_ASKED


def test_the_file_can_be_copied_alone() -> None:
    tree = ast.parse(Path(object_manager.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import)
             for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_page_has_every_id() -> None:
    assert {*re.findall(r"^\| `(object\.[a-z-]+)`", PAGE.read_text(), re.MULTILINE)} == {*Id}

"""The wire protocol, against a daemon of its own."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.store import client
from shype.host.store.client import Client
from shype.host.store.store import Acl, StoreError
from tests.host.store.daemon import daemon

DIRECTORY, READ, PERMS, WRITE, RM, SET, EVENT, ERROR, PART = 1, 2, 3, 11, 13, 14, 15, 16, 22


class Tree:
    """A store of `paths`, each owned by domain 0; ``/long`` has more children than one answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, bytes]] = []
        self.long = [f"child-{n:04d}-{'x' * 20}" for n in range(300)]
        self.children = {"/": ["a", "long"], "/a": ["b", "gone"], "/a/b": [], "/long": self.long}

    def __call__(self, kind: int, payload: bytes) -> tuple[int, bytes]:
        self.asked.append((kind, payload))
        words = payload.split(b"\0")
        path = words[0].decode()
        if kind in (WRITE, SET):
            return kind, b"OK\0"
        known = path in self.children or path.startswith("/long/")
        if not known:
            return ERROR, b"ENOENT\0"
        if kind == READ:
            return READ, b"value\0of " + path.encode()
        if kind == PERMS:
            return PERMS, b"n0\0r3\0"
        listed = b"".join(name.encode() + b"\0" for name in self.children.get(path, ()))
        if kind == DIRECTORY:
            return (ERROR, b"E2BIG\0") if len(listed) > 4096 else (DIRECTORY, listed)
        if kind == PART:
            at = int(words[1])
            part = listed[at : at + 3000]
            if at + len(part) < len(listed):
                part = part[: part.rindex(b"\0") + 1]
            else:
                part += b"\0"
            return PART, b"77\0" + part
        return ERROR, b"EINVAL\0"


def test_requests_and_answers(tmp_path: Path) -> None:
    tree = Tree()
    event = struct.pack("<4I", EVENT, 0, 0, 6) + b"/a\0tk\0"  # comes unasked
    with daemon(tmp_path, tree, before=event) as path, Client(path) as client:
        assert client.read("/a/b") == b"value\0of /a/b"
        assert client.acl("/a") == Acl(0, "n", ((3, "r"),))
        client.write("/a", b"x\0y")
        client.set_acl("/a", Acl(4, "n", ((5, "b"),)))
        client.remove("/not-there")
        with pytest.raises(StoreError) as caught:
            client.read("/not-there")
        assert (caught.value.id, caught.value.errno) == ("store.refused", "ENOENT")
    assert (WRITE, b"/a\0x\0y") in tree.asked
    assert (SET, b"/a\0n4\0b5\0") in tree.asked


def test_long_directories_are_put_together(tmp_path: Path) -> None:
    tree = Tree()
    with daemon(tmp_path, tree) as path, Client(path) as client:
        assert client.directory("/long") == tuple(tree.long)
        assert client.listing("/a/b") == ("77", ())
        assert client.listing("/a") == ("77", ("b", "gone"))


def test_all_lists_of_a_tree_in_which_a_node_goes_meanwhile(tmp_path: Path) -> None:
    tree = Tree()
    with daemon(tmp_path, tree) as path, Client(path) as client:
        found = client.acls()
    assert set(found) == {"/", "/a", "/a/b", "/long", *(f"/long/{name}" for name in tree.long)}
    assert set(found.values()) == {Acl(0, "n", ((3, "r"),))}


@pytest.mark.parametrize(("answer", "id"), [
    ((-1, b""), "host.no-xenstore"), ((READ, b"n0\0"), "store.answer"),
    ((PERMS, b""), "store.answer"), ((PERMS, b"n0\0x1\0"), "store.answer"),
    ((PERMS, b"n0\0r123456\0"), "store.answer"), ((ERROR, b"EACCES\0"), "store.refused"),
])
def test_odd_answers_are_errors(tmp_path: Path, answer: tuple[int, bytes], id: str) -> None:
    with daemon(tmp_path, lambda kind, payload: answer) as path, Client(path) as client, \
            pytest.raises(Unavailable) as caught:
        client.acl("/a")
    assert caught.value.id == id


def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        Client(tmp_path / "socket")
    assert caught.value.id == "host.no-xenstore"


def test_a_daemon_that_is_gone_is_seen_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "socket"
    monkeypatch.setattr(client, "SOCKETS", (place, tmp_path / "old"))
    client.require_listener()  # no socket at all: the daemon is in another domain
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        client.require_listener()
    with pytest.raises(Unavailable) as caught:
        client.require_listener()
    assert caught.value.id == "host.no-xenstore"

"""dom0's end of the manager's console, against a terminal with somebody behind it."""

from __future__ import annotations

import json
import os
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.manager.link import Link, RefusedByManager

#: Answers a request, or says nothing.
Manager = Callable[[bytes], bytes]


@contextmanager
def behind(manager: Manager) -> Iterator[Path]:
    """A terminal whose other end is ``manager``."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)

    def answer() -> None:
        heard = b""
        while True:
            try:
                heard += os.read(ours, 4096)
            except OSError:
                return
            *lines, heard = heard.split(b"\n")
            for line in filter(None, lines):
                os.write(ours, manager(line))

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield Path(os.ttyname(theirs))
    finally:
        os.close(theirs)
        thread.join(10)
        os.close(ours)


def echo(line: bytes) -> bytes:
    """A manager that talks besides, as a kernel does."""
    id_ = json.loads(line)["id"]
    return b"[ 1.0] kernel\n" + json.dumps({"id": "another"}).encode() + b"\n" + json.dumps(
        {"id": id_, "heard": json.loads(line)["op"]}).encode() + b"\n"


def test_an_answer_is_found_among_other_words(tmp_path: Path) -> None:
    with behind(echo) as terminal:
        assert Link(lambda: terminal, tmp_path).ask(op="status")["heard"] == "status"


def test_a_refusal_has_the_managers_id(tmp_path: Path) -> None:
    def refuse(line: bytes) -> bytes:
        return json.dumps({"id": json.loads(line)["id"], "error": "wall.conflict",
                           "message": "no"}).encode() + b"\n"

    with behind(refuse) as terminal, pytest.raises(RefusedByManager) as caught:
        Link(lambda: terminal, tmp_path).ask(op="set")
    assert (caught.value.id, caught.value.exit_code) == ("wall.conflict", 1)


@pytest.mark.parametrize("says", [b"", b"nonsense\n", b"[1]\n", b'{"id": null}\n', b"x" * 9000])
def test_silence_ends(tmp_path: Path, says: bytes) -> None:
    with behind(lambda line: says) as terminal, pytest.raises(
        Unavailable, match=r"manager\.silent"
    ):
        Link(lambda: terminal, tmp_path).ask(0.3, op="status")


def test_no_terminal(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"manager\.silent"):
        Link(lambda: tmp_path / "none", tmp_path).ask(op="status")

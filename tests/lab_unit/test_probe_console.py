"""Talking to a probe over a console that other things are printed on."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.lab.dom0.console import Answer, AnswerReader, Damaged, LogChannel, PtyChannel, read_line
from shype.lab.dom0.guestctl import Guest, request


def answer(ident: int, op: str = "ping", result: str = "ok", **members: object) -> bytes:
    """An answer as the probe writes it."""
    head = {"id": ident, "op": op, "result": result, **members}
    body = json.dumps(head, separators=(",", ":"))[:-1].encode()
    return body + f',"crc":"{zlib.crc32(body):08x}"}}\n'.encode()


def test_reads_answers_that_come_byte_by_byte_among_kernel_messages() -> None:
    stream = b"[ 1.2] xen: hi\r\n" + answer(1) + b"[ 1.3] begun\n" + answer(2, text="a b")
    reader = AnswerReader()
    found = [a for i in range(len(stream)) for a in reader.feed(stream[i : i + 1])]
    assert [(a.id, type(a)) for a in found] == [(1, Answer), (2, Answer)]
    assert isinstance(found[1], Answer)
    assert found[1].text("text") == "a b"
    assert found[1].number("text") == -1
    assert found[1].number("none") == -1


def test_reads_an_answer_behind_a_message_without_a_newline() -> None:
    line = (b"[ 3.1] half a line" + answer(5)).rstrip(b"\n") + b"\r"
    assert [a.id for a in read_line(line)] == [5]


@pytest.mark.parametrize("cut", range(12, len(answer(77, text="hello")) - 2))
def test_any_damage_is_noticed(cut: int) -> None:
    whole = answer(77, text="hello").rstrip(b"\n")
    changed = bytes([whole[cut] ^ 1])
    for broken in (whole[:cut] + changed + whole[cut + 1 :], whole[:cut] + whole[cut + 1 :],
                   whole[:cut], whole[:cut] + b"[ 9.9] kernel" + whole[cut:]):
        assert not any(isinstance(a, Answer) for a in read_line(broken)), broken


def test_damaged_answer_keeps_its_id() -> None:
    assert list(read_line(b'{"id":77,"op":"ping","res[ 9.9] kernel')) == [Damaged(77)]


def test_other_lines_are_no_answers() -> None:
    assert list(read_line(b'{"idea":1}')) == []
    assert list(read_line(b"")) == []


def test_request_encodes_blanks_and_percent_signs() -> None:
    assert request(4, "grant_offer", [2, "ro", "a b%c\n\xe9"]) == (
        b"4 grant_offer 2 ro a%20b%25c%0A%C3%A9\n"
    )


@pytest.mark.parametrize("args", [[""], ["x" * 1000]])
def test_request_refuses_what_the_probe_could_not_read(args: list[str]) -> None:
    with pytest.raises(BadInput, match=r"probe\.argument"):
        request(4, "grant_offer", args)


Reaction = Callable[[int, list[str]], list[bytes]]


@contextlib.contextmanager
def console(tmp_path: Path, react: Reaction, *, log: bool) -> Iterator[tuple[Path, Path]]:
    """A pty whose far end answers as ``react`` says, as xenconsoled and a guest would."""
    master, slave = os.openpty()
    path, logfile = Path(os.ttyname(slave)), tmp_path / "guest-x.log"
    logfile.write_bytes(answer(1, "hello"))  # of an earlier life: must not be read

    def far_end() -> None:
        buffer = b""
        with contextlib.suppress(OSError, ValueError):
            while data := os.read(master, 4096):
                *lines, buffer = (buffer + data).replace(b"\r", b"").split(b"\n")
                for line in lines:
                    words = line.decode().split()
                    for chunk in react(int(words[0]), words[1:]):
                        if log:
                            with logfile.open("ab") as sink:
                                sink.write(chunk)
                        else:
                            os.write(master, chunk)

    import tty

    tty.setraw(slave)
    thread = threading.Thread(target=far_end, daemon=True)
    thread.start()
    try:
        yield path, logfile
    finally:
        os.close(slave)  # the far end's read then fails with EIO
        thread.join(5)
        os.close(master)


@pytest.mark.parametrize("log", [True, False])
def test_ask_finds_its_answer_among_others(tmp_path: Path, log: bool) -> None:
    def react(ident: int, words: list[str]) -> list[bytes]:
        whole = answer(ident, words[0], arguments=words[1])
        return [b"[ 5.0] xvda: unknown\r\n", answer(ident - 1), whole[:9], whole[9:]]

    with console(tmp_path, react, log=log) as (pty, logfile):
        channel = LogChannel(pty, logfile) if log else PtyChannel(pty)
        guest = Guest(3, "x", channel)
        assert guest.ask("first", "a b", timeout=5).text("arguments") == "a%20b"
        assert guest.ask("second", 17, timeout=5).op == "second"
        guest.close()


def test_ask_again_when_the_answer_is_damaged_or_lost(tmp_path: Path) -> None:
    seen: list[int] = []

    def react(ident: int, words: list[str]) -> list[bytes]:
        seen.append(ident)
        whole = answer(ident, words[0])
        return [[whole[:20] + b"[ 6.6] printk" + whole[20:]], [], [whole]][len(seen) - 1]

    with console(tmp_path, react, log=True) as (pty, logfile):
        guest = Guest(3, "x", LogChannel(pty, logfile))
        assert guest.ask("ping", timeout=10, again=0.3).ok
        guest.close()
    assert len(seen) == 3
    assert len(set(seen)) == 1


def test_silence_is_an_error_that_says_where_to_look(tmp_path: Path) -> None:
    with console(tmp_path, lambda ident, words: [], log=True) as (pty, logfile):
        guest = Guest(3, "x", LogChannel(pty, logfile), "guest-x.log")
        began = time.monotonic()
        with pytest.raises(Unavailable, match=r"x \(domain 3\).*'ping'.*0.4 s.*guest\.silent") as e:
            guest.ask("ping", timeout=0.4)
        assert 0.3 < time.monotonic() - began < 3
        assert "guest-x.log" in e.value.fix
        with pytest.raises(Unavailable, match=r"guest\.silent"):
            guest.wait(0.5)
        guest.close()


def test_restart_of_the_probe_is_noticed(tmp_path: Path) -> None:
    def react(ident: int, words: list[str]) -> list[bytes]:
        return [answer(0, "hello"), answer(ident, words[0])]

    with console(tmp_path, react, log=True) as (pty, logfile):
        guest = Guest(3, "x", LogChannel(pty, logfile))
        with pytest.raises(Unavailable, match=r"guest\.restarted"):
            guest.ask("grant_read", 8, timeout=5)
        guest.close()


def test_waiting_survives_the_start_of_the_probe(tmp_path: Path) -> None:
    count = 0

    def react(ident: int, words: list[str]) -> list[bytes]:
        nonlocal count
        count += 1
        return [] if count == 1 else [answer(0, "hello")] if count == 2 else [answer(ident)]

    with console(tmp_path, react, log=True) as (pty, logfile):
        guest = Guest(3, "x", LogChannel(pty, logfile))
        assert guest.wait(10).ok
        guest.close()


def test_a_console_that_goes_away_is_an_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    guest = Guest(3, "x", LogChannel(tmp_path / "gone", log))
    with pytest.raises(Unavailable, match=r"guest\.gone"):
        guest.ask("ping", timeout=1)
    guest.close()

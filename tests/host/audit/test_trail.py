"""Appending: what is on the disk, in which order, and what a full disk does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.audit import writer
from shype.host.audit.event import Event, Result
from shype.host.audit.reader import records
from shype.host.audit.record import following
from shype.host.audit.trail import Trail
from shype.host.audit.verify import verify
from tests.host.audit.builders import FullDisk, checked, event, independent, key, kinds, trail

APPEND = """\
import sys
from pathlib import Path
from shype.host.audit.event import Event, Result
from shype.host.audit.trail import Trail
for number in range(int(sys.argv[2])):
    Trail(Path(sys.argv[1])).record(Event(kind="launch", result=Result.DONE, vm=sys.argv[3],
                                          details={"number": number}))
"""


def test_a_record_has_all_that_fau_gen_asks_for(tmp_path: Path) -> None:
    made = trail(tmp_path, 2)
    body = list(records(made.directory))[1].body
    assert body["time"].endswith("+00:00")
    assert body["host"] == os.uname().nodename
    assert body["actor"]["uid"] == os.getuid()
    assert body["actor"]["pid"] == os.getpid()
    assert (body["kind"], body["result"], body["vm"], body["seq"]) == ("launch", "done", "a-db", 2)


def test_another_verifier_agrees(tmp_path: Path) -> None:
    made = trail(tmp_path, 20)
    assert independent(made.path.read_bytes(), key(made)[1]) == 20
    report = checked(made)
    assert (report.good, report.records, report.notes) == (True, 20, ())


def test_the_key_on_the_host_does_not_verify_what_is_written(tmp_path: Path) -> None:
    made = trail(tmp_path, 5)
    first = key(made)
    head = made.head()
    assert head is not None
    assert head.key not in (first[1], b"")
    # the file has no key but that of the record to come
    data = made.places.head.read_bytes()
    known = first[1]
    for _ in range(5):
        assert known.hex().encode() not in data
        known = following(known)
    assert known.hex().encode() in data


def test_only_root_may_enter(tmp_path: Path) -> None:
    made = trail(tmp_path, 2)
    assert made.directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in made.directory.iterdir())


def test_names_cannot_break_a_line_nor_steer_a_terminal(tmp_path: Path) -> None:
    made = trail(tmp_path)
    hostile = 'x\n{"seq":9}\r\x1b[2J\u2028\ud800","hash":"' + "0" * 64
    made.record(event(vm=hostile))
    assert len(made.path.read_bytes().splitlines()) == 2
    assert made.path.read_bytes().isascii()
    assert b"\x1b" not in made.path.read_bytes()
    assert list(records(made.directory))[1].body["vm"] == hostile
    assert checked(made).good


@pytest.mark.parametrize("details", [
    {"text": "x" * 100_000}, {"list": ["y" * 300] * 1000}, {"deep": {"er": ["z" * 90_000]}},
    {"no json": object()}, {"keys": {str(n): "v" * 400 for n in range(500)}},
])
def test_no_event_is_too_large_or_too_odd(tmp_path: Path, details: dict[str, object]) -> None:
    made = trail(tmp_path)
    made.record(Event(kind="disk.attach", result=Result.DONE, vm="a", details=details))
    assert kinds(made) == ["audit.begin", "disk.attach"]
    assert checked(made).good


def test_processes_that_append_at_once_lose_nothing(tmp_path: Path) -> None:
    made = trail(tmp_path)
    each = 25
    running = [
        subprocess.Popen([sys.executable, "-c", APPEND, str(made.directory), str(each), f"vm{n}"])
        for n in range(4)
    ]
    assert [process.wait(timeout=60) for process in running] == [0] * 4
    report = checked(made)
    assert (report.problems, report.records) == ((), 4 * each + 1)
    found = [(r.body["vm"], r.body["details"]["number"]) for r in records(made.directory)
             if r.body["kind"] == "launch"]
    for n in range(4):
        assert [number for vm, number in found if vm == f"vm{n}"] == list(range(each))


# -- rotation -------------------------------------------------------------------------------------


def test_the_chain_goes_on_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = trail(tmp_path)
    monkeypatch.setattr(writer, "ROTATE_AT", 2000)
    for number in range(20):
        made.record(event(number))
    closed = made.places.closed()
    assert len(closed) > 3
    assert all(path.stat().st_size < 3000 for _, _, path in closed)
    report = checked(made)
    assert (report.problems, report.records) == ((), 21 + len(closed))
    everything = b"".join(p.read_bytes() for _, _, p in closed) + made.path.read_bytes()
    assert independent(everything, key(made)[1]) == report.records


def test_closed_files_may_be_kept_elsewhere(tmp_path: Path) -> None:
    made = trail(tmp_path, 5)
    assert made.rotate() == "audit-000000000001-000000000005.jsonl"
    made.record(event())
    elsewhere = tmp_path / "archive"
    elsewhere.mkdir()
    first, last, file = made.places.closed()[0]
    file.rename(elsewhere / file.name)
    assert [p.what for p in checked(made).problems] == [
        "records 1 to 5 are missing before record 6"]
    assert verify([elsewhere, made.directory], key(made)).good
    assert verify([made.directory], key(made), begin=last + 1).good
    assert made.rotate() is not None
    assert (first, made.rotate()) == (1, "audit-000000000008-000000000008.jsonl")


# -- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 1, 200])
def test_a_full_disk_refuses_what_permits_and_keeps_what_takes_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    made = trail(tmp_path, 3)
    before = made.path.read_bytes()
    disk = FullDisk(monkeypatch, made, room)
    with pytest.raises(Unavailable) as caught:
        made.record(event())
    assert caught.value.id == "audit.unwritable"
    assert made.path.read_bytes() == before
    for number in (10, 11):
        made.record(event(number, deferrable=True))
    assert made.path.read_bytes() == before
    report = checked(made)  # what is in the reserve counts
    assert (report.problems, report.records) == ((), 5)
    disk.full = False
    made.record(event(12))
    assert [r.body["details"].get("number") for r in records(made.directory)][-3:] == [10, 11, 12]
    assert independent(made.path.read_bytes(), key(made)[1]) == 6
    assert checked(made).notes == ()


def test_a_full_reserve_counts_what_it_cannot_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "RESERVE", 2000)
    made = trail(tmp_path, 2)
    disk = FullDisk(monkeypatch, made)
    for number in range(10):
        made.record(event(number, deferrable=True))
    lost = 10 - (checked(made).records - 2)
    assert 0 < lost < 10
    assert any(f"{lost} events were lost" in note for note in checked(made).notes)
    disk.full = False
    made.record(event())
    assert kinds(made)[-2:] == ["audit.lost", "launch"]
    assert list(records(made.directory))[-2].body["details"] == {"events": lost}
    assert checked(made).good


# -- a trail that is not as it was left -----------------------------------------------------------


def damage_cut(made: Trail) -> None:
    os.truncate(made.path, made.path.stat().st_size - 1)


def damage_gone(made: Trail) -> None:
    for path in made.directory.iterdir():
        path.unlink()


def damage_headless(made: Trail) -> None:
    made.places.head.unlink()
    made.places.anchor.unlink()


def damage_head(made: Trail) -> None:
    made.places.head.write_bytes(b"\0" * 8192)


@pytest.mark.parametrize("damage", [damage_cut, damage_gone, damage_headless, damage_head],
                         ids=lambda damage: damage.__name__)
def test_nothing_is_permitted_on_a_broken_trail_until_a_new_one_begins(
    tmp_path: Path, damage: object
) -> None:
    made = trail(tmp_path, 4)
    assert callable(damage)
    damage(made)
    with pytest.raises(Unavailable) as caught:
        made.record(event(1))
    assert caught.value.id == "audit.broken"
    assert "shype audit begin" in caught.value.fix
    made.record(event(2, deferrable=True))
    kept = json.loads(made.places.unchained.read_text())
    assert kept["details"] == {"number": 2}
    old = made.begin("after the test")
    assert old == made.directory / "old-1"
    assert (old / "unchained.jsonl").exists()
    made.record(event(3))
    assert kinds(made) == ["audit.begin", "launch"]
    assert checked(made).problems == ()
    first = next(records(made.directory)).body
    assert first["message"] == "after the test"
    assert first["details"]["set_aside"] == "old-1"


def test_an_old_copy_of_the_directory_alone_is_found_at_once(tmp_path: Path) -> None:
    made = trail(tmp_path, 3)
    copy = {path: path.read_bytes() for path in made.directory.iterdir()}
    made.record(event())
    for path, data in copy.items():
        path.write_bytes(data)
    with pytest.raises(Unavailable, match="ends with record 3, and had record 4") as caught:
        made.record(event())
    assert caught.value.id == "audit.broken"
    assert "had record 4" in str(checked(made).problems)


def test_the_key_is_given_once(tmp_path: Path) -> None:
    made = trail(tmp_path, 3)
    known = key(made)
    data = made.take_key()
    assert data.startswith(b"shype-audit-key 1 ")
    assert made.take_key() == data  # whoever took it first may not have got it
    made.forget_key()
    with pytest.raises(Unavailable) as caught:
        made.take_key()
    assert caught.value.id == "audit.key-taken"
    assert checked(made, known).good
    assert kinds(made)[-1] == "audit.key"

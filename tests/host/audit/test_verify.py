"""What is done to a trail is found; what an intruder with the current key can do is no more than
what docs/reference/audit.md says."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.host.audit import head as heads
from shype.host.audit import keyfile
from shype.host.audit.head import image
from shype.host.audit.record import Key, decode, encode, following
from shype.host.audit.trail import Trail
from shype.host.audit.verify import Anchor, verify
from tests.host.audit.builders import checked, event, key, trail

#: So many, each of which must be found. (SHYPE_MUTATIONS=10000 takes some seconds more.)
MUTATIONS = int(os.environ.get("SHYPE_MUTATIONS", "1500"))


def standing(directory: Path) -> Trail:
    """Two closed files and a current one, two records each and those of rotation."""
    made = trail(directory, 3)
    for number in (10, 20):
        made.rotate()
        made.record(event(number))
    return made


def _flip(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1:]


def _drop(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice((1, 1, 7, 300)):]


def _insert(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice((b" ", b"\n", b"{}", b"\0", b"0", b"\xff\xfe")) + data[at:]


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[:chance.randrange(len(data))]


def _lines(change: Callable[[list[bytes], random.Random], None]) -> Callable[..., bytes]:
    def mutate(data: bytes, chance: random.Random) -> bytes:
        lines = data.splitlines(keepends=True)
        change(lines, chance)
        return b"".join(lines)

    return mutate


def _swap(lines: list[bytes], chance: random.Random) -> None:
    a, b = (chance.randrange(len(lines)) for _ in range(2))
    lines[a], lines[b] = lines[b], lines[a]


def _delete(lines: list[bytes], chance: random.Random) -> None:
    del lines[chance.randrange(len(lines))]


def _double(lines: list[bytes], chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))


def _edit(lines: list[bytes], chance: random.Random) -> None:
    """Another content with hashes that fit: what somebody without the key can make."""
    at = chance.randrange(len(lines))
    body = dict(decode(lines[at]).body)
    seq, prev = body.pop("seq"), body.pop("prev")
    body["vm"] = "somebody else"
    lines[at] = encode(body, seq, prev, Key(chance.randbytes(32)))[0]


CHANGES = (_flip, _drop, _insert, _truncate, _lines(_swap), _lines(_delete), _lines(_double),
           _lines(_edit))


def test_random_mutations_and_none_passes() -> None:
    chance = random.Random(20261128)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place:
        made = standing(Path(place))
        known = key(made)
        head = heads.read(made.places.head)
        files = [path for _, _, path in made.places.closed()] + [made.path, made.places.head]
        assert len(files) == 4
        whole = {file: file.read_bytes() for file in files}
        assert checked(made).good
        tried = 0
        while tried < MUTATIONS:
            file = chance.choice(files)
            change = chance.choice(CHANGES[:4] if file == made.places.head else CHANGES)
            new = change(whole[file], chance)
            if new == whole[file]:
                continue
            file.write_bytes(new)
            tried += 1
            report = verify([made.directory], known)
            if report.good and not report.notes:
                # the slot of the head that is out of date says nothing; its content is nothing
                assert file == made.places.head, (change, file.name)
                assert heads.read(file) == head, change
            file.write_bytes(whole[file])
        assert checked(made).good


@pytest.mark.parametrize("number", range(3))
def test_a_file_that_is_gone_is_missed(tmp_path: Path, number: int) -> None:
    made = standing(tmp_path)
    files = [path for _, _, path in made.places.closed()] + [made.path]
    files[number].unlink()
    report = checked(made)
    assert not report.good


def test_two_closed_files_that_changed_names_are_found(tmp_path: Path) -> None:
    made = standing(tmp_path)
    (_, _, one), (_, _, two) = made.places.closed()
    data = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(data)
    assert not checked(made).good


def test_every_break_has_its_file_and_line(tmp_path: Path) -> None:
    made = standing(tmp_path)
    lines = made.path.read_bytes().splitlines(keepends=True)
    made.path.write_bytes(lines[0].replace(b"rotate", b"rotten") + lines[1])
    first = checked(made).problems[0]
    assert (first.file, first.line) == (made.path, 1)
    assert "changed" in first.what
    assert str(first).startswith(f"{made.path}:1: ")


# -- intruders ------------------------------------------------------------------------------------


def rewritten(made: Trail, known: Key, seq: int, keep: int) -> None:
    """What root can do who took over after record ``keep``: all from ``seq`` on is made anew with
    what keys there are, head and all."""
    head = heads.read(made.places.head)
    assert head is not None
    lines = made.path.read_bytes().splitlines(keepends=True)
    previous = decode(lines[seq - 2]).hash
    secret = known
    for number in range(seq, len(lines) + 1):
        body = {k: v for k, v in decode(lines[number - 1]).body.items() if k not in ("seq", "prev")}
        body["vm"] = "forged"
        lines[number - 1], previous = encode(body, number, previous, secret)
        secret = following(secret) if number >= keep else secret
    made.path.write_bytes(b"".join(lines))

    forged = replace(head, hash=previous, key=secret, offset=made.path.stat().st_size).proved()
    made.places.head.write_bytes(image(forged))
    made.places.anchor.unlink()


def key_at(made: Trail, seq: int) -> Key:
    """The key of record ``seq``."""
    known = key(made)[1]
    for _ in range(1, seq):
        known = following(known)
    return known


def test_who_had_the_key_of_record_6_forges_from_record_6_on(tmp_path: Path) -> None:
    made = trail(tmp_path, 9)
    rewritten(made, key_at(made, 6), 6, 6)
    assert checked(made).good  # as the page says


def test_and_not_one_record_before(tmp_path: Path) -> None:
    made = trail(tmp_path, 9)
    rewritten(made, key_at(made, 6), 5, 6)
    found = checked(made).problems
    assert "record 5 was not sealed with the key that the host had then" in found[0].what
    assert verify([made.directory]).good  # the chain alone says nothing of who made it


def test_an_end_that_was_cut_off_by_who_has_the_current_key_is_found(tmp_path: Path) -> None:
    made = trail(tmp_path, 9)
    head = heads.read(made.places.head)
    assert head is not None
    lines = made.path.read_bytes().splitlines(keepends=True)[:5]
    made.path.write_bytes(b"".join(lines))

    cut = replace(head, seq=5, hash=decode(lines[-1]).hash, offset=made.path.stat().st_size)
    made.places.head.write_bytes(image(cut.proved()))
    made.places.anchor.unlink()
    assert "cut off or replaced" in checked(made).problems[0].what
    # and what is appended then does not mend it
    made.record(event())
    assert "record 6 was not sealed" in checked(made).problems[0].what


def test_an_old_copy_of_everything_is_found_by_an_anchor_only(tmp_path: Path) -> None:
    made = trail(tmp_path / "host", 4)
    shutil.copytree(tmp_path / "host", tmp_path / "old")
    for number in range(4):
        made.record(event(number))
    seen = heads.read(made.places.head)
    assert seen is not None
    anchor = Anchor(seen.seq, seen.hash[:16])
    assert verify([made.directory], key(made), anchors=[anchor]).good
    shutil.rmtree(tmp_path / "host")
    shutil.copytree(tmp_path / "old", tmp_path / "host")
    assert checked(made).good
    report = verify([made.directory], key(made), anchors=[anchor])
    assert "an old copy was put in its place" in report.problems[0].what
    for number in range(9):
        made.record(event(number))
    report = verify([made.directory], key(made), anchors=[anchor])
    assert "another one than was seen" in report.problems[0].what


# -- odd input ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    b"", b"\n" * 1000, b"\xff" * 70_000, b"[" * 100_000 + b"\n", b"{}\n", b"null\n" * 10,
    b'{"seq":1,"prev":"","hash":"x"}\n', b"\0" * 10_000,
])
def test_a_file_of_anything_is_judged_and_never_a_traceback(tmp_path: Path, data: bytes) -> None:
    made = standing(tmp_path)
    for file in (made.path, made.places.closed()[0][2], made.places.head):
        whole = file.read_bytes()
        file.write_bytes(data)
        report = checked(made)
        assert not report.good
        file.write_bytes(whole)


@pytest.mark.parametrize("body", [
    b"[1]", b'{"seq":true,"prev":"%064d"}' % 0, b'{"seq":' + b"9" * 5000 + b"}",
    b'{"seq":9223372036854775808,"prev":"%064d"}' % 0, b'{"seq":1,"prev":7}', b"{" * 9000 + b"}",
])
def test_a_line_with_a_fitting_hash_is_not_believed_for_that(tmp_path: Path, body: bytes) -> None:
    made = standing(tmp_path)
    digest = hashlib.sha256(body).hexdigest().encode()
    line = body[:-1] + b',"hash":"' + digest + b'","mac":"' + b"0" * 64 + b'"}\n'
    made.path.write_bytes(made.path.read_bytes() + line)
    report = checked(made)
    assert report.problems or report.notes


def test_a_record_from_far_ahead_takes_no_time(tmp_path: Path) -> None:
    made = standing(tmp_path)
    line, _ = encode({"kind": "x"}, 2**62, "0" * 64, Key(b"k" * 32))
    made.path.write_bytes(made.path.read_bytes() + line)
    assert not checked(made).good


def test_keys_and_directories_that_are_none(tmp_path: Path) -> None:
    made = standing(tmp_path)
    with pytest.raises(BadInput, match=r"audit\.no-trail"):
        verify([tmp_path / "nothing"])
    with pytest.raises(BadInput, match=r"audit\.no-trail"):
        verify([tmp_path])
    other = trail(tmp_path / "other", 2)
    with pytest.raises(BadInput, match="two trails"):
        verify([made.directory, other.directory])
    assert "the key is that of" in checked(made, key(other)).problems[0].what
    for text in (b"", b"x" * 9000, b"shype-audit-key 2 " + b"0" * 16 + b" " + b"0" * 64):
        (tmp_path / "key").write_bytes(text)
        with pytest.raises(BadInput) as caught:
            keyfile.read(tmp_path / "key")
        assert caught.value.id == "audit.key"


def test_what_json_says_is_what_stands_in_the_file(tmp_path: Path) -> None:
    made = standing(tmp_path)
    for line in made.path.read_bytes().splitlines(keepends=True):
        whole = json.loads(line)
        found = decode(line)
        assert whole["hash"] == found.hash
        assert {k: v for k, v in whole.items() if k not in ("hash", "mac")} == found.body

"""Whatever is done to a ledger is found."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.base import canonical
from shype.meter import ledger as ledgers
from shype.meter.anchor import Point, anchor
from shype.meter.ledger import Ledger
from shype.meter.places import Places
from shype.meter.reader import lines
from shype.meter.record import decode, encode
from shype.meter.verify import Report, verify
from shype.policy.ed25519 import PrivateKey, PublicKey
from tests.meter.builders import Machine, begun, take
from tests.signing import STRANGER


@dataclass
class Counter:
    """Implements `shype.meter.anchor.Anchor` as a TPM would: no way back."""

    name: str = "counter"
    count: int = field(default=40)

    def begin(self) -> dict[str, Any]:
        return {"index": 7}

    def now(self) -> int:
        return self.count

    def advance(self) -> int:
        self.count += 1
        return self.count


@dataclass(frozen=True)
class Kept:
    """A ledger, what is known of it elsewhere, and a copy of it from before its last anchor."""

    directory: Path
    key: PublicKey
    end: Point
    counter: tuple[str, int]
    old: Path

    def look(self, directory: Path, **more: Any) -> Report:
        told: dict[str, Any] = {"points": [self.end], "counter": self.counter, **more}
        return verify(directory, self.key, **told)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    place = tmp_path_factory.mktemp("kept")
    ledger, machine, counter = begun(place), Machine(), Counter()
    full, ledgers.FULL = ledgers.FULL, 4000
    try:
        for number in range(1, 5):
            machine.start(number, f"vm{number}")
            take(ledger, machine)
            machine.passes(10)
            machine.runs(number, 1)
            take(ledger, machine)
            with ledger.writer() as writer:
                writer.rotate_key("time", {})
            if number == 4:
                shutil.copytree(ledger.directory, place / "old")
            anchor(ledger, counter)
        machine.gone(2)
        take(ledger, machine)
    finally:
        ledgers.FULL = full
    head = ledger.head()
    assert head is not None
    first = PublicKey.from_pem(ledger.places.public.read_bytes(), "first")
    return Kept(ledger.directory, first, Point(head.seq, head.hash),
                (counter.name, counter.count), place / "old")


def test_untouched_it_is_whole(kept: Kept) -> None:
    found = kept.look(kept.directory)
    assert found.good, found.problems
    assert found.pinned
    assert found.records == kept.end.seq > 15
    assert len(list(Places(kept.directory).all_closed())) >= 2


def rewrite(directory: Path, changed: list[bytes]) -> None:
    """All records in one file, as if none had been closed."""
    places = Places(directory)
    for _, path in places.all_closed():
        path.unlink()
    places.current.write_bytes(b"".join(changed))


MUTATIONS = ("flip", "drop", "swap", "repeat", "truncate", "insert", "forge", "head", "torn")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(MUTATIONS), st.data())
def test_every_mutation_is_found(
    kept: Kept, tmp_path_factory: pytest.TempPathFactory, how: str, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("mutant") / "meter"
    shutil.copytree(kept.directory, directory)
    records = [line.data for line in lines(directory)]
    places = [st.integers(0, len(records) - 1)]
    one = data.draw(places[0])
    if how == "flip":
        at = data.draw(st.integers(0, len(records[one]) - 1))
        changed = bytearray(records[one])
        changed[at] ^= 1 << data.draw(st.integers(0, 7))
        records[one] = bytes(changed)
    elif how == "drop":
        del records[one]
    elif how == "swap":
        other = data.draw(places[0].filter(lambda n: n != one))
        records[one], records[other] = records[other], records[one]
    elif how == "repeat":
        records.insert(data.draw(st.integers(0, len(records))), records[one])
    elif how == "truncate":
        del records[one:]
        if not records:
            records = [b"\n"]
    elif how == "insert":
        body = dict(decode(records[one]).body)
        seq, prev = body.pop("seq"), body.pop("prev")
        records.insert(one, encode(body, seq, prev, [STRANGER]))
    elif how == "forge":  # a whole chain anew from some record on, by somebody without the keys
        prev = decode(records[one]).prev
        for number in range(one, len(records)):
            body = dict(decode(records[number]).body)
            del body["prev"]
            if number == one:
                body["forged"] = 1
            records[number] = encode(body, body.pop("seq"), prev, [STRANGER])
            prev = canonical.digest(records[number])
    elif how == "head":
        head = json.loads((directory / "head.json").read_bytes())
        head["seq"] -= 1 + one % head["seq"]
        (directory / "head.json").write_bytes(canonical.dumps(head))
    else:
        records[-1] = records[-1][:data.draw(st.integers(0, len(records[-1]) - 1))]
    rewrite(directory, records)
    assert not kept.look(directory).good


def test_the_same_in_one_file_is_the_same(kept: Kept, tmp_path: Path) -> None:
    shutil.copytree(kept.directory, tmp_path / "meter")
    rewrite(tmp_path / "meter", [line.data for line in lines(tmp_path / "meter")])
    assert kept.look(tmp_path / "meter").good


def test_a_damaged_closed_file(kept: Kept, tmp_path: Path) -> None:
    shutil.copytree(kept.directory, tmp_path / "meter")
    _, path = next(Places(tmp_path / "meter").all_closed())
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    assert not kept.look(tmp_path / "meter").good
    path.write_bytes(gzip.compress(gzip.decompress(data)[:-1]))
    assert not kept.look(tmp_path / "meter").good


def test_an_old_copy_is_whole_but_behind(kept: Kept) -> None:
    """Only what is noted elsewhere tells it, and either note does."""
    assert verify(kept.old, kept.key).good
    by_counter = kept.look(kept.old, points=[])
    assert "has counted to 44" in str(by_counter.problems[0])
    by_point = kept.look(kept.old, counter=None)
    assert "exchanged or cut off" in str(by_point.problems[0])


def test_who_has_the_present_key_cannot_write_the_past(kept: Kept, tmp_path: Path) -> None:
    """An intruder with all of the host's files signs the last records anew; the key that it
    finds has not signed what came before the last change of keys."""
    directory = tmp_path / "meter"
    shutil.copytree(kept.directory, directory)
    stolen = PrivateKey.from_pem((directory / "key.pem").read_bytes(), "stolen")
    records = [line.data for line in lines(directory)]
    place = next(n for n, line in enumerate(records) if decode(line).kind == "sample")
    prev = decode(records[place]).prev
    for number in range(place, len(records)):
        body = dict(decode(records[number]).body)
        del body["prev"]
        records[number] = encode(body, body.pop("seq"), prev, [stolen])
        prev = canonical.digest(records[number])
    rewrite(directory, records)
    head = json.loads((directory / "head.json").read_bytes())
    (directory / "head.json").write_bytes(canonical.dumps({**head, "hash": prev}))
    found = verify(directory, kept.key, counter=kept.counter)
    assert "not signed by the key whose turn it is" in str(found.problems[0])


def test_another_ledger_and_a_revoked_key(kept: Kept) -> None:
    assert "begins with the key" in str(
        verify(kept.directory, STRANGER.public).problems[0])
    found = kept.look(kept.directory, revoked=frozenset([kept.key.id]))
    assert "revoked" in str(found.problems[0])


def test_amounts_that_shrink_and_runs_that_return(tmp_path: Path) -> None:
    """Signed by the right key all the same: a meter that was tampered with."""
    ledger = begun(tmp_path)
    run = {"run": 1, "vm": "a", "uuid": "u", "domid": 1, "boot": "b", "label": "l",
           "coalitions": []}
    base = {"kind": "sample", "why": "timer", "boot": "b", "uptime_ns": 5, "time_ns": 5,
            "interval": 0}
    row = [1, 5, 5, 5, *([0] * 8)]
    with ledger.writer() as writer:
        writer.append({**base, "opened": [run], "usage": [row]})
        writer.append({**base, "usage": [[1, 4, 5, 5, *([0] * 8)]]})
        writer.append({**base, "uptime_ns": 4, "usage": [], "ended": [{"run": 1, "unseen_ns": 3}]})
        writer.append({**base, "uptime_ns": 4, "usage": [row]})
        writer.append({**base, "uptime_ns": 4, "usage": []})
    said = " ".join(str(problem) for problem in verify(ledger.directory).problems)
    for words in ("have shrunk", "is earlier", "run 1, which does not go on"):
        assert words in said


def test_keys_of_ledger_files(kept: Kept) -> None:
    for name, mode in (("key.pem", 0o600), ("head.json", 0o600)):
        assert (kept.directory / name).stat().st_mode & 0o777 == mode
    assert kept.directory.stat().st_mode & 0o777 == 0o700
    assert Ledger(kept.directory).exists

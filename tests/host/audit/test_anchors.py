"""Loads of a policy anchor the trail: what is cut off or rolled back later is found by them."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from shype.host import loads
from shype.host.agent import Agent
from shype.host.audit import anchors, export
from shype.host.audit import head as heads
from shype.host.audit.reader import records
from shype.host.audit.record import Key
from shype.host.audit.verify import verify
from shype.host.loads import record_load
from shype.policy.model import Enforcement
from tests.host.audit.builders import FullDisk, event, key
from tests.host.builders import host, model


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """A host whose policy was loaded when its trail had three records."""
    made = host(tmp_path)
    made.record(event(1))
    record_load(made)
    return made


def kinds(agent: Agent) -> list[str]:
    return [str(r.body["kind"]) for r in records(agent.trail.directory)]


def whole(agent: Agent) -> list[str]:
    """What is wrong, by the key."""
    return [p.what for p in verify([agent.trail.directory], key(agent.trail)).problems]


def test_a_load_is_recorded_and_anchored_once_in_a_boot(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_load(agent)
    assert kinds(agent) == ["audit.begin", "launch", "bundle.load"]
    (_, first), = anchors.read(agent.trail.places.loads)
    assert first is not None
    head = agent.trail.head()
    assert head is not None
    assert (first.seq, first.hash, first.digest) == (3, head.hash, agent.manifest.digest)
    monkeypatch.setattr(loads, "boot_id", lambda: "another")
    record_load(agent)
    assert kinds(agent).count("bundle.load") == 2
    assert len(anchors.read(agent.trail.places.loads)) == 2
    assert whole(agent) == []


def test_what_is_not_loaded_is_not_recorded(tmp_path: Path) -> None:
    agent = host(tmp_path)
    model(agent).set_enforcement(Enforcement.NONE)
    record_load(agent)
    assert not agent.trail.places.loads.exists()


def test_an_old_copy_of_the_trail_with_its_own_anchor_is_found(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that the trail itself knows of its end is put back; without a key, too."""
    old = tmp_path / "old"
    shutil.copytree(agent.trail.directory, old / "audit")
    shutil.copy(agent.trail.places.anchor, old)
    agent.record(event(2))
    monkeypatch.setattr(loads, "boot_id", lambda: "another")
    record_load(agent)
    secret = key(agent.trail)
    shutil.rmtree(agent.trail.directory)
    shutil.copytree(old / "audit", agent.trail.directory)
    shutil.copy(old / "audit.anchor", agent.trail.places.anchor)
    for known in (None, secret):
        problem, = verify([agent.trail.directory], known).problems
        assert "ends with record 3, and had record 5 when a policy was loaded" in problem.what


def test_an_anchor_that_is_made_up_or_changed_is_found(agent: Agent) -> None:
    file = agent.trail.places.loads
    (_, good), = anchors.read(file)
    assert good is not None
    agent.record(event(2))
    head = agent.trail.head()
    assert head is not None
    assert whole(agent) == []
    forged = replace(good, seq=2, hash=[r.hash for r in records(agent.trail.directory)][1])
    for line in (forged, forged.proved(Key(b"mine" * 8)), forged.proved(head.key),
                 replace(good, time="2001-01-01T00:00:00+00:00")):
        file.write_text(f"{line.line}\n")
        problem, = whole(agent)
        assert problem == "this anchor was not made by the host at its time"
    file.write_text(f"{replace(good, hash='0' * 64).line}\n")
    assert "was another one when a policy was loaded" in whole(agent)[0]


def test_a_torn_anchor_does_not_swallow_the_next(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = agent.trail.places.loads
    os.truncate(file, file.stat().st_size - 20)
    record_load(agent)  # it is as if that load had never been anchored
    assert [each is None for _, each in anchors.read(file)] == [True, False]
    report = verify([agent.trail.directory], key(agent.trail))
    assert report.good
    assert "a writer was killed" in report.notes[0]


def test_copies_take_the_anchors_along_and_a_new_trail_leaves_them(
    agent: Agent, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    agent.trail.copy(copy)
    assert verify([copy], key(agent.trail)).good
    shortened = heads.read(copy / "head")
    assert shortened is not None
    # Who has a copy of earlier puts it in the place of this one, its end sealed by the host.
    (copy / "audit.jsonl").write_bytes(b"".join(
        (copy / "audit.jsonl").read_bytes().splitlines(keepends=True)[:2]))
    (copy / "head").write_bytes(heads.image(replace(shortened, seq=2)))
    assert any("had record 3 when a policy was loaded" in p.what
               for p in verify([copy]).problems)
    old = agent.trail.begin("test")
    assert old is not None
    assert (old / "anchors").exists()
    record_load(agent)
    assert kinds(agent) == ["audit.begin", "bundle.load"]
    assert whole(agent) == []


def test_a_full_disk_holds_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    agent.record(event(1))
    disk = FullDisk(monkeypatch, agent.trail)
    record_load(agent)
    disk.full = False
    agent.record(event(2))
    assert "bundle.load" in kinds(agent)
    assert whole(agent) == []


@contextmanager
def listener(place: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(place))
        link.setblocking(False)
        yield link


def test_the_system_s_log_gets_the_anchor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = host(tmp_path)
    monkeypatch.setattr(export, "SYSLOG", tmp_path / "log")
    monkeypatch.setattr(export, "JOURNALD", tmp_path / "journal")
    with listener(tmp_path / "log") as log, listener(tmp_path / "journal") as journal:
        record_load(agent)
        (_, made), = anchors.read(agent.trail.places.loads)
        assert made is not None
        assert f"audit anchor {made.seq}:{made.hash} of trail {made.trail}" in log.recv(
            4096).decode()
        assert journal.recv(4096).decode().startswith(f"MESSAGE=audit anchor {made.seq}:")


def test_an_old_copy_cannot_answer_a_new_nonce(agent: Agent, tmp_path: Path) -> None:
    """Who has become root has the present key, and not those of earlier records."""
    secret = key(agent.trail)
    agent.trail.copy(tmp_path / "first", "first-nonce1")
    agent.record(event(2))
    agent.trail.copy(tmp_path / "second", "secondnonce")
    assert verify([tmp_path / "first"], secret, nonce="first-nonce1").good
    assert verify([tmp_path / "second"], secret, nonce="secondnonce").good
    # The first copy is whole, and shown again; with every answer that root can give.
    assert verify([tmp_path / "first"], secret).good
    now = agent.trail.head()
    then = heads.read(tmp_path / "first" / "head")
    assert now is not None
    assert then is not None
    answers = [(tmp_path / "second" / "fresh").read_text(),
               heads.fresh(now.key, now, "secondnonce"), heads.fresh(now.key, then, "secondnonce")]
    for answer in answers:
        (tmp_path / "first" / "fresh").write_text(answer)
        problem, = verify([tmp_path / "first"], secret, nonce="secondnonce").problems
        assert "cannot show that its trail ends with record 3 now" in problem.what
    (tmp_path / "first" / "fresh").unlink()
    problem, = verify([tmp_path / "first"], secret, nonce="secondnonce").problems
    assert "no answer to the nonce" in problem.what

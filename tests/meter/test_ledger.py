"""The ledger's writer may be killed at any moment, and is not alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.meter import head as heads
from shype.meter import ledger as ledgers
from shype.meter.ledger import Ledger
from shype.meter.reader import lines
from shype.meter.record import decode
from shype.meter.sampler import Why
from shype.meter.verify import verify
from tests.meter.builders import SECOND, Machine, begun, take


class Killed(BaseException):
    """In place of SIGKILL: nothing behind it is done."""


class Killer:
    """Counts what touches the disk, and strikes before number ``at``."""

    def __init__(self, at: int, patch: pytest.MonkeyPatch) -> None:
        self.at, self.count, self._patch = at, 0, patch

    def around(self, owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def guarded(*args: Any, **more: Any) -> Any:
            self.count += 1
            if self.count >= self.at:
                raise Killed
            return real(*args, **more)

        self._patch.setattr(owner, name, guarded)


@pytest.mark.parametrize("at", range(1, 40))
def test_killed_anywhere_nothing_is_lost_or_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    take(ledger, machine)
    with monkeypatch.context() as patch:
        patch.setattr(ledgers, "FULL", 2500)
        killer = Killer(at, patch)
        for owner, name in ((os, "pwrite"), (os, "fsync"), (os, "fdatasync"),
                            (ledgers, "write_atomic"), (heads, "write"),
                            (Path, "unlink"), (Path, "rename")):
            killer.around(owner, name)
        try:
            for _ in range(3):
                machine.passes(10)
                machine.moves(1, "vif-0#3", 1000, 1)
                take(ledger, machine)
                with ledger.writer() as writer:
                    writer.rotate_key("test", {})
        except Killed:
            pass
    # As at its start: what the killed one left is finished first.
    taken = take(ledger, machine, Why.START)
    found = verify(ledger.directory)
    assert found.good, found.problems
    assert taken.step.accounts[1].usage.net_received_bytes == \
        machine.domains[1].devices["vif-0#3"].bytes_in
    with ledger.writer() as writer:
        writer.rotate_key("test", {})
    take(ledger, machine)
    assert verify(ledger.directory).good


def test_a_pause_is_recorded_as_a_gap(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    take(ledger, machine, interval=10)
    machine.passes(10)
    take(ledger, machine, interval=10)
    assert not verify(ledger.directory).gaps
    machine.passes(300)
    machine.runs(1, 100)
    take(ledger, machine, Why.START, interval=10)
    body = decode(list(lines(ledger.directory))[-1].data).body
    assert body["gap_ns"] == 300 * SECOND
    gaps = verify(ledger.directory).gaps
    assert len(gaps) == 1
    assert "300 s after" in gaps[0]
    machine.reboots()
    take(ledger, machine, Why.START, interval=10)
    assert "the host had booted" in verify(ledger.directory).gaps[1]


def test_many_that_sample_at_once(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    threads = [threading.Thread(target=take, args=(ledger, machine)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify(ledger.directory)
    assert found.good
    assert found.records == 13


def test_a_process_that_is_really_killed(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    for number in range(8):
        child = os.fork()
        if child == 0:
            machine = Machine(boot=f"boot-{number + 1}")
            machine.start(1, "web")
            while True:
                machine.passes(1)
                machine.runs(1, 0.5)
                take(ledger, machine)
        time.sleep(0.15 + 0.013 * number)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    machine = Machine(boot="boot-99")
    take(ledger, machine)
    found = verify(ledger.directory)
    assert found.good, found.problems
    assert found.records > 20


def test_a_new_ledger_names_the_end_of_the_old(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    take(ledger, machine)
    old = ledger.head()
    assert old is not None
    place = ledger.begin({"host": "h"}, again=True)
    assert place is not None
    assert verify(place).records == 2
    body = decode(next(lines(ledger.directory)).data).body
    assert body["before"] == {"ledger": old.ledger, "seq": 2, "hash": old.hash}
    assert not (place / "key.pem").exists()


def test_one_that_can_be_gone_on_with_is_not_set_aside_by_mistake(tmp_path: Path) -> None:
    ledger = begun(tmp_path)
    old = ledger.head()
    with pytest.raises(BadInput) as caught:
        ledger.begin({"host": "h"})
    assert caught.value.id == "meter.begun"
    assert ledger.head() == old
    ledger.places.key.chmod(0o644)  # is mended otherwise
    with pytest.raises(Unavailable) as exposed:
        ledger.begin({"host": "h"})
    assert exposed.value.id == "meter.key-exposed"
    ledger.places.key.unlink()
    assert ledger.begin({"host": "h"}) is not None
    ledger.places.head.write_text("{}")
    assert ledger.begin({"host": "h"}) is not None
    with ledger.places.current.open("ab") as file:
        file.write(b"more\n")
    assert ledger.begin({"host": "h"}) is not None


def test_what_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no ledger") as none:
        take(Ledger(tmp_path / "none"), Machine())
    assert none.value.id == "meter.no-ledger"
    ledger = begun(tmp_path)
    ledger.places.key.chmod(0o644)
    with pytest.raises(Unavailable, match="others may read") as caught:
        take(ledger, Machine())
    assert caught.value.id == "meter.key-exposed"
    ledger.places.key.chmod(0o600)
    with ledger.places.current.open("ab") as file:
        file.write(b"more\n")
    with pytest.raises(Unavailable, match="bytes, and should have") as caught:
        take(ledger, Machine())
    assert caught.value.id == "meter.broken"
    ledger.places.key.unlink()
    with pytest.raises(Unavailable, match="is gone"):
        take(ledger, Machine())

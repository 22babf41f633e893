"""Denials of the hypervisor on record: once, counted, held back in a flood, and none forgotten."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import Unavailable
from shype.decision.operation import Operation
from shype.host.agent import Agent
from shype.host.audit import limiter
from shype.host.audit.collect import collect
from shype.host.audit.reader import records
from shype.host.drivers.model import ModelHypervisor
from shype.host.hypervisor import ConsoleText
from shype.host.launch import launch
from tests.host.audit.builders import FullDisk
from tests.host.builders import config, host, model


def denials(agent: Agent) -> list[dict[str, Any]]:
    """The records about denials."""
    return [dict(r.body) for r in records(agent.trail.directory)
            if str(r.body["kind"]).startswith("denial")]


def two(directory: Path) -> Agent:
    """A host with a-db (1) and market (2), who may not communicate."""
    agent = host(directory)
    assert launch(agent, config(directory, "a-db")).domid == 1
    assert launch(agent, config(directory, "market")).domid == 2
    return agent


class Console:
    """What the model's console shows, whatever happened; its ring has ``size`` lines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int = 100, printed: int = 0) -> None:
        self.lines: list[str] = []
        self.size, self.printed = size, printed
        monkeypatch.setattr(ModelHypervisor, "console", lambda _, after: self.read(after))

    def read(self, after: int | None) -> ConsoleText:
        text = "".join(f"{line}\n" for line in self.lines).encode()
        kept = "".join(f"{line}\n" for line in self.lines[-self.size:]).encode()
        end = self.printed + len(text)
        back = len(kept) if after is None else min(len(kept), (end - after) % 2**32)
        return ConsoleText((end - back) % 2**32, kept[len(kept) - back:])

    def deny(self, source: int, target: int, permission: str = "send", times: int = 1) -> None:
        types = {1: "l_bank_a_db_t", 2: "l_market_data_t", 0: "dom0_t"}
        self.lines += [
            f"(XEN) avc:  denied  {{ {permission} }} for source=d{source} target=d{target} "
            f"scontext=u:r:{types.get(source, 'l_x_t')}:s0 "
            f"tcontext=u:r:{types.get(target, 'l_x_t')}:s0 tclass=event"] * times


def test_a_denial_is_recorded_once_with_labels_and_rule(tmp_path: Path) -> None:
    agent = two(tmp_path)
    for _ in range(3):
        model(agent).attempt(1, 2, Operation.EVENT_SEND)
    done = collect(agent)
    assert (done.denials, done.records, done.waiting, done.lost) == (3, 1, 0, 0)
    assert collect(agent).records == 0
    record, = denials(agent)
    assert (record["vm"], record["subject"]) == ("a-db", "bank-a-db")
    assert (record["object"], record["object_label"]) == ("vm:market", "market-data")
    assert (record["result"], record["rule"]) == ("refused", "ste.disjoint")
    assert record["rules"]
    assert record["details"]["times"] == 3
    assert record["details"]["line"].startswith("(XEN) avc:  denied")
    model(agent).attempt(1, 2, Operation.EVENT_SEND)
    assert collect(agent).records == 1


def test_a_flood_of_one_guest_is_held_back_and_no_other_guests_denial_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console = Console(monkeypatch, size=10_000)
    for target in range(100, 400):  # each one is another kind
        console.deny(1, target, times=2)
    console.deny(2, 1)
    done = collect(agent)
    assert done.denials == 601
    assert done.records == limiter.BURST + 1
    assert [d["vm"] for d in denials(agent)].count("market") == 1
    told = sum(d["details"]["times"] for d in denials(agent))
    assert told + done.waiting == 601
    console.deny(1, 399, times=400)
    assert collect(agent).records == 0  # no token is left
    for _ in range(100):
        now += limiter.REFILL
        collect(agent)
    assert collect(agent).waiting == 0
    assert sum(d["details"]["times"] for d in denials(agent)) == 1001
    assert [d["kind"] for d in denials(agent)].count("denial.more") <= 2


def test_what_xen_held_back_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = two(tmp_path)
    console = Console(monkeypatch, size=1000)
    console.deny(1, 2, times=10)
    console.lines += ["(XEN) printk: 37 messages suppressed.",
                      "(d1) printk: 9 messages suppressed.",
                      "(XEN) [2026-11-30 01:02:03] printk: 5 messages suppressed."]
    console.deny(1, 2)
    done = collect(agent)
    assert (done.denials, done.records, done.waiting, done.held_back) == (11, 2, 0, 42)
    found = {d["kind"]: d["details"] for d in denials(agent)}
    assert found["denial"]["times"] == 11
    assert found["denial.held-back"]["messages"] == 42
    console.lines += ["(XEN) printk: 3 messages suppressed."] * 200  # few records, all counted
    done = collect(agent)
    assert (done.records, done.held_back) == (1, 600)


def test_what_was_overwritten_is_told_in_bytes_and_the_rest_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    console = Console(monkeypatch, size=60)
    console.deny(1, 2)
    assert collect(agent).lost == 0
    console.deny(2, 1, times=500)
    done = collect(agent)
    assert (done.lost, done.denials) == (440 * len(f"{console.lines[-1]}\n"), 60)
    assert [d["kind"] for d in denials(agent)] == ["denial", "denial.gap", "denial"]
    assert denials(agent)[1]["details"] == {"bytes": done.lost}
    # The flood goes on, the ring looks the same, and nothing is lost or counted twice.
    console.deny(2, 1, times=60)
    done = collect(agent)
    assert (done.lost, done.denials) == (0, 60)
    assert denials(agent)[-1]["details"]["times"] == 60


def test_a_line_that_is_half_printed_is_recorded_once_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    console = Console(monkeypatch)
    console.deny(1, 2)
    console.deny(2, 1)
    whole = console.read(None).text
    for end in range(len(whole) + 1):
        monkeypatch.setattr(ModelHypervisor, "console", lambda _, after, end=end: ConsoleText(
            after or 0, whole[after or 0:end]))
        assert collect(agent).lost == 0
    assert [(d["vm"], d["details"]["times"]) for d in denials(agent)] == [
        ("a-db", 1), ("market", 1)]


def test_a_line_that_a_guest_prints_is_no_denial_even_if_its_beginning_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    console = Console(monkeypatch)
    console.deny(1, 2)
    genuine = console.lines[0]
    console.lines[:] = [f"(d2) {genuine}", f"(d2) {genuine[6:]}"]
    collect(agent)
    forged = f"(d2) {genuine[6:]}\n".encode()
    for cut in range(len("(d2) ") + 1):
        at = console.printed + 10_000 * (cut + 1)
        monkeypatch.setattr(ModelHypervisor, "console", lambda _, after, cut=cut, at=at:
                            ConsoleText(at + cut, forged[cut:]))
        assert collect(agent).lost > 0
    assert [d["kind"] for d in denials(agent)] == ["denial.gap"] * 6


def test_positions_begin_anew_after_four_gigabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    console = Console(monkeypatch, printed=2**32 - 100)
    for _ in range(5):
        console.deny(1, 2)
        assert (collect(agent).denials, collect(agent).denials) == (1, 0)
    assert sum(d["details"]["times"] for d in denials(agent)) == 5


def test_on_a_full_disk_denials_stay_in_the_ring_and_come_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = two(tmp_path)
    model(agent).attempt(1, 2, Operation.EVENT_SEND)
    disk = FullDisk(monkeypatch, agent.trail)
    with pytest.raises(Unavailable) as caught:
        collect(agent)
    assert caught.value.id == "audit.unwritable"
    disk.full = False
    collect(agent)
    assert len(denials(agent)) == 1


def test_a_damaged_memory_records_twice_rather_than_never(tmp_path: Path) -> None:
    agent = two(tmp_path)
    model(agent).attempt(1, 2, Operation.EVENT_SEND)
    collect(agent)
    for damage in (b"", b"{", b"[]", b'{"format":1}', b'{"format":1,"boot":7}'):
        (agent.trail.directory / "collected.json").write_bytes(damage)
        collect(agent)
    assert len(denials(agent)) == 6


def test_a_flood_makes_no_flood_of_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest must not make dom0's disk busy: what is remembered of a boot need not outlive it."""
    agent = two(tmp_path)
    console = Console(monkeypatch, size=10_000)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    flushes: list[int] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        flushes.append(handle)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for round_ in range(limiter.BURST + 50):
        if round_ == limiter.BURST:
            flushes.clear()
        console.deny(1, 2, times=3)
        assert collect(agent).denials == 3
    assert flushes == []

"""What a run has used, against figures that were set."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.meter.account import Account, Ended, step
from shype.meter.source import Counters, Kind
from shype.meter.usage import Usage, total
from tests.meter.builders import MIB, SECOND, Labels, Machine, begun, take


def test_amounts_of_a_run(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    take(ledger, machine)
    machine.passes(10)
    machine.runs(1, 2.5)
    machine.moves(1, "vbd-51712#7", 4096, 512)
    machine.moves(1, "vif-0#3", 100, 200)
    taken = take(ledger, machine)
    assert taken.step.accounts[1].usage == Usage(
        cpu_ns=2_500_000_000, memory_bs=128 * MIB * 10, seen_ns=10 * SECOND,
        disk_read_bytes=4096, disk_written_bytes=512, disk_reads=4096, disk_writes=512,
        net_received_bytes=100, net_sent_bytes=200, net_received_packets=100,
        net_sent_packets=200)


def test_a_device_that_goes_takes_nothing_with_it(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    machine.moves(1, "vif-0#3", 100, 200)
    take(ledger, machine)
    machine.devices(1, {"vif-0#4": Counters(Kind.NETWORK, 5, 5, 1, 1)})  # detached, attached anew
    take(ledger, machine)
    machine.devices(1, {"vif-0#4": Counters(Kind.NETWORK, 3, 3, 1, 1)})  # a driver that restarts
    usage = take(ledger, machine).step.accounts[1].usage
    assert (usage.net_received_bytes, usage.net_sent_bytes) == (108, 208)


def test_how_a_run_ends(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    for domid, name in ((1, "seen"), (2, "unseen"), (3, "boot")):
        machine.start(domid, name)
    take(ledger, machine)
    machine.stop(1)
    machine.passes(10)
    take(ledger, machine)
    machine.gone(1)
    machine.gone(2)
    machine.passes(4)
    assert take(ledger, machine).step.ended == (Ended(1, 0), Ended(2, 4 * SECOND))
    machine.reboots()
    assert take(ledger, machine).step.ended == (Ended(3, None),)


def test_a_guest_that_reboots_has_a_run_for_each_life(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    for domid in (1, 2, 3):
        machine.start(domid, "web")
        machine.runs(domid, 1)
        take(ledger, machine)
        machine.gone(domid)
    last = take(ledger, machine).step
    assert not last.accounts


@settings(deadline=None)
@given(st.lists(st.tuples(
    st.sampled_from(["runs", "moves", "reattach", "sample", "restart"]),
    st.integers(1, 1000)), max_size=30))
def test_against_an_independent_count(events: list[tuple[str, int]]) -> None:
    """Whatever is sampled when: of what was sampled before a device went, nothing is lost."""
    machine = Machine()
    machine.start(1, "web")
    domid, instance, counted = 1, 1, 0
    accounts: dict[int, Account] = {}
    done: list[Usage] = []
    runs = 0

    def sampled() -> None:
        nonlocal accounts, runs
        made = step(accounts, runs + 1, machine.look(),
                    lambda number, boot, reading: Labels().run("web", number, boot, reading))
        for ended in made.ended:
            done.append(accounts[ended.run].usage)
        for number, account in made.accounts.items():
            if number in accounts:
                assert account.usage.covers(accounts[number].usage)
        runs += len(made.opened)
        accounts = dict(made.accounts)

    for what, amount in [*events, ("sample", 1)]:
        if what == "runs":
            machine.runs(domid, amount)
        elif what == "moves":
            machine.moves(domid, f"vif-0#{instance}", amount, 2 * amount)
            counted += amount
        elif what == "sample":
            machine.passes(amount)
            sampled()
        elif what == "reattach":
            sampled()
            instance += 1
            machine.devices(domid, {})
        else:
            sampled()
            machine.gone(domid)
            domid += 1
            machine.start(domid, "web")
    found = total([*done, *(account.usage for account in accounts.values())])
    assert found.net_received_bytes == counted
    assert found.net_sent_bytes == 2 * counted

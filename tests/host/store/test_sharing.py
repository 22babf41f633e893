"""Directories between VMs, and nodes that are open against the policy, on the model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.drivers.model import UNLABELLED
from shype.host.launch import launch
from shype.host.stop import stop
from shype.host.store.audit import admit, check, closed, pairs, repair
from shype.host.store.store import Acl
from shype.policy.model import Enforcement
from tests.host.builders import BANKS, config, host, model

#: bank-a and market open XenStore, bank-b does not; dom0 has all.
SHARING = BANKS.replace(
    "coalitions: [bank-a, bank-b, market]",
    "coalitions: {bank-a: {mechanisms: [xenstore]}, bank-b: {}, market: {mechanisms: "
    "[event, xenstore]}}",
).replace("host: {dom0: manager}", "host: {dom0: manager, drivers: [net]}").replace(
    "labels:\n", "labels:\n  net: {coalitions: all}\n").replace(
    "vms: {", "vms: {net: net, ")


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return host(tmp_path, SHARING)


def run(agent: Agent, tmp_path: Path, *vms: str) -> list[int]:
    started = [launch(agent, config(tmp_path, vm)).domid for vm in vms]
    assert None not in started
    return [domid for domid in started if domid is not None]


def acl(agent: Agent, path: str) -> str:
    with agent.hypervisor.store() as store:
        return str(store.acl(path))


def set_acl(agent: Agent, path: str, words: str) -> None:
    with agent.hypervisor.store() as store:
        store.make(path)
        store.set_acl(path, Acl.parse(tuple(words.split())))


def nodes(agent: Agent) -> list[str]:
    with agent.hypervisor.store() as store:
        return sorted(path for path in store.acls() if "/shype" in path)


def test_who_may_read_gets_a_directory_before_the_vm_runs(agent: Agent, tmp_path: Path) -> None:
    a, desk, market = run(agent, tmp_path, "a-db", "a-desk", "market")
    home = "/local/domain"
    both = [(a, desk), (desk, a), (desk, market), (market, desk)]
    assert [path for path in nodes(agent) if "-" in path] == sorted(
        path for x, y in both for path in (f"{home}/{x}/shype/to-{y}", f"{home}/{y}/shype/from-{x}")
    )
    for x, y in both:
        assert acl(agent, f"{home}/{x}/shype/to-{y}") == f"n{x} r{y}"
        assert acl(agent, f"{home}/{y}/shype/from-{x}") == f"n0 r{y}"
        assert acl(agent, f"{home}/{x}/shype") == f"n0 r{x}"
        with agent.hypervisor.store() as store:
            assert store.read(f"{home}/{y}/shype/from-{x}").decode() == f"{home}/{x}/shype/to-{y}"
    assert check(agent) == ()
    stop(agent, "a-desk", force=True, timeout=0)
    assert [path for path in nodes(agent) if "-" in path] == []


def test_without_the_switch_there_is_no_directory(tmp_path: Path) -> None:
    agent = host(tmp_path)
    run(agent, tmp_path, "a-db", "a-desk", "market")
    assert nodes(agent) == []
    repaired = repair(agent)
    assert (repaired.openings, repaired.shared.made, repaired.shared.removed) == ((), (), ())


def test_what_is_there_for_a_number_is_not_for_the_next_domain_of_it(
    agent: Agent, tmp_path: Path
) -> None:
    a, desk = run(agent, tmp_path, "a-db", "a-desk")
    left = f"/local/domain/{a}/shype/to-{desk}/left"
    with agent.hypervisor.store() as store:
        store.write(left, b"for another")
    admit(agent, fresh=desk)
    with agent.hypervisor.store() as store:
        assert left not in store.acls()
    assert acl(agent, f"/local/domain/{a}/shype/to-{desk}") == f"n{a} r{desk}"


def test_a_directory_that_was_changed_is_made_right(agent: Agent, tmp_path: Path) -> None:
    a, desk, market = run(agent, tmp_path, "a-db", "a-desk", "market")
    path = f"/local/domain/{a}/shype/to-{desk}"
    set_acl(agent, path, f"n{a} r{desk} r{market}")
    assert [(o.writer.domain.domid, o.reader.domain.domid) for o in check(agent)] == [(a, market)]
    repair(agent)
    assert acl(agent, path) == f"n{a} r{desk}"
    with agent.hypervisor.store() as store:
        store.remove(f"/local/domain/{a}/shype/to-{desk}")
    assert [share.path for share in repair(agent).shared.made] == [path]


OPEN = [
    ("n{a} r{m}", "n{a}"),
    ("r{a}", "n{a}"),
    ("n{m} w{a}", "n{m}"),
    ("n0 b{a} r{m}", "n0"),
    ("n0 b{a} r{m} r{d}", "n0 r{d}"),
    ("b0", "n0"),
    ("r0 w{a}", "n0"),
    ("w{a}", "n{a}"),
]


def test_openings_are_found_closed_and_recorded(agent: Agent, tmp_path: Path) -> None:
    a, d, m = run(agent, tmp_path, "a-db", "a-desk", "market")
    number = {"a": a, "d": d, "m": m}
    path = f"/local/domain/{a}/data/x"
    for words, after in OPEN:
        set_acl(agent, path, words.format(**number))
        found = check(agent)
        assert {opening.path for opening in found} == {path}, words
        assert all(o.decision and o.decision.id == "ste.disjoint" for o in found), words
        assert repair(agent).openings == found, words
        assert acl(agent, path) == after.format(**number)
        assert check(agent) == (), words
    trail = [json.loads(line) for file in (agent.state / "audit").rglob("*.jsonl")
             for line in file.read_text().splitlines()]
    events = [e.get("event", e) for e in trail]
    assert any(e.get("kind") == "store.repair" and e.get("object") == f"xenstore:{path}"
               for e in events)


def test_what_only_dom0_writes_or_reads_is_no_opening(agent: Agent, tmp_path: Path) -> None:
    a, d, m = run(agent, tmp_path, "a-db", "a-desk", "market")
    for words in ("n0 r{a} r{m}", "r0", "n{a} r0", "n{a} r99", "n{a} n{m}", "n{a} w0",
                  "b{a} n{m} n{d}"):
        set_acl(agent, "/tool/x", words.format(a=a, m=m, d=d))
        assert check(agent) == (), words


def test_a_driver_domain_reads_the_nodes_of_its_devices(agent: Agent, tmp_path: Path) -> None:
    net, m = run(agent, tmp_path, "net", "market")
    set_acl(agent, f"/local/domain/{m}/device/vif/0", f"n{m} r{net}")
    set_acl(agent, f"/local/domain/{net}/backend/vif/{m}/0", f"n{net} r{m}")
    assert check(agent) == ()


def test_a_domain_without_a_label_reads_nothing(agent: Agent, tmp_path: Path) -> None:
    a, = run(agent, tmp_path, "a-db")
    model(agent).set_enforcement(Enforcement.PERMISSIVE)
    stray = model(agent).create("stray", UNLABELLED)
    set_acl(agent, f"/local/domain/{a}/data/x", f"n{a} r{stray}")
    found, = check(agent)
    assert found.decision is None
    repair(agent)
    assert check(agent) == ()


def test_a_store_that_was_opened_during_a_launch_stops_it(agent: Agent, tmp_path: Path) -> None:
    a, = run(agent, tmp_path, "a-db")
    with model(agent)._contents() as contents:
        contents.permissions = 5
    with pytest.raises(Unavailable) as caught:
        admit(agent, fresh=a)
    assert caught.value.id == "host.xenstore-open"


WORDS = [f"{right}{domid}" for right in "nrwb" for domid in range(4)]


def may(acl: Acl, domid: int, right: str) -> bool:
    """XenStore's own rule (docs/misc/xenstore.txt): owner, else the entry, else everybody's."""
    if domid in (0, acl.owner):
        return True
    own = [r for number, r in acl.entries if number == domid]
    return (own[0] if own else acl.others) in right + "b"


@pytest.mark.parametrize("length", [1, 2, 3])
def test_pairs_are_those_of_the_stores_own_rule(length: int) -> None:
    running = frozenset({1, 2, 3})
    for words in itertools.product(WORDS, repeat=length):
        acl = Acl.parse(words)
        expected = {(w, r) for w in running for r in running
                    if w != r and may(acl, w, "w") and may(acl, r, "r")}
        assert set(pairs(acl, running)) == expected, words
        bad = frozenset(d for pair in expected for d in pair) - {acl.owner}
        assert set(pairs(closed(acl, bad), running)) == set(), words

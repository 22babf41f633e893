"""The three modes of a policy, and the table of what came of the attempts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from shype.policy.model import Label, Policy
from tests.analysis.policies import policy
from tests.attacks import table
from tests.attacks.attack import Arena, Attack, By, Check, Ended, Ends, Mode, Untried, Whom, each
from tests.attacks.modes import KEEPER, in_mode
from tests.attacks.policies import BANKS, SERVED, SHOP, TOGETHER, joined
from tests.attacks.test_object_manager import EXAMPLE
from tests.lab.network_guests import POLICY as NETS
from tests.lab.test_store import POLICY as STORE

TEXTS = {
    "served": SERVED, "shop": SHOP, "nets": NETS, "store": STORE, "banks": BANKS,
    "storage": (EXAMPLE / "policy.yaml").read_text(), "joined": joined(),
}


def labels(found: Policy) -> dict[str, Label]:
    """The label of each VM."""
    return {vm: found.labels[one.label] for vm, one in found.assignments.items()}


@pytest.mark.parametrize("name", TEXTS)
def test_every_vm_of_a_locked_host_has_a_locked_label_of_its_own(name: str) -> None:
    plain, made = policy(TEXTS[name]), policy(in_mode(TEXTS[name], Mode.LOCKED))
    before, now = labels(plain), labels(made)
    assert before.keys() == now.keys()
    assert len({label.name for label in now.values()}) == len(now)
    for vm, label in now.items():
        assert label.locked
        assert (label.coalitions, label.members) == (before[vm].coalitions, before[vm].members)
    assert (made.host.updates, made.static) == (plain.host.updates, plain.static)


@pytest.mark.parametrize("name", TEXTS)
def test_a_managed_host_is_a_locked_one_with_a_manager(name: str) -> None:
    locked, made = (policy(in_mode(TEXTS[name], mode)) for mode in (Mode.LOCKED, Mode.MANAGER))
    assert made.host.manager == KEEPER
    assert made.labels.keys() - locked.labels.keys() == {KEEPER}
    assert {vm: one.name for vm, one in labels(made).items()} == {
        vm: one.name for vm, one in labels(locked).items()}


def test_what_is_joined_says_of_each_vm_what_its_own_policy_says() -> None:
    made = policy(joined())
    for text in TOGETHER:
        for vm, label in labels(policy(text)).items():
            mine = labels(made)[vm]
            assert (mine.name, mine.coalitions, mine.members) == (
                label.name, label.coalitions, label.members)
        for resource in policy(text).resources:
            assert any((one.kind, one.pattern) == (resource.kind, resource.pattern)
                       for one in made.resources)


def nothing(arena: Arena) -> Ended:
    raise AssertionError(arena)


STOP = Attack("a.stop", By.ROOT, "It stops.", Ends.OPEN, Whom.XEN, nothing, {
    Mode.LOCKED: Ends.STOPPED, Mode.MANAGER: Untried("no reason")})


def works(arena: Arena) -> None:
    raise AssertionError(arena)


def test_each_mode_tries_what_it_has() -> None:
    def tried(test: type) -> list[str]:
        marks = {mark.name: mark for mark in vars(test)["test"].pytestmark}
        return [str(one) for one in marks["parametrize"].kwargs["ids"]]

    made = each([STOP, Check(works, {Mode.LOCKED: "it does not"})])
    assert [tried(test) for test in made] == [["a.stop", "works"], ["a.stop"], ["works"]]
    none = each([STOP], without={Mode.LOCKED: "too slow"})
    assert [tried(test) for test in none] == [["a.stop"], [], []]


@dataclass
class Report:
    """What a test hands over."""

    user_properties: list[tuple[str, object]] = field(default_factory=list)


def test_the_table_has_a_column_for_each_mode() -> None:
    rows = [
        STOP.row(Mode.DEFAULT, Ended(Ends.OPEN, "done")),
        STOP.row(Mode.LOCKED, Ended(Ends.STOPPED, "EACCES\nmore")),
        STOP.row(Mode.MANAGER, Untried("no reason")),
    ]
    told = Attack("a.tell", By.FAULT, "It is told.", Ends.DETECTED, Whom.AGENT, nothing)
    rows += [told.row(mode, Ended(Ends.DETECTED, "seen")) for mode in Mode]
    made = table.lines([Report([("attack", row)]) for row in rows])
    assert made[1] == "attacks: 2, tried 5 times"
    at = next(n for n, line in enumerate(made) if line.startswith("a.stop"))
    assert made[at].split(maxsplit=3) == ["a.stop", "dom0", "root", made[at].split(maxsplit=3)[3]]
    assert made[at].split(maxsplit=3)[3].split("  ")[0] == "permitted"
    assert "denied by hypervisor" in made[at]
    assert made[at].endswith("not tried")
    assert made[at + 1:at + 5] == [
        "    It stops.", "    [default] done", "    [locked] EACCES more",
        "    [manager] no reason"]
    assert made[at + 6:] == ["    It is told.", "    [default, locked, manager] seen"]
    assert table.lines([Report()]) == []

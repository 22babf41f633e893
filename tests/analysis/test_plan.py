"""`shype plan`, rule by rule: the finding, its weight, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import pytest

from tests.analysis.policies import NEXT, OLD, TODAY, ids, planned, running


@dataclass(frozen=True, slots=True)
class Case:
    """An update of `OLD` (or ``old``), and the finding that it gives with its weight."""

    id: str
    new: str
    state: object = None
    verdict: str = "clean"
    weight: str = "note"
    old: str = OLD
    says: str = ""
    conditional: bool = False
    today: date = TODAY


def swap(*pairs: str, text: str = NEXT) -> str:
    """``text`` with each first string of a pair replaced by the second."""
    for before, after in zip(pairs[::2], pairs[1::2], strict=True):
        assert before in text, before
        text = text.replace(before, after)
    return text


NO_BLUE = swap("  blue-db: {coalitions: [blue], wall: [blue]}\n", "", ", b: blue-db", "")
#: blue-db is retired; its tombstone still holds its place in the wall.
RETIRED = swap("shype: 1\n", "shype: 1\nretired: {blue-db: {wall: [blue]}}\n", text=NO_BLUE)
NO_MARKET = swap("desk: {coalitions: [red, market]}", "desk: {coalitions: [red]}")
GUARDED = swap("  quotes: {coalitions: [market]}\n", "", "host: {dom0",
               "guards:\n  quotes: {from: red, to: market, reason: r}\nhost: {dom0", text=OLD)
EXPIRES = swap("host: {dom0", "guards: {g: {from: red, to: market, reason: r, "
               'expires: "2030-06-01"}}\nhost: {dom0')
LEVELS = """\
shype: 1
policy: {name: acme, version: "1.0"}
coalitions: [red]
levels: {order: [low, high], categories: [ka, kb]}
integrity: {order: [soft, hard]}
labels:
  host: {coalitions: all}
  web: {level: low, integrity: hard}
host: {dom0: host}
"""
ONE = running(w="web")


def level(*pairs: str) -> str:
    """`LEVELS`, as the version after it, changed."""
    return swap(*pairs, '"1.0"', '"1.1", from: "1.0"', text=LEVELS)


DISK = NEXT + "resources: [{disk: /dev/b, coalitions: [blue]}]\n"


def attached(name: str) -> dict[str, object]:
    """A state in which quotes use a disk."""
    disk = {"kind": "disk", "name": name, "access": "read"}
    return {"domains": [{"domid": 1, "vm": "q", "label": "quotes", "resources": [disk]}]}


def channel(what: str, kind: str = "operation") -> dict[str, object]:
    """A state with one channel from a desk to quotes."""
    return {**running(d="desk", q="quotes"), "channels": [{"a": "d", "b": 2, kind: what}]}


CASES = [
    Case("plan.assertion", NEXT + "assert: [{never: red-db -> quotes}]\n", verdict="impossible",
         weight="stop", says="information of red-db arrives at quotes"),
    Case("plan.from", OLD.replace("1.0", "1.1"), verdict="impossible", weight="stop",
         says="replaces none"),
    Case("plan.from", NEXT.replace('from: "1.0"', 'from: "0.9"'), verdict="impossible",
         weight="stop", says="replaces version 0.9"),
    Case("plan.version", OLD, verdict="impossible", weight="stop", says="1.0 is not higher"),
    Case("plan.version", OLD.replace("1.0", "1.9"), verdict="impossible", weight="stop",
         old=OLD.replace("1.0", "1.10"), says="1.9 is not higher than 1.10"),
    Case("plan.name", NEXT.replace("acme", "other"), verdict="impossible", weight="stop"),
    Case("plan.was-unknown", swap("quotes: {", "quotes: {was: prices, "), says="was prices"),
    Case("plan.was-taken", swap("quotes: {", "desk: {was: quotes, ",
                                "  desk: {coalitions: [red, market]}\n", "",
                                "q: quotes", "q: desk"),
         verdict="impossible", weight="stop", says="go on as the renamed quotes"),
    Case("plan.label-lost", NO_BLUE, conditional=True, says="if a VM still carries blue-db, it"),
    Case("plan.label-lost", NO_BLUE, running(b="blue-db"), "impossible", "stop",
         says="VM b (domain 1), labelled blue-db, loses its label"),
    Case("plan.label-unknown", NEXT, running(x="strange"), "impossible", "stop"),
    Case("plan.label-unknown", NEXT, running(x="host"), "impossible", "stop"),
    Case("plan.not-authorized", swap("{coalitions: all}", "{coalitions: [red, market]}"),
         running(b="blue-db"), "impossible", "stop"),
    Case("plan.wall-violated", swap("quotes: {", "quotes: {wall: [blue], "),
         running(r="red-db", q="quotes"), "impossible", "stop"),
    Case("plan.wall-boolean", swap("[red, blue]}\nlabels", "[red, blue, green]}\nlabels",
                                   "quotes: {", "quotes: {wall: [green], "),
         running(q="quotes"), says="shype recover"),
    Case("plan.assignment", swap("q: quotes", "q: desk"), running(q="quotes")),
    Case("plan.label-retired", RETIRED, running(b="blue-db"), "needs-revocation", "revoke",
         says="shares with nobody"),
    Case("plan.label-retired", RETIRED, conditional=True),
    Case("plan.wall-forgotten", RETIRED.replace("{blue-db: {wall: [blue]}}", "[blue-db]"),
         running(b="blue-db"), "impossible", "stop", says="blue-db: {wall: [blue]}"),
    Case("plan.label-revived", swap('"1.1"', '"1.2"', '"1.0"', '"1.1"'), running(b="blue-db"),
         "impossible", "stop", old=RETIRED),
    Case("plan.channel", NO_MARKET, channel("event.send"), "needs-revocation", "revoke",
         says="the hypervisor refuses it from the load on"),
    Case("plan.channel", NO_MARKET, channel("grant.map_read"), "needs-revocation", "revoke",
         says="goes on after the load"),
    Case("plan.channel", NO_MARKET, channel("disk.write"), "needs-revocation", "revoke",
         says="dom0 has to end it"),
    Case("plan.channel", NO_MARKET, channel("grant", "mechanism"), "needs-revocation", "revoke",
         says="stop one of the VMs"),
    Case("plan.channel-possible", NO_MARKET, running(d="desk", q="quotes"), "needs-revocation",
         "revoke", says="the state does not say whether it is in use"),
    Case("plan.channel-possible", swap("desk: {", "desk: {mechanisms: [event], "),
         running(one="desk", two="desk"), "needs-revocation", "revoke", says="two VMs labelled"),
    Case("plan.unlocked", swap(), running(q="quotes"), "impossible", "stop",
         old=OLD.replace("quotes: {", "quotes: {locked: true, "), says="would be open to dom0"),
    Case("plan.trust-changed", GUARDED.replace('"1.0"', '"1.1", from: "1.0"')
         .replace("guards:\n  quotes: {from: red, to: market, reason: r}\n", "")
         .replace("  desk:", "  quotes: {coalitions: [market]}\n  desk:"),
         running(q="quotes"), "impossible", "stop", old=GUARDED, says="stop being trusted"),
    Case("plan.channel", GUARDED.replace('"1.0"', '"1.1", from: "1.0"')
         .replace("to: market", "to: blue"),
         {**running(q="quotes", d="desk"),
          "channels": [{"a": "q", "b": "d", "operation": "event.send"}]},
         "needs-revocation", "revoke", old=GUARDED, says="uses event.send goes on after"),
    Case("plan.guard-expired", EXPIRES, verdict="impossible", weight="stop",
         today=date(2030, 6, 1), says="expired on 2030-06-01"),
    Case("plan.guard-expires", EXPIRES, today=date(2030, 5, 30)),
    Case("plan.resource", DISK, attached("/dev/b"), "needs-revocation", "revoke", says="/dev/b"),
    Case("plan.not-known", DISK, running(q="quotes"), says="which resources q use"),
    Case("plan.level-changed", level("level: low", "level: high"), ONE,
         "impossible", "stop", LEVELS, says="from low, integrity hard to high"),
    Case("plan.level-changed", level("integrity: hard}", "integrity: soft}"), ONE,
         "impossible", "stop", LEVELS, says="integrity hard to low, integrity soft"),
    Case("plan.level-changed", level("[low, high]", "[calm, high]", "level: low", "level: calm"),
         ONE, "impossible", "stop", LEVELS, says="from low, integrity hard to calm"),
    Case("plan.level-renumbered", level("[low, high]", "[high, low]"), ONE, "impossible", "stop",
         LEVELS, says="keep the level s0"),
    Case("plan.level-renumbered", level("[low, high]", "[high, low]"), None, "clean", "note",
         LEVELS, says="if a VM still carries web", conditional=True),
    Case("plan.level-renumbered", level("[ka, kb]", "[kb, ka]", "level: low",
                                         'level: "low {ka}"'), ONE, "impossible", "stop",
         LEVELS.replace("level: low", 'level: "low {ka}"'), says="s0:c0"),
    Case("plan.dom0-levels", level("[low, high]", "[low, mid, high]"), None, "impossible", "stop",
         LEVELS, says="(s0-s2:c0.c2)"),
    Case("plan.dom0-levels", level("[ka, kb]", "[ka, kb, kc]"), None, "impossible", "stop", LEVELS),
    Case("plan.label-lost", level("[low, high]", "[high]", "level: low", "level: high"),
         {"domains": [{"domid": 1, "vm": "w", "label": None, "context": "u:r:l_web_t:s1"}]},
         "impossible", "stop", LEVELS, says="knows its level as s1"),
    Case("plan.window-open", NEXT, {"domains": [], "window": {"open": True}}, "impossible", "stop"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_update_gives_its_finding(case: Case) -> None:
    made = planned(case.old, case.new, case.state, case.today)
    found = [f for f in made.found if f.id == case.id]
    assert found, ids(made)
    assert found[0].weight == case.weight
    assert found[0].conditional == case.conditional
    assert case.says in f"{found[0].sentence} {found[0].fix}"
    assert made.verdict == case.verdict, [str(f) for f in made.found]


def test_the_same_policy_again_is_clean_and_changes_nothing() -> None:
    made = planned(OLD, NEXT, running(r="red-db", q="quotes", d="desk"))
    assert (made.verdict, made.found, made.groups) == ("clean", (), ())


def test_renames_change_no_pair() -> None:
    new = swap("red-db: {", "crimson: {was: red-db, ", "r: red-db", "r: crimson",
               "[red, blue, market]", "{rouge: {was: red}, blue: {}, market: {}}",
               "[red]", "[rouge]", "[red, market]", "[rouge, market]",
               "{colours: [red, blue]}", "{tints: {members: [red, blue], was: colours}}",
               "wall: [rouge]", "wall: [red]")
    made = planned(OLD, new, running(r="red-db", q="quotes", d="desk"))
    assert (made.verdict, made.found, made.groups) == ("clean", (), ())


def test_a_channel_that_stays_permitted_is_none_of_our_business() -> None:
    state = {**running(d="desk", r="red-db"), "channels": [
        {"a": "d", "b": "r", "mechanism": "grant"}, {"a": 0, "b": "r", "mechanism": "event"},
    ]}
    assert planned(OLD, NO_MARKET, state).verdict == "clean"


def test_the_weightiest_comes_first() -> None:
    made = planned(OLD, NO_BLUE.replace("from:", "was: x, from:").replace("[red, market]", "[red]"),
                   running(b="blue-db", d="desk", q="quotes"))
    weights = [finding.weight for finding in made.found]
    assert weights == sorted(weights, reverse=True, key=["note", "revoke", "stop"].index)
    assert {*weights} == {"revoke", "stop"}
    assert made.concerned(made.found[0].weight) == ((1, "b"),)

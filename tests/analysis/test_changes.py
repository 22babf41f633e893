"""What two policies declare differently, in words."""

from __future__ import annotations

import pytest

from tests.analysis.policies import NEXT, planned

BASE = """\
shype: 1
policy: {name: acme, version: "1.0"}
coalitions: {red: {}, blue: {}}
walls: {colours: [red, blue]}
levels: {order: [low, high], categories: [crew]}
integrity: {order: [soft, hard]}
labels:
  host: {coalitions: all}
  red-db: {coalitions: [red], wall: [red], level: low, integrity: hard}
  blue-db: {coalitions: [blue], level: high, integrity: hard}
guards:
  gate: {from: red, to: blue, level: [low, high], integrity: hard, reason: r}
host: {dom0: host}
vms: {r: red-db}
static: true
vectors: {day: [red-db, gate], night: all}
"""
CASES = [
    ("red: {}", "red: {mechanisms: [grant]}",
     "coalition red: opens -argo -disk -event -network"),
    ("blue: {}", "blue: {write-up: true}", "coalition blue: write-up opened"),
    ("colours: [red, blue]", "colours: [red, blue, green]", "wall colours: members +green"),
    ("colours: [", "tints: [", "wall tints: added"),
    ("colours: [red, blue]", "tints: {members: [red, blue], was: colours}",
     "wall tints: renamed, was colours"),
    ("order: [low, high]", "order: [low, mid, high]",
     "levels order: low, high -> low, mid, high"),
    ("[crew]", "[crew, staff]", "levels categories: +staff"),
    ("wall: [red], level", "level", "label red-db: wall -red"),
    ('level: high,', 'level: "high {crew}",', "label blue-db: level high -> high {crew}"),
    ("high, integrity: hard", "high, integrity: soft", "label blue-db: integrity hard -> soft"),
    ("blue-db: {", "blue-db: {mechanisms: [event], ",
     "label blue-db: mechanisms -argo -disk -grant -network -xenstore"),
    ("blue-db: {", "blue-db: {object-manager: true, ", "label blue-db: is an object manager"),
    ("blue-db: {", "green-db: {was: blue-db, ", "label green-db: renamed, was blue-db"),
    ("blue-db: {", "green-db: {", "label blue-db: removed"),
    ("blue-db: {", "green-db: {", "label green-db: added"),
    ("from: red, to: blue", "from: blue, to: red", "label gate: from red -> blue"),
    ("reason: r", 'reason: r, expires: "2031-01-01"', "label gate: expires never -> 2031-01-01"),
    ("reason: r", "reason: s", "label gate: another reason"),
    ("{dom0: host}", "{dom0: host, drivers: [blue-db]}", "host drivers: +blue-db"),
    ("{dom0: host}\nvms: {r: red-db}\nstatic: true\nvectors: {day: [red-db, gate], night: all}",
     "{dom0: host, updates: live, revocation: pause}", "host updates: boot -> live"),
    ("{dom0: host}\nvms: {r: red-db}\nstatic: true\nvectors: {day: [red-db, gate], night: all}",
     "{dom0: host, updates: live, revocation: pause}", "host revocation: refuse -> pause"),
    ("{r: red-db}", "{r: blue-db}", "vm r: label red-db -> blue-db"),
    ("{r: red-db}", "{s: red-db}", "vm r: assignment removed"),
    ("{r: red-db}", "{r: red-db, s: red-db}", "vm s: assigned red-db"),
    ("[red-db, gate]", "[red-db]", "vector day: labels -gate"),
    ("night: all", "dusk: [gate]", "vector dusk: labels +gate"),
    ("night: all", "dusk: [gate]", "vector night: removed"),
    ("{day: [red-db, gate], night: all}", "{night: all, day: [red-db, gate]}",
     "policy vectors: at boot day -> night"),
    ("static: true\nvectors: {day: [red-db, gate], night: all}\n", "static: false\n",
     "policy static: not static any more"),
]


@pytest.mark.parametrize(("before", "after", "told"), CASES, ids=[case[2] for case in CASES])
def test_a_change_is_told(before: str, after: str, told: str) -> None:
    assert before in BASE
    new = BASE.replace(before, after).replace('"1.0"', '"1.1", from: "1.0"')
    made = planned(BASE, new)
    assert told in [f"{c.kind} {c.name}: {c.what}" for c in made.changes]
    assert all(change.places for change in made.changes)


def test_nothing_changed_is_told_of_the_same() -> None:
    assert planned(BASE, BASE.replace('"1.0"', '"1.1", from: "1.0"')).changes == ()
    assert planned(NEXT, NEXT).changes == ()

"""The proof, case by case: what counts as a path, for whom, and how many."""

from __future__ import annotations

import pytest

from shype.analysis.assertions.prove import prove
from shype.analysis.assertions.result import Result
from shype.analysis.flows.graph import FlowGraph
from shype.decision.security_server import SecurityServer
from shype.policy.loader import check_assertions_text, check_text

#: Two proxies that are alike, a driver domain, a shared disk, a wall, a guard.
POLICY = """\
shype: 1
policy: {name: p, version: "1.0"}
coalitions: [web, inner, wire, shelf, out, red, blue]
walls: {colours: [red, blue]}
labels:
  boss: {coalitions: all}
  nic: {coalitions: [wire]}
  client: {coalitions: [web, wire], mechanisms: [event, grant]}
  proxy-1: {coalitions: [web, inner], mechanisms: [grant]}
  proxy-2: {coalitions: [web, inner], mechanisms: [grant]}
  db: {coalitions: [inner, shelf]}
  laptop: {coalitions: [wire], mechanisms: [event]}
  press: {coalitions: [out]}
  red-vm: {coalitions: [red], wall: [red]}
  red-blue: {coalitions: [red, blue]}
  blue-vm: {coalitions: [blue], wall: [blue]}
  hermit: {}
guards:
  release: {from: shelf, to: out, reason: r}
host: {dom0: boss, drivers: [nic]}
resources:
  - {disk: /dev/shared, coalitions: [shelf]}
"""


def proved(*entries: str) -> list[Result]:
    """The verdicts on these entries about `POLICY`."""
    policy, findings = check_text(POLICY, "p.yaml")
    assert policy is not None, findings
    text = "shype-assert: 1\nassert:\n" + "".join(f"  - {entry}\n" for entry in entries)
    found, findings = check_assertions_text(text, "a.yaml", policy)
    assert found is not None, findings
    server = SecurityServer(policy)
    return list(prove(server, FlowGraph(server), found))


@pytest.mark.parametrize(("entry", "count", "about"), [
    ("{never: client -> db}", 1, 1),
    ("{never: db -> client, via: [event]}", 0, 1),
    # Of two labels that are alike, one is not enough to be named.
    ("{only-through: client -> db, by: [proxy-1]}", 1, 1),
    ("{only-through: client -> db, by: [proxy-1, proxy-2]}", 0, 1),
    ("{only-through: proxy-* -> db, by: [proxy-1]}", 1, 1),
    # Labels that are alike are still two; a label with itself counts only by its name.
    ("{never: proxy-1 -> proxy-2}", 1, 1),
    ("{never: proxy-* -> proxy-*}", 2, 2),
    ("{never: proxy-1 -> proxy-1}", 1, 1),
    ("{never: hermit -> hermit}", 0, 1),
    ('{never: "proxy-[1] -> proxy-*"}', 1, 1),
    # A driver domain is passed like anybody; so is a guard; dom0 only if it is asked for.
    ("{never: client -> laptop}", 1, 1),
    ("{only-through: client -> laptop, by: [nic]}", 1, 1),  # they share the wire as well
    ("{never: db -> press}", 1, 1),
    ("{only-through: everyone -> press, by: [release]}", 0, 10),
    ("{never: red-vm -> db}", 0, 1),
    ("{never: red-vm -> db, through: dom0}", 1, 1),
    ("{never: red-vm -> db, through: dom0, via: [argo]}", 0, 1),
    # Never at once, and yet: red-blue goes on running.
    ("{never: red-vm -> blue-vm}", 1, 1),
    ("{only-through: red-vm -> blue-vm, by: [red-blue]}", 0, 1),
    ("{exactly: [red-vm -> red-blue, red-blue -> red-vm], among: [blue-vm, db]}", 2, 12),
    ("{exactly: [red-vm -> blue-vm]}", 1, 2),
    ("{exactly: [], among: [hermit, red-vm, blue-vm]}", 0, 6),
    ("{exactly: [db -> db, proxy-1 -> proxy-2, proxy-2 -> proxy-1]}", 4, 7),
    ("{none-reaches-both: [red-vm, blue-vm]}", 3, 12),
    ("{none-receives-from-both: [red-vm, blue-vm], who: red-blue}", 1, 1),
    ("{none-receives-from-both: [red-vm, db]}", 0, 12),
])
def test_verdicts(entry: str, count: int, about: int) -> None:
    (result,) = proved(entry)
    assert (result.count, result.about) == (count, about), result.finding()
    assert len(result.violations) == min(count, 3)
    assert result.holds == (count == 0)


def test_a_path_through_the_one_that_is_not_named() -> None:
    (result,) = proved("{only-through: client -> db, by: [proxy-1]}")
    assert result.violations[0].trails[0].names == ("client", "proxy-2", "db")
    assert result.violations[0].sentence == "information of client arrives at db past proxy-1"


def test_states_of_a_path_that_is_never_open_at_once() -> None:
    (result,) = proved("{never: red-vm -> blue-vm, via: [grant]}")
    trail = result.violations[0].trails[0]
    assert not trail.at_once
    assert [(s.stopped, s.started) for s in trail.states] == [
        ((), ("red-vm", "red-blue")), (("red-vm",), ("blue-vm",))]


def test_idle_is_not_violated() -> None:
    first, second = proved(
        "{only-through: hermit -> db, by: [nic]}", "{only-through: db -> press, by: [release]}")
    assert (first.holds, first.idle, second.holds, second.idle) == (True, True, True, False)
    finding = first.finding()
    assert finding is not None
    assert (finding.id, str(finding.severity)) == ("assert.idle", "warning")
    assert second.finding() is None


def test_of_many_violations_all_are_counted_and_some_are_shown() -> None:
    (result,) = proved("{never: everyone -> everyone}")
    assert result.about == 12 * 11
    assert result.count > 20
    assert len(result.violations) == 3
    finding = result.finding()
    assert finding is not None
    assert f"(and {result.count - 1} more of 132)" in finding.message

"""Every answer about walls against exhaustive search on small policies, and by tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shype.analysis.walls.coexistence import Walls
from shype.analysis.walls.maximal import MaximalSets, maximal_sets
from shype.analysis.walls.placing import needed, place
from shype.analysis.walls.question import together
from shype.analysis.walls.report import report, running
from shype.analysis.walls.sites import Site, alike, from_json, site
from shype.analysis.walls.starving import starving
from shype.analysis.walls.vacuous import FindingId, useless
from shype.base.errors import BadInput
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy
from shype.policy.names import LabelName
from tests.analysis.policies import policy
from tests.decision.reference_model import PERMISSIONS, may_authorize
from tests.decision.small_policies import small_policies, world_of

from .naive import Search

SMALL = settings(max_examples=40, deadline=None)


def modelled(found: Policy) -> Walls:
    """The model of a policy."""
    return Walls(SecurityServer(found))


class NaiveSite:
    """A host as docs/reference/walls.md describes it, and the states that it can be in."""

    def __init__(self, found: Policy, only: Iterable[str] | None = None) -> None:
        self.search, world = Search(found), world_of(found)
        may = [str(g.name) for g in found.guests
               if may_authorize(world, str(g.name)) <= PERMISSIONS]
        self.always: list[str] = []
        for name in may:
            if name in found.host.drivers and self.search.may_start(self.always, name):
                self.always.append(name)
        self.open = {
            name for name in may
            if name not in found.host.drivers and (only is None or name in only)
            and self.search.may_start(self.always, name)
        }
        self.states = {
            state for state in self.search.sets
            if state <= self.open | {*self.always} and state >= {*self.always}
        }

    def refuses(self, state: frozenset[str], label: str) -> bool:
        """Whether ``label`` cannot start in ``state``."""
        if label in self.always:
            return False
        return label not in self.open or not self.search.may_start([*state], label)


@SMALL
@given(small_policies(levels=False))
def test_what_runs_on_a_host_and_its_maximal_sets(found: Policy) -> None:
    made, naive = modelled(found), NaiveSite(found)
    one = site(made)
    assert [*map(str, one.always)] == naive.always
    assert {*map(str, one.open)} == naive.open
    assert {*one.refused} == {str(g.name) for g in found.guests} - naive.open - {*naive.always}
    sets = maximal_sets(made, running(made, one))
    assert sets.complete
    combined = expand(sets)
    largest = [s for s in naive.states if not any(s < other for other in naive.states)]
    assert {*map(frozenset, combined)} == {*largest}
    assert sets.count == len(combined) == len(largest)
    assert sets.most == (max(map(len, largest)),) * 2


def expand(sets: MaximalSets) -> list[list[LabelName]]:
    """Every combination."""
    return [
        [*sets.free, *(n for part, chosen in zip(sets.parts, choice, strict=True)
                       for n in part.labels(chosen))]
        for choice in product(*(part.sets for part in sets.parts))
    ]


@SMALL
@given(small_policies(levels=False))
def test_hosts_needed_is_the_smallest_number_of_states_that_hold_all(found: Policy) -> None:
    made, naive = modelled(found), NaiveSite(found)
    answer = needed(made, running(made, site(made)))
    everyone = frozenset(naive.open) | {*naive.always}
    # In a state of a host, those that always run are there anyway.
    fewest = next(
        n for n in range(9)
        if (n and any(frozenset().union(*c) == everyone for c in combinations(naive.states, n)))
        or (not n and not everyone)
    )
    assert answer.least == answer.enough == fewest == len(answer.hosts)
    assert frozenset(n for names in answer.hosts for n in names) == everyone
    for names in answer.hosts:
        assert made.reachable(names)
    for a, b in combinations(answer.apart, 2):
        assert not made.coexist(a, b)


def sites_of(
    found: Policy, made: Walls, only: list[set[str]]
) -> tuple[list[Site], list[NaiveSite]]:
    """Hosts on which only these may start, and what search says about them."""
    hosts = [site(made, f"h{i}", labels=map(LabelName, labels)) for i, labels in enumerate(only)]
    return hosts, [NaiveSite(found, labels) for labels in only]


def drawn_hosts(found: Policy, data: st.DataObject) -> list[set[str]]:
    """Up to three hosts, with the labels that may start on each."""
    guests = [str(g.name) for g in found.guests]
    return [
        {g for i, g in enumerate(guests) if bits >> i & 1}
        for bits in data.draw(
            st.lists(st.integers(0, 2 ** len(guests) - 1), min_size=1, max_size=3))
    ]


@SMALL
@given(small_policies(levels=False), st.data())
def test_labels_run_together_on_hosts_iff_some_states_hold_them(
    found: Policy, data: st.DataObject
) -> None:
    made = modelled(found)
    hosts, naive = sites_of(found, made, drawn_hosts(found, data))
    wanted = data.draw(st.lists(st.sampled_from([g.name for g in found.guests]), max_size=4))
    possible = any(
        {*map(str, wanted)} <= frozenset().union(*states)
        for states in product(*(n.states for n in naive))
    )
    answer = together(made, hosts, wanted)
    assert answer.possible == possible
    if not possible:
        assert answer.obstacles or len(hosts) > 1
        return
    # Replayed on hosts with only those that always run.
    now = {host.name: list(host.always) for host in hosts}
    for start in answer.trace:
        there = naive[[h.name for h in hosts].index(start.host)]
        assert start.label in there.open
        assert there.search.may_start(now[start.host], start.label)
        now[start.host].append(start.label)
        assert start.running == (*now[start.host],)
    assert {name: [*names] for name, names in answer.state.items()} == now
    assert {*wanted} <= {name for names in now.values() for name in names}


@SMALL
@given(small_policies(levels=False), st.data())
def test_a_label_starves_iff_some_states_keep_it_out_of_all_hosts(
    found: Policy, data: st.DataObject
) -> None:
    made = modelled(found)
    assume(found.walls)
    hosts, naive = sites_of(found, made, drawn_hosts(found, data))
    for label in (g.name for g in found.guests):
        blocked = [
            [state for state in n.states if n.refuses(state, label)] for n in naive
        ]
        # Left-over VMs are no part of the answer: they end once and for all.
        blocked = [[s for s in states if not s & {*found.retired}] for states in blocked]
        answer = starving(made, hosts, label)
        assert answer.starves == all(blocked), label
        if not answer.starves:
            assert answer.free in {h.name for h in hosts}
            continue
        assert answer.never == (not any(label in n.open for n in naive))
        assert answer.exact
        always = {name for n in naive for name in n.always}
        fewest = min(
            len(frozenset().union(*choice) - always) for choice in product(*blocked)
        )
        assert len(answer.by) == fewest
        assert [kept.host for kept in answer.kept] == [h.name for h in hosts]
        for kept, there in zip(answer.kept, naive, strict=True):
            assert kept.sentence
            if kept.never is None:
                assert kept.by in answer.by
                assert kept.by is not None
                assert kept.through
                assert there.refuses(frozenset({kept.by, *there.always}), label)
            else:
                assert label not in there.open


@SMALL
@given(small_policies(levels=False))
def test_a_wall_is_useless_iff_the_states_are_the_same_without_it(found: Policy) -> None:
    made, naive = modelled(found), NaiveSite(found)
    who = naive.open | {*naive.always, *found.retired}
    gone = [f for f in useless(made, [site(made)]) if f.id is not FindingId.UNUSED_MEMBER]
    reported = {name for name, wall in found.walls.items()
                if any(f.rules[0] == wall.span for f in gone)}
    kept = {name: wall for name, wall in found.walls.items() if name not in reported}

    def states(names: Iterable[object]) -> set[frozenset[str]]:
        left = replace(found, walls={n: found.walls[n] for n in found.walls if n in {*names}})
        return {s & who for s in Search(left).sets if s <= who | {str(found.host.dom0)}}

    assert states(kept) == states(found.walls)
    for name in kept:
        assert states(n for n in kept if n != name) != states(kept)
    vacuous = {f.rules[0] for f in gone if f.id is FindingId.VACUOUS}
    for name, wall in found.walls.items():
        assert (wall.span in vacuous) == (states([name]) == states([]))


BASE = """\
shype: 1
policy: {name: t, version: "1.0"}
coalitions: [c, d]
walls: {WALLS}
labels:
  host: {coalitions: [c]}
  one: {coalitions: [c], wall: [a]}
  also-one: {coalitions: [c], wall: [a]}
  two: {coalitions: [c], wall: [b, x]}
  both: {coalitions: [c], wall: [a, y]}
  foreign: {coalitions: [d], wall: [f]}
  net: {coalitions: [c], wall: [n]}
  free: {coalitions: [c]}
host: {dom0: host, drivers: [net]}
retired: {gone: {wall: [r]}}
"""
ALL = "w: [a, b], v: [x, y], u: [f, n, r]"


@pytest.mark.parametrize(("walls", "id", "text"), [
    (f"{ALL}, t: [p, q]", FindingId.VACUOUS, "t can never refuse a start: no label holds a member"),
    (f"{ALL}, t: [a, q]", FindingId.VACUOUS,
     "only a is held, by one, also-one and both; of the other members (q) no label holds any"),
    (f"{ALL}, t: [a, f]", FindingId.VACUOUS,
     "only a is held by a label that ever runs: foreign never starts"),
    (f"{ALL}, t: [a, b]", FindingId.IMPLIED,
     "the wall t refuses nothing that the wall w does not refuse as well"),
    (ALL, FindingId.IMPLIED, "the wall v refuses nothing that the wall w does not"),
    (f"{ALL}, t: [a, b, q]", FindingId.UNUSED_MEMBER, "no label holds q of the wall t"),
    (f"{ALL}, t: [a, b, n]", FindingId.NEVER_STARTS,
     "two never starts: net always runs on host 1. two and net may not run on one host at the "
     "same time: the wall t separates b from n."),
    (f"{ALL}, t: [f, r]", FindingId.VACUOUS, "only r is held by a label that ever runs"),
])
def test_findings(walls: str, id: FindingId, text: str) -> None:
    made = modelled(policy(BASE.replace("{WALLS}", "{" + walls + "}")))
    found = [f for f in report(made, alike(made, 1)).findings if f.id is id and text in f.sentence]
    assert len(found) == 1
    assert found[0].fix
    assert all(span.line for span in found[0].rules)


def test_a_wall_that_only_a_left_over_vm_holds_is_not_vacuous() -> None:
    text = BASE.replace("{WALLS}", "{w: [a, b], v: [x, y], u: [f, n], t: [r, a]}")
    made = modelled(policy(text))
    found = report(made, alike(made, 1))
    assert FindingId.VACUOUS not in {f.id for f in found.findings if "wall t" in f.sentence}
    assert [(one.label, one.labels) for one in found.left_over] == [
        ("gone", ("one", "also-one", "both"))]


def test_a_left_over_vm_excludes_nobody_by_what_it_holds_itself() -> None:
    text = BASE.replace("{WALLS}", "{w: [a, b], v: [x, y], u: [f, n, r], t: [r, a]}")
    made = modelled(policy(text.replace("wall: [r]", "wall: [r, a]")))
    [found] = [f for f in report(made, alike(made, 1)).findings if "wall t" in f.sentence]
    assert found.id is FindingId.VACUOUS
    assert "the retired gone holds several of its members" in found.sentence


def test_a_wall_between_labels_that_share_no_host_is_vacuous() -> None:
    made = modelled(policy(BASE.replace("{WALLS}", "{" + ALL + "}")))
    found = useless(made, hosts_of(
        made, {"name": "p", "labels": ["one", "both"]}, {"name": "q", "labels": ["two"]}))
    assert [f.sentence for f in found][:2] == [
        f"the wall {name} can never refuse a start: its members are held by labels that have no "
        "host in common" for name in "wv"
    ]


def hosts_of(made: Walls, *entries: object) -> tuple[Site, ...]:
    """Hosts as a file names them."""
    return from_json(made, {"hosts": list(entries)})


def test_hosts_of_a_file_and_who_may_start_there() -> None:
    made = modelled(policy(BASE.replace("{WALLS}", "{" + ALL + "}")))
    left, one, two = hosts_of(
        made, {"name": "left", "labels": ["one", "free"], "always": []},
        {"name": "right", "count": 2, "dom0": "free", "always": ["two"]})
    assert not left.always
    assert {*left.open} == {"one", "free"}
    assert left.refused[LabelName("net")].sentence == "net is not among the labels of left."
    assert (one.name, two.name) == ("right 1", "right 2")
    assert [*two.always] == ["two"]
    assert {*two.open} == {"net"}
    assert two.refused[LabelName("one")].by == "two"
    assert "it is dom0's own label" in two.refused[LabelName("free")].sentence
    assert starving(made, (left, two), LabelName("free")).free == "left"
    assert "not in the coalition d" in two.refused[LabelName("foreign")].sentence


@pytest.mark.parametrize("value", [
    [], {}, {"hosts": []}, {"hosts": [1]}, {"hosts": [{}]}, {"hosts": [{"name": "a", "x": 1}]},
    {"hosts": [{"name": "a"}, {"name": "a"}]}, {"hosts": [{"name": "a", "count": 0}]},
    {"hosts": [{"name": "a", "count": 1001}]}, {"hosts": [{"name": "a", "count": True}]},
    {"hosts": [{"name": "a", "labels": "one"}]}, {"hosts": [{"name": "a", "dom0": 1}]},
    {"hosts": [{"name": "a", "always": [1]}]}, {"hosts": [{"name": "a"}], "more": 1},
])
def test_what_names_no_hosts_is_refused(value: object) -> None:
    made = modelled(policy(BASE.replace("{WALLS}", "{" + ALL + "}")))
    with pytest.raises(BadInput, match=r"walls\.hosts"):
        from_json(made, value)


@pytest.mark.parametrize("key", ["labels", "always"])
def test_unknown_labels_of_a_host_are_refused(key: str) -> None:
    made = modelled(policy(BASE.replace("{WALLS}", "{" + ALL + "}")))
    with pytest.raises(BadInput, match=r"label\.unknown"):
        hosts_of(made, {"name": "a", key: ["nobody"]})
    with pytest.raises(BadInput, match=r"label\.unknown"):
        hosts_of(made, {"name": "a", "dom0": "gone"})


def rivals(count: int) -> Walls:
    """One wall with ``count`` members, a label for each."""
    members = [f"m{n}" for n in range(count)]
    labels = "\n".join(f"  l{n}: {{coalitions: [c], wall: [m{n}]}}" for n in range(count))
    return modelled(policy(
        'shype: 1\npolicy: {name: r, version: "1.0"}\ncoalitions: [c]\n'
        f"walls: {{w: [{', '.join(members)}]}}\nlabels:\n  host: {{coalitions: all}}\n{labels}\n"
        "host: {dom0: host}\n"))


def test_one_host_too_few_is_seen_without_trying_all_placements() -> None:
    made = rivals(40)
    hosts = [site(made, f"h{n}", labels=[LabelName(f"l{m}") for m in range(40) if m != n])
             for n in range(39)]
    everyone = [LabelName(f"l{n}") for n in range(40)]
    assert place(made, hosts, everyone, steps=10_000).possible is False
    assert place(made, hosts, everyone[:-1], steps=10_000).possible


def test_hosts_that_differ_are_not_tried_for_each_other() -> None:
    made = rivals(3)
    hosts = [site(made, name, labels=map(LabelName, labels)) for name, labels in (
        ("a", ["l0", "l1", "l2"]), ("b", ["l0"]), ("c", ["l1", "l2"]))]
    assert place(made, hosts, [LabelName(f"l{n}") for n in range(3)]).hosts == {
        "a": ("l1",), "b": ("l0",), "c": ("l2",)}


def test_a_search_that_is_ended_says_so() -> None:
    # A ring of seven walls of two: three hosts are needed, two are not refuted by any pair.
    ring = ", ".join(f"w{n}: [a{n}, b{n}]" for n in range(7))
    labels = "\n".join(
        f"  l{n}: {{coalitions: [c], wall: [a{n}, b{(n + 1) % 7}]}}" for n in range(7))
    made = modelled(policy(
        'shype: 1\npolicy: {name: r, version: "1.0"}\ncoalitions: [c]\n'
        f"walls: {{{ring}}}\nlabels:\n  host: {{coalitions: all}}\n{labels}\n"
        "host: {dom0: host}\n"))
    chosen = running(made, site(made))
    assert (needed(made, chosen).least, needed(made, chosen).enough) == (3, 3)
    assert (needed(made, chosen, steps=1).least, needed(made, chosen, steps=1).enough) == (2, 3)
    full, cut = maximal_sets(made, chosen), maximal_sets(made, chosen, steps=1)
    assert (full.complete, full.count, full.most) == (True, 7, (3, 3))
    assert not cut.complete
    assert cut.count < 7
    assert cut.most[0] <= 3 <= cut.most[1]
    everyone = [LabelName(f"l{n}") for n in range(7)]
    assert place(made, alike(made, 2), everyone).possible is False
    assert place(made, alike(made, 2), everyone, steps=1).possible is None
    assert together(made, alike(made, 3), everyone).possible

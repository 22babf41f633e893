"""Random valid policies, for every test that wants one.

`policies()` draws a `Policy` whose spans are those of the text that
`policy_yaml` writes for it, so that reading the text gives back the very same
policy, spans included.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from shype.policy.grammar import NAME_LIMIT
from shype.policy.model import Assignment, Coalition, Enforcement, Host, Label, Policy, Wall
from shype.policy.names import UNLABELED, CoalitionName, LabelName, MemberName, VmId, WallName
from shype.policy.source import Span

#: For tests on a machine that others use too: how long an example takes proves nothing.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

#: The file name that policies drawn here carry in their spans.
SOURCE = "random.yaml"

#: Plain YAML reads these as booleans or null, so the writer must quote them: let them occur.
_TRAPS = ("no", "on", "y", "null", "true", "e1", "off", "yes", "n")

_T = TypeVar("_T", bound=str)

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def names() -> st.SearchStrategy[str]:
    """A valid name; sometimes one that YAML would misread, sometimes one of full length."""
    words = st.text(_ALPHABET + "0123456789", min_size=1, max_size=6)
    made = st.tuples(st.sampled_from(_ALPHABET), st.lists(words, min_size=0, max_size=3)).map(
        lambda parts: "-".join([parts[0], *parts[1]])
    )
    longest = st.text(_ALPHABET, min_size=NAME_LIMIT, max_size=NAME_LIMIT)
    simple = st.text(_ALPHABET, min_size=1, max_size=4)
    return st.one_of(simple, made, st.sampled_from(_TRAPS), longest).filter(
        lambda name: name != "all"
    )


def _distinct(low: int, high: int) -> st.SearchStrategy[list[str]]:
    return st.lists(names(), min_size=low, max_size=high, unique=True)


def vm_ids() -> st.SearchStrategy[str]:
    """A VM's name or UUID."""
    return st.one_of(
        st.uuids().map(str),
        names(),
        st.text(_ALPHABET + "ABC019_.+:@-", max_size=10).map("V".__add__),
    ).filter(lambda vm: vm != "Domain-0")


@st.composite
def policies(
    draw: st.DrawFn, max_labels: int = 6, max_coalitions: int = 5, max_walls: int = 3
) -> Policy:
    """A valid policy with dom0's label and up to ``max_labels`` more.

    Labels may lack coalitions, share members, be driver domains or be named
    ``unlabeled``; conflict sets overlap; dom0 may lack some coalitions.
    """
    nowhere = Span(SOURCE, 1, 1)
    coalitions = [CoalitionName(n) for n in draw(_distinct(1, max_coalitions))]
    pool = [MemberName(n) for n in draw(_distinct(2, 6))]
    walls = [
        Wall(
            WallName(name),
            frozenset(draw(st.lists(st.sampled_from(pool), min_size=2, unique=True))),
            nowhere,
        )
        for name in draw(_distinct(0, max_walls))
    ]
    declared = draw(_distinct(1, max_labels + 1))
    if draw(st.booleans()) and UNLABELED not in declared and len(declared) <= max_labels:
        declared.append(UNLABELED)
    order = draw(st.permutations(declared))
    dom0 = LabelName(draw(st.sampled_from([n for n in order if n != UNLABELED])))
    candidates = [LabelName(n) for n in order if n not in (dom0, UNLABELED)]
    drivers = frozenset(draw(_subset(candidates, 2)))
    labels = {}
    for name in map(LabelName, order):
        everything = name == dom0 or name in drivers
        shares = (
            frozenset(coalitions)
            if everything and draw(st.booleans())
            else frozenset(draw(_subset(coalitions, len(coalitions))))
        )
        members = frozenset() if name == dom0 else _members(draw, walls)
        labels[name] = Label(name, shares, members, nowhere)
    guests = [name for name in labels if name != dom0]
    ids = draw(st.lists(vm_ids(), max_size=4, unique=True)) if guests else []
    version = f"{draw(st.integers(0, 12))}.{draw(st.integers(0, 120))}"
    policy = Policy(
        name=draw(names()),
        version=version,
        source=SOURCE,
        coalitions={name: Coalition(name, nowhere) for name in coalitions},
        walls={wall.name: wall for wall in walls},
        labels=labels,
        host=Host(dom0, drivers, Enforcement.ENFORCING, nowhere),
        assignments={
            VmId(vm): Assignment(VmId(vm), draw(st.sampled_from(guests)), nowhere) for vm in ids
        },
    )
    return _layout(policy)[1]


def _subset(items: Sequence[_T], most: int) -> st.SearchStrategy[list[_T]]:
    if not items:
        return st.just([])
    return st.lists(st.sampled_from(list(items)), max_size=most, unique=True)


def _members(draw: st.DrawFn, walls: Sequence[Wall]) -> frozenset[MemberName]:
    """Members of conflict sets, at most one of each set."""
    chosen: set[MemberName] = set()
    for member in draw(_subset(sorted({m for wall in walls for m in wall.members}), 3)):
        grown = chosen | {member}
        if all(len(grown & wall.members) < 2 for wall in walls):
            chosen = grown
    return frozenset(chosen)


def policy_yaml(policy: Policy) -> str:
    """A policy file that says what ``policy`` says (whatever its spans are)."""
    return _layout(policy)[0]


def _layout(policy: Policy) -> tuple[str, Policy]:
    """The text, and ``policy`` with the spans that its parts have in the text."""
    lines: list[str] = []

    def put(line: str) -> Span:
        lines.append(line)
        return Span(policy.source, len(lines), 1 + len(line) - len(line.lstrip(" -")))

    put("# drawn at random")
    put("shype: 1")
    put(f"policy: {{name: {_quoted(policy.name)}, version: {_quoted(policy.version)}}}")
    put("coalitions:")
    coalitions = {
        name: Coalition(name, put(f"  - {_quoted(name)}")) for name in policy.coalitions
    }
    walls = {}
    if policy.walls:
        put("walls:")
        for name, wall in policy.walls.items():
            walls[name] = replace(wall, span=put(f"  {_quoted(name)}: {_flow(wall.members)}"))
    put("labels:")
    labels = {}
    for label_name, label in policy.labels.items():
        privileged = label_name == policy.host.dom0 or label_name in policy.host.drivers
        parts = []
        if privileged and label.coalitions == policy.coalitions.keys():
            parts.append("coalitions: all")
        elif label.coalitions:
            parts.append(f"coalitions: {_flow(label.coalitions)}")
        if label.members:
            parts.append(f"wall: {_flow(label.members)}")
        span = put(f"  {_quoted(label_name)}: {{{', '.join(parts)}}}")
        labels[label_name] = replace(label, span=span)
    host_span = put("host:")
    put(f"  dom0: {_quoted(policy.host.dom0)}")
    if policy.host.drivers:
        put(f"  drivers: {_flow(policy.host.drivers)}")
    put(f"  minimum: {policy.host.minimum}")
    assignments = {}
    if policy.assignments:
        put("vms:")
        for vm, assignment in policy.assignments.items():
            span = put(f"  {_quoted(vm)}: {_quoted(assignment.label)}")
            assignments[vm] = replace(assignment, span=span)
    placed = replace(
        policy, coalitions=coalitions, walls=walls, labels=labels,
        host=replace(policy.host, span=host_span), assignments=assignments,
    )
    return "\n".join(lines) + "\n", placed


def _flow(items: Iterable[str]) -> str:
    return "[" + ", ".join(_quoted(item) for item in sorted(items)) + "]"


def _quoted(text: str) -> str:
    return json.dumps(text)

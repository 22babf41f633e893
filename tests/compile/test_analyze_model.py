"""Nothing happens in a small hypervisor that `analyze` says cannot.

The model is operational: it creates two domains, relabels them, opens the ends of a channel,
maps and uses what the checks of xen/xsm/flask/hooks.c let it, one operation at a time, under
one setting of the booleans and with a user for each label. It has no rows and no formulas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.compile.flask import tables
from shype.compile.flask.analyze import flows
from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.compile.flask.reader import Access, Binary, Constraint, Context

TYPES = ("dom0_t", "a", "b", "x", "xen_t")
_USED = {
    "domain": ("create", "transition", "set_target"), "event": ("create", "bind", "send"),
    "mmu": ("map_read",), "grant": ("copy",),
}
_PAIRS = tuple((cls, name) for cls, names in _USED.items() for name in names)
_TABLE = tables.load("xen-4.17")
_LEVEL = MlsRange(MlsLevel(0), MlsLevel(0))

_EXPRESSIONS: tuple[tuple[str | tuple[str, ...], ...], ...] = (
    ("u1", "u2", "=="), ("u1", ("u",), "==", "t2", ("a", "b"), "==", "or"),
    ("t1", ("a",), "!="), ("t1", "t2", "==", "not"), ("u2", ("v",), "==", "not"),
)
#: How often a rule is there: some permissions would make all labels alike.
_RARE = {"transition": 0.06, "set_target": 0.12}

Rule = tuple[str, str, tuple[str, str], int, bool]


def drawn(seed: int, *, doubts: bool) -> Binary:
    """A random policy; without ``doubts`` no booleans, constraints, relabelling, device models."""
    chance = Random(seed)
    usual = chance.choice((0.3, 0.5, 0.8))
    rules: list[Rule] = []
    for source, target, pair in product(TYPES, TYPES, _PAIRS):
        rare = _RARE.get(pair[1], usual)
        if chance.random() < (rare if doubts or pair[1] not in _RARE else 0):
            condition = 0 if doubts and chance.random() < 0.3 else -1
            rules.append((source, target, pair, condition, chance.random() < 0.5))
    changes = {
        (source, target, cls): chance.choice(TYPES)
        for source, target, cls in product(TYPES, TYPES, ("domain", "event"))
        if chance.random() < 0.2
    }
    limits = [
        (chance.choice(_PAIRS), chance.choice(_EXPRESSIONS)) for _ in range(chance.randrange(3))
    ] if doubts else []
    return policy(rules, changes, limits, ("u", "v") if doubts else ("u",))


def policy(
    found: list[Rule],
    changes: dict[tuple[str, str, str], str],
    limits: list[tuple[tuple[str, str], tuple[str | tuple[str, ...], ...]]],
    users: tuple[str, ...],
) -> Binary:
    sids = {"dom0": "dom0_t"}
    return Binary(
        reader="test", platform="xen", version=30, mls=False, unknown="deny",
        classes={cls: frozenset(names) for cls, names in _TABLE.classes.items()},
        types=TYPES, aliases={}, attributes={},
        allows=tuple(
            Access(source, target, cls, (name,), condition, branch or condition < 0)
            for source, target, (cls, name), condition, branch in found
        ),
        expressions=(("flag",),), transitions=changes,
        constraints=tuple(
            Constraint("constrain", cls, frozenset({name}), expression)
            for (cls, name), expression in limits
        ),
        booleans={"flag": True}, roles={"r": frozenset(TYPES)},
        users=tuple(f"user {user} roles {{ r }};" for user in users), levels={},
        sensitivities=(), categories=(),
        sids=tuple(
            Context("u", "r", sids.get(sid, "xen_t"), _LEVEL) for sid in _TABLE.initial_sids
        ),
        objects=(), other=(),
    )


@dataclass(frozen=True)
class Label:
    user: str
    type: str


@dataclass(frozen=True)
class State:
    """Labels of two domains, the label of each one's end of the channel, and mappings."""

    labels: tuple[Label, Label]
    ends: tuple[Label | None, Label | None] = (None, None)
    bound: bool = False
    mapped: tuple[bool, bool] = (False, False)
    #: By which label a device model meets its guest, if the one is that of the other.
    views: tuple[Label | None, Label | None] = (None, None)


class Xen:
    def __init__(self, binary: Binary, flag: bool) -> None:
        self.binary, self.flag = binary, flag
        self.users = [text.split()[1] for text in binary.users]
        self.may = cache(self.asked)
        self.anybody = cache(self.somebody)

    def asked(self, one: Label, other: Label, cls: str, name: str) -> bool:
        return any(
            (rule.source, rule.target, rule.cls) == (one.type, other.type, cls)
            and name in rule.permissions and (rule.condition < 0 or rule.branch is self.flag)
            for rule in self.binary.allows
        ) and all(
            _holds(constraint.expression, one, other) for constraint in self.binary.constraints
            if constraint.cls == cls and name in constraint.permissions
        )

    def transition(self, one: Label, other: Label, cls: str) -> Label:
        default = one.type if cls == "domain" else other.type
        return Label(one.user, self.binary.transitions.get((one.type, other.type, cls), default))

    def somebody(self, target: Label, cls: str, name: str) -> bool:
        return any(self.may(Label(user, type_), target, cls, name)
                   for user in self.users for type_ in TYPES)

    def seen(self, state: State, i: int) -> Label:
        """domain_target_sid() of the domain ``i`` and the other one."""
        return state.views[i] or state.labels[1 - i]

    def after(self, state: State) -> Iterator[State]:
        for i in (0, 1):
            yield from self._relabelled(state, i)
            yield from self._opened(state, i)
            mine, peer = state.labels[i], state.labels[1 - i]
            if self.may(mine, self.seen(state, i), "mmu", "map_read"):
                yield replace(state, mapped=_with(state.mapped, i, True))
            if state.views == (None, None) and self.may(mine, peer, "domain", "set_target"):
                view = self.transition(peer, mine, "domain")
                yield replace(state, views=_with(state.views, i, view))

    def _relabelled(self, state: State, i: int) -> Iterator[State]:
        for type_ in TYPES:
            new = Label(state.labels[i].user, type_)
            if self.may(state.labels[i], new, "domain", "transition"):
                yield replace(state, labels=_with(state.labels, i, new))

    def _opened(self, state: State, i: int) -> Iterator[State]:
        """EVTCHNOP_alloc_unbound by whoever may, then EVTCHNOP_bind_interdomain by ``i``.

        The hypervisor can do both at boot (static channels on Arm).
        """
        mine, seen = state.labels[i], self.seen(state, i)
        end = self.transition(mine, seen, "event")
        if state.bound or not self.may(end, seen, "event", "bind"):
            return
        if state.ends[i] is None and self.anybody(end, "event", "create"):
            yield replace(state, ends=_with(state.ends, i, end))
        theirs = state.ends[1 - i]
        boot = any(self.may(Label(user, "xen_t"), end, "event", "create") for user in self.users)
        if theirs is not None and (boot or self.may(mine, end, "event", "create")) and (
            self.may(theirs, self.seen(state, 1 - i), "event", "bind")
        ):
            yield replace(state, ends=_with(state.ends, i, end), bound=True)

    def flows(self, state: State) -> Iterator[tuple[str, str, str]]:
        for i in (0, 1):
            mine, peer = state.labels[i], state.labels[1 - i]
            end = state.ends[i]
            if state.bound and end is not None and self.may(mine, end, "event", "send"):
                yield "event", mine.type, peer.type
            if state.mapped[i]:
                yield "memory", peer.type, mine.type
            if self.may(mine, self.seen(state, i), "grant", "copy"):
                yield "grant", mine.type, peer.type


def _with(pair: tuple, index: int, value: object) -> tuple:  # type: ignore[type-arg]
    return (value, pair[1]) if index == 0 else (pair[0], value)


def _holds(expression: tuple[str | tuple[str, ...], ...], one: Label, other: Label) -> bool:
    values = {"u1": one.user, "u2": other.user, "t1": one.type, "t2": other.type}
    stack: list[object] = []
    for token in expression:
        if token == "not":
            stack.append(not stack.pop())
        elif token in ("or", "==", "!="):
            right, left = stack.pop(), stack.pop()
            if token == "or":
                stack.append(bool(left) or bool(right))
            else:
                same = left in right if isinstance(right, tuple) else left == right
                stack.append(same if token == "==" else not same)
        else:
            stack.append(values.get(token, token) if isinstance(token, str) else token)
    return bool(stack[0])


def happens(binary: Binary, before: bool, now: bool) -> set[tuple[str, str, str]]:
    """What flows under the boolean's value ``now``, after it was ``before`` when things began."""
    xen = Xen(binary, before)
    labels = [
        Label(user, type_) for user in xen.users for type_ in TYPES
        if type_ == "dom0_t" or xen.anybody(Label(user, type_), "domain", "create")
    ]
    # An unlabeled domain has the type of that SID, and any domain can end so.
    labels.append(Label("u", binary.sids[_TABLE.initial_sids.index("unlabeled")].type))
    states = {State((one, other)) for one, other in product(labels, repeat=2)}
    for flag in dict.fromkeys((before, now)):
        xen = Xen(binary, flag)
        states = reached(xen, states)
    return {flow for state in states for flow in xen.flows(state)}


def reached(xen: Xen, ahead: set[State]) -> set[State]:
    seen: set[State] = set()
    while ahead:
        state = ahead.pop()
        seen.add(state)
        ahead |= {new for new in xen.after(state) if new not in seen}
    return seen


def says(
    binary: Binary, fixed: dict[str, bool], *, always: bool = False
) -> set[tuple[str, str, str]]:
    found = flows.analyse(binary, xen="4.17", fixed=fixed, always=always)
    types = found.names.types
    return {
        (kind.mechanism, types[i], types[j]) for kind, rows in found.rows.items()
        for i, row in enumerate(rows) for j in range(len(types)) if row >> j & 1
    }


_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(_SETTINGS, max_examples=12)
@given(st.integers(0, 1 << 32), st.booleans(), st.booleans())
def test_what_happens_was_said_to_be_possible(seed: int, before: bool, now: bool) -> None:
    binary = drawn(seed, doubts=True)
    done = happens(binary, before, now)
    assert done <= says(binary, {})
    assert done <= says(binary, {"flag": now})
    if before is now:
        assert done <= says(binary, {"flag": now}, always=True)


@settings(_SETTINGS, max_examples=40)
@given(st.integers(0, 1 << 32))
def test_and_without_doubts_nothing_else_is_said(seed: int) -> None:
    """Without constraints, booleans, relabelling and device models the answer is exact."""
    binary = drawn(seed, doubts=False)
    analysed = flows.analyse(binary, xen="4.17")
    domains = {analysed.names.types[i] for i in range(len(TYPES))
               if analysed.parts.domains >> i & 1}
    said = {(by, one, other) for by, one, other in says(binary, {})
            if by in ("event", "memory", "grant") and {one, other} <= domains}
    assert said == happens(binary, True, True)

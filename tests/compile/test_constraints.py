"""The interpreter of constraints, against one that looks at one pair of contexts at a time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.compile.flask.constraints import Interpreter, Malformed
from shype.compile.flask.matrix import Names
from shype.compile.flask.mls import MlsLevel, MlsRange
from shype.compile.flask.reader import Constraint, Context, Token
from tests.policy.strategies import PATIENT

TYPES = ("a_t", "b_t", "c_t", "d_t")
NAMES = Names(TYPES, {"ab": ("a_t", "b_t"), "cd": ("c_t", "d_t")})
MEMBERS = {"ab": {"a_t", "b_t"}, "cd": {"c_t", "d_t"}, **{t: {t} for t in TYPES}}

_LEVEL = st.builds(MlsLevel, st.integers(0, 2), st.integers(0, 7))
_RANGE = st.builds(MlsRange, _LEVEL, _LEVEL)
_LEVEL_TERM = st.tuples(
    st.sampled_from(["l1", "h1", "l2", "h2"]), st.sampled_from(["l1", "h1", "l2", "h2"]),
    st.sampled_from(["dom", "domby", "incomp", "==", "!="]),
)
_SET_TERM = st.one_of(
    st.tuples(st.sampled_from(["t1", "t2"]),
              st.lists(st.sampled_from([*MEMBERS]), min_size=1, max_size=2).map(tuple),
              st.sampled_from(["==", "!="])),
    st.tuples(st.sampled_from(["r1", "r2"]), st.just(("r",)), st.sampled_from(["==", "!="])),
    st.sampled_from([("t1", "t2", "=="), ("r1", "r2", "!="), ("u1", "u2", "==")]),
)
_EXPRESSION: st.SearchStrategy[tuple[Token, ...]] = st.recursive(
    st.one_of(_LEVEL_TERM, _SET_TERM),
    lambda inner: st.one_of(
        inner.map(lambda tokens: (*tokens, "not")),
        st.tuples(inner, inner, st.sampled_from(["and", "or"])).map(
            lambda made: (*made[0], *made[1], made[2])
        ),
    ),
    max_leaves=6,
)


def naive(
    expression: tuple[Token, ...], source: Context, target: Context,
    members: Mapping[str, set[str]] = MEMBERS,
) -> bool:
    """One pair, as constraint_expr_eval() goes about it."""
    values: dict[str, object] = {
        "t1": source.type, "t2": target.type, "r1": source.role, "r2": target.role,
        "u1": source.user, "u2": target.user, "l1": source.range.low, "h1": source.range.high,
        "l2": target.range.low, "h2": target.range.high,
    }
    stack: list[object] = []
    for token in expression:
        if isinstance(token, tuple):
            stack.append(set().union(*(members.get(name, {name}) for name in token)))
        elif token in values:
            stack.append(values[token])
        elif token == "not":
            stack.append(not stack.pop())
        else:
            right, left = stack.pop(), stack.pop()
            if token == "and":
                stack.append(left and right)
            elif token == "or":
                stack.append(left or right)
            elif isinstance(right, set):
                stack.append((left in right) is (token == "=="))
            elif isinstance(left, MlsLevel) and isinstance(right, MlsLevel):
                up, down = left.dominates(right), right.dominates(left)
                stack.append({
                    "dom": up, "domby": down, "incomp": not up and not down,
                    "==": left == right, "!=": left != right,
                }[token])
            else:
                stack.append((left == right) is (token == "=="))
    (result,) = stack
    return bool(result)


def _contexts(ranges: list[MlsRange], roles: list[str]) -> list[Context]:
    return [Context("u", roles[i], type_, ranges[i]) for i, type_ in enumerate(TYPES)]


@PATIENT
@given(
    expression=_EXPRESSION, ranges=st.lists(_RANGE, min_size=4, max_size=4),
    roles=st.lists(st.sampled_from(["r", "object_r"]), min_size=4, max_size=4),
    source=st.integers(0, 3), fixed=st.none() | _LEVEL, follow=st.booleans(),
)
def test_agrees_with_one_pair_at_a_time(
    expression: tuple[Token, ...], ranges: list[MlsRange], roles: list[str], source: int,
    fixed: MlsLevel | None, follow: bool,
) -> None:
    contexts = _contexts(ranges, roles)
    constraint = Constraint("mlsconstrain", "event", frozenset({"bind"}), expression)
    who = contexts[source]
    found = Interpreter(NAMES, contexts).holds(constraint, who, follow=follow, fixed=fixed)
    for i, target in enumerate(contexts):
        whom = target if fixed is None else Context(
            "u", "object_r", target.type, MlsRange(fixed, fixed)
        )
        subject = Context("u", "object_r", target.type, who.range) if follow else who
        assert bool(found >> i & 1) is naive(expression, subject, whom), (subject, whom)


@pytest.mark.parametrize(
    "expression",
    [
        (), ("l1",), ("l1", "l2"), ("and",), ("l1", "l2", "dom", "l1", "l2", "dom"), ("not",),
        ("l1", ("a_t",), "=="), ("t1", "l2", "=="), ("x", "y", "=="), ("t1", "t2", "dom"),
        ("l1", "l2", "above"), ("l1", "not"),
    ],
)
def test_what_makes_no_sense_is_refused(expression: tuple[Token, ...]) -> None:
    contexts = _contexts([MlsRange(MlsLevel(0), MlsLevel(0))] * 4, ["r"] * 4)
    constraint = Constraint("mlsconstrain", "grant", frozenset({"copy"}), expression)
    with pytest.raises(Malformed):
        Interpreter(NAMES, contexts).holds(constraint, contexts[0])

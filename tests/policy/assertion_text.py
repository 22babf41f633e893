"""Random assertions about a policy, and the text that says them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from shype.policy.assertions import (
    Arrow,
    Assertion,
    By,
    Exactly,
    LevelsKept,
    Never,
    NoneBoth,
    OnlyThrough,
    Selector,
    Terms,
    choice,
    kind_of,
)
from shype.policy.mechanism import SWITCHABLE
from shype.policy.model import Policy
from shype.policy.names import LabelName
from shype.policy.source import Span
from shype.policy.validate_assertions import any_pair

_NOWHERE = Span("", 1, 1)


@st.composite
def selectors(draw: st.DrawFn, policy: Policy) -> Selector:
    """One that chooses something."""
    known = choice(policy)
    texts = [(By.EVERYONE, ""), *((By.PATTERN, name) for name in known.labels)]
    texts += [(By.PATTERN, f"{name[0]}*") for name in known.labels]
    texts += [(By.COALITION, name) for name in known.coalitions]
    texts += [(By.WALL, name) for name in known.members]
    made = [Selector(by, text, _NOWHERE) for by, text in sorted(texts)]
    return draw(st.sampled_from([
        one for one in made
        if known.names(one) and not (one.by is By.PATTERN and one.text == By.EVERYONE)
    ]))


@st.composite
def assertions(draw: st.DrawFn, policy: Policy, *, by_all: bool = False) -> Assertion | None:
    """A valid one, its places not those of any text; None if nothing valid was drawn.

    ``by_all``: without ``via`` and ``through``.
    """
    known = choice(policy)
    if not known.labels:
        return None
    labels = [LabelName(name) for name in known.labels]
    via = draw(st.none() | st.frozensets(st.sampled_from(sorted(SWITCHABLE)), min_size=1))
    terms = Terms(
        _NOWHERE, None, draw(st.none() | st.just('say "why"')), None if by_all else via,
        not by_all and draw(st.sampled_from([False, False, True])),
    )
    one = st.builds(Arrow, selectors(policy), selectors(policy))
    some = st.lists(st.sampled_from(labels), unique=True, max_size=2).map(tuple)
    match draw(st.integers(0, 4)):
        case 0:
            arrow = draw(one)
            return Never(arrow, terms) if any_pair(known, arrow) else None
        case 1:
            arrow, by = draw(one), draw(some)
            good = by and any_pair(known, arrow, by)
            return OnlyThrough(arrow, by, terms) if good else None
        case 2:
            arrows = tuple(dict.fromkeys(draw(st.lists(one, max_size=3))))
            among = draw(st.none() | st.lists(
                selectors(policy), min_size=1, max_size=2, unique=True).map(tuple))
            if not (arrows or among) or not all(any_pair(known, arrow) for arrow in arrows):
                return None
            return Exactly(arrows, among, replace(terms, dom0=False))
        case 3:
            integrity = draw(st.booleans())
            if not (known.integrity if integrity else known.levels):
                return None
            return LevelsKept(draw(selectors(policy)), integrity, draw(st.none() | some), terms)
    a, b = draw(selectors(policy)), draw(selectors(policy))
    if {*known.names(a)} & {*known.names(b)}:
        return None
    return NoneBoth(draw(selectors(policy)), (a, b), draw(st.booleans()), terms)


def written(
    found: Sequence[Assertion], file: str, line: int
) -> tuple[list[str], tuple[Assertion, ...]]:
    """The entries of ``assert``, the first in ``line``; and the assertions with their places."""
    lines, placed = [], []
    for index, assertion in enumerate(found):
        writer = _Writer(file, line + index)
        placed.append(writer.entry(assertion))
        lines.append(writer.text + "}")
    return lines, tuple(placed)


class _Writer:
    """One entry in flow style."""

    def __init__(self, file: str, line: int) -> None:
        self.text = "  - {"
        self._file, self._line = file, line

    def _here(self) -> Span:
        return Span(self._file, self._line, len(self.text) + 1)

    def _key(self, key: str) -> None:
        self.text += f"{'' if self.text.endswith('{') else ', '}{key}: "

    def _put(self, text: str) -> Span:
        span = self._here()
        self.text += json.dumps(text)
        return span

    def _selector(self, selector: Selector) -> Selector:
        return replace(selector, span=self._put(str(selector)))

    def _arrow(self, arrow: Arrow) -> Arrow:
        span = self._put(str(arrow))
        return Arrow(replace(arrow.source, span=span), replace(arrow.sink, span=span))

    def _list(self, texts: Sequence[str]) -> list[Span]:
        self.text += "["
        spans = []
        for index, text in enumerate(texts):
            self.text += ", " if index else ""
            spans.append(self._put(text))
        self.text += "]"
        return spans

    def _selectors(self, some: Sequence[Selector]) -> tuple[Selector, ...]:
        spans = self._list([str(one) for one in some])
        return tuple(replace(one, span=span) for one, span in zip(some, spans, strict=True))

    def entry(self, assertion: Assertion) -> Assertion:
        entry = Span(self._file, self._line, len(self.text))
        terms = replace(assertion.terms, span=entry)
        self._key(kind_of(assertion))
        made: Assertion
        match assertion:
            case Never():
                made = Never(self._arrow(assertion.arrow), terms)
            case OnlyThrough():
                made = OnlyThrough(self._arrow(assertion.arrow), assertion.by, terms)
                self._key("by")
                self._list(assertion.by)
            case Exactly():
                spans = self._list([str(arrow) for arrow in assertion.arrows])
                arrows = tuple(
                    Arrow(replace(a.source, span=s), replace(a.sink, span=s))
                    for a, s in zip(assertion.arrows, spans, strict=True)
                )
                among = assertion.among
                if among is not None:
                    self._key("among")
                    among = self._selectors(among)
                made = Exactly(arrows, among, terms)
            case LevelsKept():
                who = self._selector(assertion.who)
                if assertion.trusted is not None:
                    self._key("except")
                    self._list(assertion.trusted)
                made = replace(assertion, who=who, terms=terms)
            case NoneBoth():
                first, second = self._selectors(assertion.groups)
                self._key("who")
                made = NoneBoth(
                    self._selector(assertion.who), (first, second), assertion.receiving, terms)
        if terms.via is not None:
            self._key("via")
            self._list(sorted(terms.via))
        if terms.dom0:
            self._key("through")
            self.text += "dom0"
        if terms.reason is not None:
            self._key("reason")
            self._put(terms.reason)
        return made

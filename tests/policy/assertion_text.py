"""Random assertions about a policy, and the text that says them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

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
from tests.decision.small_policies import Chooser

_NOWHERE = Span("", 1, 1)


def selector(choose: Chooser, policy: Policy) -> Selector:
    """One that chooses something."""
    known = choice(policy)
    texts = [(By.EVERYONE, ""), *((By.PATTERN, name) for name in known.labels)]
    texts += [(By.PATTERN, f"{name[0]}*") for name in known.labels]
    texts += [(By.COALITION, name) for name in sorted(known.coalitions)]
    texts += [(By.WALL, name) for name in sorted(known.members)]
    made = [Selector(by, text, _NOWHERE) for by, text in texts]
    return choose.one([
        one for one in made
        if known.names(one) and not (one.by is By.PATTERN and one.text == By.EVERYONE)
    ])


def assertion(choose: Chooser, policy: Policy) -> Assertion | None:
    """A valid one, its places not those of any text; None if what was drawn is not valid."""
    known = choice(policy)
    if not known.labels:
        return None

    def arrow() -> Arrow:
        return Arrow(selector(choose, policy), selector(choose, policy))

    labels = [LabelName(name) for name in known.labels]
    via = choose.some(sorted(SWITCHABLE)) if choose.below(3) == 2 else None
    terms = Terms(
        _NOWHERE, None, choose.one([None, None, 'say "why"']), via or None, choose.below(4) == 3)
    named = tuple(dict.fromkeys(choose.one(labels) for _ in range(1 + choose.below(2))))
    match choose.below(5):
        case 0:
            one = arrow()
            return Never(one, terms) if any_pair(known, one) else None
        case 1:
            one = arrow()
            return OnlyThrough(one, named, terms) if any_pair(known, one, named) else None
        case 2:
            arrows = tuple(dict.fromkeys(arrow() for _ in range(choose.below(4))))
            among = tuple(selector(choose, policy) for _ in range(choose.below(2)))
            if not all(any_pair(known, one) for one in arrows):
                return None
            if not arrows and len(known.all_names(among)) < 2:
                return None
            return Exactly(arrows, among or None, replace(terms, dom0=False))
        case 3:
            integrity = bool(choose.below(2))
            if not (known.integrity if integrity else known.levels):
                return None
            trusted = choose.one([None, (), named])
            who = selector(choose, policy)
            if {*known.names(who)} <= {*(known.guards if trusted is None else trusted)}:
                return None
            return LevelsKept(who, integrity, trusted, terms)
    a, b = selector(choose, policy), selector(choose, policy)
    if {*known.names(a)} & {*known.names(b)}:
        return None
    return NoneBoth(selector(choose, policy), (a, b), bool(choose.below(2)), terms)


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

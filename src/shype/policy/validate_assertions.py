"""Rules about assertions: each says something, about labels that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shype.policy.asserting import kinds
from shype.policy.assertions import (
    ARROW,
    Arrow,
    By,
    Choice,
    Kind,
    Selector,
    as_arrow,
    as_selector,
)
from shype.policy.draft import Draft, DraftAssertion, Ref
from shype.policy.findings import Id, error, show
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding, Span
from shype.policy.suggest import Suggester

_SELECTORS = "a label, a pattern such as `bank-a-*`, `coalition NAME`, `wall MEMBER` or `everyone`"
_KINDS = ", ".join(f"`{kind}`" for kind in Kind)
#: The keys that not every kind of assertion can have.
_OPTIONS = {
    "by": {Kind.ONLY_THROUGH},
    "among": {Kind.EXACTLY},
    "except": {Kind.LEVELS, Kind.INTEGRITY},
    "who": {Kind.REACHES, Kind.RECEIVES},
    "through": {*Kind} - {Kind.EXACTLY},
}
_KEYS = {*_OPTIONS, "via", "name", "reason"}
_BOTH = (Kind.REACHES, Kind.RECEIVES)


def choice(draft: Draft) -> Choice | None:
    """What selectors choose from, as far as names go; None if a section cannot be read."""
    if draft.labels is None or draft.coalitions is None or draft.walls is None:
        return None
    everything = frozenset(draft.coalitions)
    dom0 = draft.dom0.text if draft.dom0 is not None else None
    return Choice(
        {
            label.name.text: (
                everything if label.everything is not None
                else frozenset(ref.text for ref in label.coalitions),
                frozenset(ref.text for ref in label.members),
            )
            for label in draft.carried if label.name.text != dom0
        },
        everything, frozenset(draft.walls_of), frozenset(draft.guards), dom0,
        draft.levels is not None, draft.integrity is not None,
    )


def assertions_are_right(case: Case) -> Iterator[Finding]:
    """All that follows, for the policy's own assertions."""
    yield from findings(case.draft.assertions, choice(case.draft), case.suggest)


def findings(
    entries: Iterable[DraftAssertion], known: Choice | None, suggest: Suggester
) -> Iterator[Finding]:
    """What is wrong with each of ``entries``; about names only if they are ``known``."""
    first: dict[str, Span] = {}
    for entry in entries:
        yield from _Entry(entry, known, suggest).findings()
        for ref in entry.texts("name"):
            if ref.text in first:
                yield error(
                    Id.ASSERT_NAME, ref.span,
                    f"another assertion is named {show(ref.text)} (line {first[ref.text].line})",
                    "rename one of them",
                )
            first.setdefault(ref.text, ref.span)


@dataclass(slots=True)
class _Entry:
    """One assertion, and what was found in it so far."""

    entry: DraftAssertion
    known: Choice | None
    suggest: Suggester
    found: list[Finding] = field(default_factory=list)

    def findings(self) -> list[Finding]:
        named = kinds(self.entry)
        if not named and not {*self.entry.keys} <= _KEYS:
            return self.found  # a misspelled kind: the structure's findings say so
        if len(named) != 1:
            second = self.entry.keys[named[1]].span if named else self.entry.span
            self._say(
                Id.ASSERT_KIND, second,
                f"this assertion says both `{named[0]}` and `{named[1]}`" if named
                else "this assertion asserts nothing",
                "write an entry for each" if named else f"add one of {_KINDS}",
            )
            return self.found
        self._options(named[0])
        self._lattice(named[0])
        if self.entry.said[named[0]] is not None:
            self._about(named[0])
        return self.found

    def _say(self, id: Id, span: Span, message: str, fix: str) -> None:
        self.found.append(error(id, span, message, fix))

    # -- the entry ----------------------------------------------------------------------------

    def _options(self, kind: Kind) -> None:
        for key, ref in self.entry.keys.items():
            if kind not in _OPTIONS.get(key, {kind}):
                takers = " or ".join(f"`{one}`" for one in Kind if one in _OPTIONS[key])
                if key == "through":
                    takers = "any other kind"
                self._say(
                    Id.ASSERT_OPTION, ref.span, f"`{kind}` has no {show(key)}",
                    f"delete it: {show(key)} belongs to {takers}",
                )
        if kind is Kind.ONLY_THROUGH and "by" not in self.entry.keys:
            self._say(
                Id.ASSERT_OPTION, self.entry.keys[kind].span,
                "`only-through` does not say through what",
                "add `by`: a list of guards, or of other labels, one of which must be passed",
            )

    def _lattice(self, kind: Kind) -> None:
        for one, section in ((Kind.LEVELS, "levels"), (Kind.INTEGRITY, "integrity")):
            there = self.known is None or getattr(self.known, section)
            if kind is one and not there:
                self._say(
                    Id.ASSERT_LEVELS, self.entry.keys[kind].span,
                    f"the policy has no section `{section}`, so that there is nothing to keep",
                    f"declare `{section}`, or delete the assertion",
                )

    def _about(self, kind: Kind) -> None:
        texts = self.entry.texts(kind)
        by = self._labels("by")
        self._labels("except")
        among = self._groups([*self.entry.texts("among"), *self.entry.texts("who")])
        if kind in (Kind.LEVELS, Kind.INTEGRITY):
            self._not_all_trusted(kind, self._groups(texts))
        elif kind in _BOTH:
            self._both(kind, texts)
        else:
            for ref in texts:
                self._arrow(ref, by)
        if kind is Kind.EXACTLY and not texts and (
            not self.entry.texts("among")
            or (among and self.known is not None and len(self.known.all_names(among)) < 2)
        ):
            self._say(
                Id.ASSERT_NOTHING, self.entry.keys[kind].span,
                "`exactly` names no two labels, so that it is about nothing",
                "list the flows, or say `among` which labels there are none",
            )

    def _not_all_trusted(self, kind: Kind, who: list[Selector]) -> None:
        if self.known is None or not who:
            return
        trusted = {ref.text for ref in self.entry.texts("except")} \
            if "except" in self.entry.keys else self.known.guards
        if {*self.known.names(who[0])} <= {*trusted}:
            self._say(
                Id.ASSERT_NOTHING, who[0].span, f"all labels of {show(str(who[0]))} are excepted",
                f"name others, or say `except` through which labels `{kind}` need not hold",
            )

    def _both(self, kind: Kind, texts: tuple[Ref, ...]) -> None:
        if len(texts) != 2:
            self._say(
                Id.ASSERT_SYNTAX, self.entry.keys[kind].span,
                f"`{kind}` is about two groups of labels, and {len(texts) or 'none'} "
                f"{'is' if len(texts) == 1 else 'are'} here", "write `[GROUP, GROUP]`",
            )
            return
        groups = self._groups(texts)
        if len(groups) < 2 or self.known is None:
            return
        common = {*self.known.names(groups[0])} & {*self.known.names(groups[1])}
        if common:
            self._say(
                Id.ASSERT_OVERLAP, texts[1].span,
                f"{show(min(common))} is in both groups", "name two groups without a common label",
            )

    # -- names --------------------------------------------------------------------------------

    def _groups(self, refs: Iterable[Ref]) -> list[Selector]:
        """The selectors that are right."""
        found = []
        for ref in refs:
            try:
                selector = as_selector(ref.text, ref.span)
            except ValueError as problem:
                self._say(
                    Id.ASSERT_SYNTAX, ref.span, f"{show(ref.text)} names no labels: {problem}",
                    f"write {_SELECTORS}",
                )
                continue
            if self._chooses(selector):
                found.append(selector)
        return found

    def _arrow(self, ref: Ref, by: set[str]) -> None:
        try:
            arrow = as_arrow(ref.text, ref.span)
        except ValueError as problem:
            self._say(
                Id.ASSERT_SYNTAX, ref.span, f"{show(ref.text)} is not `FROM {ARROW} TO`: {problem}",
                f"write `FROM {ARROW} TO`; each is {_SELECTORS}",
            )
            return
        right = [self._chooses(one) for one in dict.fromkeys((arrow.source, arrow.sink))]
        if self.known is None or not all(right):
            return
        if not any_pair(self.known, arrow, by):
            self._say(
                Id.ASSERT_NOTHING, ref.span,
                f"{show(ref.text)} is about no pair of "
                f"{'labels that are not in `by`' if by else 'different labels'}",
                "name others, or take some out of `by`" if by else "name two labels that differ",
            )

    def _chooses(self, selector: Selector) -> bool:
        """Whether it chooses anything, as far as is known; says so if it does not."""
        known = self.known
        if known is None or known.names(selector):
            return True
        text, span = selector.text, selector.span
        declared = {By.COALITION: known.coalitions, By.WALL: known.members}.get(selector.by)
        if declared is not None and text not in declared:
            what = "coalition" if selector.by is By.COALITION else "member of conflict sets"
            where = "coalitions" if selector.by is By.COALITION else "walls"
            self._say(
                Id.ASSERT_UNKNOWN, span, f"there is no {what} {show(text)}",
                self.suggest.fix(text, sorted(declared), f"see `{where}`"),
            )
        elif selector.single:
            self._unknown(Ref(text, span))
        else:
            self._say(
                Id.ASSERT_NOTHING, span, f"{show(str(selector))} chooses no label",
                "mend it, or delete the assertion: of nothing everything is true",
            )
        return False

    def _labels(self, key: str) -> set[str]:
        """The names under ``key``, each a label that a VM can carry."""
        refs = self.entry.texts(key)
        if self.known is not None:
            for ref in refs:
                if ref.text not in self.known.labels:
                    self._unknown(ref)
        return {ref.text for ref in refs}

    def _unknown(self, ref: Ref) -> None:
        assert self.known is not None
        if ref.text == self.known.dom0:
            self._say(
                Id.ASSERT_DOM0, ref.span,
                f"{show(ref.text)} is dom0's label, and dom0 serves everyone",
                "assert something about the labels of VMs; `through: dom0` adds paths through it",
            )
            return
        self._say(
            Id.ASSERT_UNKNOWN, ref.span, f"there is no label {show(ref.text)}",
            self.suggest.fix(ref.text, list(self.known.labels), "see `labels` and `guards`"),
        )


def any_pair(known: Choice, arrow: Arrow, by: Iterable[str] = ()) -> bool:
    """Whether ``arrow`` is about any pair: of different labels, unless both sides name one."""
    excluded = {*by}
    sources = {*known.names(arrow.source)} - excluded
    sinks = {*known.names(arrow.sink)} - excluded
    if arrow.source.single and arrow.sink.single:
        return bool(sources and sinks)
    return bool(sources and sinks) and len(sources | sinks) > 1


RULES: tuple[Rule, ...] = (assertions_are_right,)

"""From an entry of ``assert`` without errors to the assertion that it is."""

from __future__ import annotations

from shype.policy.assertions import (
    Arrow,
    Assertion,
    By,
    Exactly,
    Kind,
    LevelsKept,
    Never,
    NoneBoth,
    OnlyThrough,
    Selector,
    Terms,
    as_arrow,
    as_selector,
)
from shype.policy.draft import DraftAssertion, Ref
from shype.policy.mechanism import Mechanism
from shype.policy.names import LabelName


def kinds(entry: DraftAssertion) -> list[Kind]:
    """The kinds that ``entry`` says it is; one, if it is right."""
    return [Kind(key) for key in entry.keys if key in {*Kind}]


def assertion(entry: DraftAssertion) -> Assertion:
    """The assertion that ``entry`` means. It must have no errors."""
    (kind,) = kinds(entry)
    terms, texts = _terms(entry), entry.texts(kind)
    match kind:
        case Kind.NEVER:
            return Never(_arrow(texts[0]), terms)
        case Kind.ONLY_THROUGH:
            return OnlyThrough(_arrow(texts[0]), _labels(entry, "by"), terms)
        case Kind.EXACTLY:
            among = entry.texts("among")
            return Exactly(
                tuple(map(_arrow, texts)), tuple(map(_selector, among)) if among else None, terms
            )
        case Kind.LEVELS | Kind.INTEGRITY:
            trusted = _labels(entry, "except") if "except" in entry.keys else None
            return LevelsKept(_selector(texts[0]), kind is Kind.INTEGRITY, trusted, terms)
        case Kind.REACHES | Kind.RECEIVES:
            who = entry.texts("who")
            return NoneBoth(
                _selector(who[0]) if who else Selector(By.EVERYONE, "", entry.span),
                (_selector(texts[0]), _selector(texts[1])), kind is Kind.RECEIVES, terms,
            )


def _terms(entry: DraftAssertion) -> Terms:
    via = entry.texts("via")
    return Terms(
        entry.span, _text(entry, "name"), _text(entry, "reason"),
        frozenset(Mechanism(ref.text) for ref in via) if via else None,
        "through" in entry.keys,
    )


def _text(entry: DraftAssertion, key: str) -> str | None:
    found = entry.texts(key)
    return found[0].text if found else None


def _labels(entry: DraftAssertion, key: str) -> tuple[LabelName, ...]:
    return tuple(LabelName(ref.text) for ref in entry.texts(key))


def _arrow(ref: Ref) -> Arrow:
    return as_arrow(ref.text, ref.span)


def _selector(ref: Ref) -> Selector:
    return as_selector(ref.text, ref.span)

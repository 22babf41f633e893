"""Assertions: what must be true of every flow of information that the policy permits.

Values only; `shype.analysis.assertions` proves them.  Labels are named by
selectors (`Selector`), so that one assertion can be about many of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from shype.policy import globs
from shype.policy.mechanism import Mechanism
from shype.policy.names import LabelName
from shype.policy.source import Span

if TYPE_CHECKING:
    from shype.policy.model import Policy

ARROW = "->"
#: Longest pattern of labels, in characters; names have at most 48.
PATTERN_LIMIT = 200
#: Flows that the sentence of an `exactly` lists.
_LISTED = 6


class Kind(StrEnum):
    """The kinds of assertions, each the key that an entry of ``assert`` begins with."""

    NEVER = "never"
    ONLY_THROUGH = "only-through"
    EXACTLY = "exactly"
    LEVELS = "levels-never-decrease"
    INTEGRITY = "integrity-never-increases"
    REACHES = "none-reaches-both"
    RECEIVES = "none-receives-from-both"


class By(StrEnum):
    """How a selector chooses labels."""

    EVERYONE = "everyone"  # every label that a VM can carry
    COALITION = "coalition"  # the members of a coalition
    WALL = "wall"  # those that hold a member of conflict sets
    PATTERN = "pattern"  # a name, or one with `*`, `?` and `[...]`


@dataclass(frozen=True, slots=True)
class Selector:
    """Some of the labels that VMs carry; ``text`` is the name or pattern (empty: everyone)."""

    by: By
    text: str
    span: Span

    @property
    def single(self) -> bool:
        """Whether it is the name of one label."""
        return self.by is By.PATTERN and globs.literal(self.text)

    def __str__(self) -> str:
        match self.by:
            case By.EVERYONE:
                return "everyone"
            case By.PATTERN:
                return self.text
        return f"{self.by} {self.text}"


@dataclass(frozen=True, slots=True)
class Arrow:
    """``SOURCE -> SINK``: from each of these labels to each of those."""

    source: Selector
    sink: Selector

    def __str__(self) -> str:
        return f"{self.source} {ARROW} {self.sink}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What any assertion can say beside its kind.

    ``via``: only steps by these mechanisms count; None: all, and devices too.
    ``dom0``: paths through dom0 count as well.
    """

    span: Span
    name: str | None = None
    reason: str | None = None
    via: frozenset[Mechanism] | None = None
    dom0: bool = False


@dataclass(frozen=True, slots=True)
class Never:
    """No information of a source ever arrives at a sink."""

    arrow: Arrow
    terms: Terms


@dataclass(frozen=True, slots=True)
class OnlyThrough:
    """Every path from a source to a sink passes one of ``by``."""

    arrow: Arrow
    by: tuple[LabelName, ...]
    terms: Terms


@dataclass(frozen=True, slots=True)
class Exactly:
    """The direct flows among the labels of ``among`` (None: those named) are ``arrows``."""

    arrows: tuple[Arrow, ...]
    among: tuple[Selector, ...] | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class LevelsKept:
    """Along no path from ``who`` a level falls, or (``integrity``) an integrity rises.

    But through ``trusted``; None: through every guard.
    """

    who: Selector
    integrity: bool
    trusted: tuple[LabelName, ...] | None
    terms: Terms


@dataclass(frozen=True, slots=True)
class NoneBoth:
    """No label of ``who`` reaches both groups, or (``receiving``) receives from both."""

    who: Selector
    groups: tuple[Selector, Selector]
    receiving: bool
    terms: Terms


Assertion: TypeAlias = Never | OnlyThrough | Exactly | LevelsKept | NoneBoth


def kind_of(assertion: Assertion) -> Kind:
    """The key that it was written with."""
    match assertion:
        case Never():
            return Kind.NEVER
        case OnlyThrough():
            return Kind.ONLY_THROUGH
        case Exactly():
            return Kind.EXACTLY
        case LevelsKept():
            return Kind.INTEGRITY if assertion.integrity else Kind.LEVELS
        case NoneBoth():
            return Kind.RECEIVES if assertion.receiving else Kind.REACHES


def sentence(assertion: Assertion) -> str:
    """The assertion in one line, as it is written: ``never: a -> b``; a long list is cut."""
    match assertion:
        case Never() | OnlyThrough():
            said = str(assertion.arrow)
        case Exactly():
            more = len(assertion.arrows) - _LISTED
            listed = [*map(str, assertion.arrows[:_LISTED])]
            said = f"[{', '.join(listed)}{f', and {more} more' if more > 0 else ''}]"
        case LevelsKept():
            said = str(assertion.who)
        case NoneBoth():
            said = f"[{assertion.groups[0]}, {assertion.groups[1]}]"
    return f"{kind_of(assertion)}: {said}"


# -- selectors -----------------------------------------------------------------------------------


def as_selector(text: str, span: Span) -> Selector:
    """The selector that ``text`` is. Raises ValueError, with the reason, if it is none."""
    words = text.split()
    if not words:
        raise ValueError("nothing stands there")
    if words == ["everyone"]:
        return Selector(By.EVERYONE, "", span)
    if words[0] in (By.COALITION, By.WALL) and len(words) == 2:
        return Selector(By(words[0]), words[1], span)
    if len(words) > 1:
        raise ValueError(f"`{' '.join(words)[:60]}` is more than one word")
    pattern = words[0]
    if len(pattern) > PATTERN_LIMIT:
        raise ValueError(f"a pattern of labels has at most {PATTERN_LIMIT} characters")
    if not pattern.isprintable():
        raise ValueError("it has characters that cannot be shown")
    globs.check(pattern)
    return Selector(By.PATTERN, pattern, span)


def as_arrow(text: str, span: Span) -> Arrow:
    """``FROM -> TO``. Raises ValueError, with the reason, if it is none."""
    sides = text.split(ARROW)
    if len(sides) != 2:
        raise ValueError("it has no `->`" if len(sides) < 2 else "it has more than one `->`")
    return Arrow(as_selector(sides[0], span), as_selector(sides[1], span))


@dataclass(frozen=True, slots=True)
class Choice:
    """What selectors choose from: labels with their coalitions and members, without dom0's."""

    labels: Mapping[str, tuple[frozenset[str], frozenset[str]]]
    coalitions: frozenset[str]
    members: frozenset[str]
    guards: frozenset[str]
    dom0: str | None
    levels: bool
    integrity: bool

    def names(self, selector: Selector) -> tuple[LabelName, ...]:
        """The labels that ``selector`` chooses, in the order of the policy."""
        return tuple(LabelName(name) for name in self._names(selector))

    def all_names(self, selectors: Iterable[Selector]) -> tuple[LabelName, ...]:
        """The labels that any of ``selectors`` chooses, each once."""
        return tuple(dict.fromkeys(name for one in selectors for name in self.names(one)))

    def _names(self, selector: Selector) -> Iterator[str]:
        match selector.by:
            case By.EVERYONE:
                yield from self.labels
            case By.COALITION:
                yield from (n for n, (held, _) in self.labels.items() if selector.text in held)
            case By.WALL:
                yield from (n for n, (_, held) in self.labels.items() if selector.text in held)
            case By.PATTERN if selector.single:
                yield from (selector.text,) if selector.text in self.labels else ()
            case By.PATTERN:
                yield from (n for n in self.labels if globs.matches(selector.text, n))


def choice(policy: Policy) -> Choice:
    """What the selectors of a policy's assertions choose from."""
    return Choice(
        {
            name: (frozenset(label.coalitions), frozenset(label.members))
            for name, label in policy.labels.items() if name != policy.host.dom0
        },
        frozenset(policy.coalitions), frozenset(policy.members), frozenset(policy.guards),
        policy.host.dom0, policy.levels is not None, policy.integrity is not None,
    )

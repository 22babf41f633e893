"""Names and patterns of resources: their spelling, which entry labels which resource.

Disks and networks are named by text, and by patterns (`shype.policy.globs`).
The hypervisor's own objects are numbers: an interval of them is what an entry
names, and a single one (a function, an IRQ, a port, a page) is an exact name.
An exact name goes before a pattern or a range, wherever they stand.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.policy import globs
from shype.policy.model import Policy, Resource, ResourceKind, ResourceLabel

#: Longest name or pattern, in characters.
NAME_LIMIT = 256
#: Patterns (not exact names) of one kind in a policy: each is compared with each.
PATTERN_LIMIT = 1_000
#: Steps that comparing may take for pairs which their plain beginnings and ends do not decide.
_STEPS_LIMIT = 2_000_000
PAGE = 4096

_PCI = re.compile(r"(?:([0-9a-f]{4}):)?([0-9a-f]{2}):([01][0-9a-f])\.([0-7*])", re.IGNORECASE)
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19}")
_SCHEME = re.compile(r"[a-z][a-z0-9+-]*:.")
_BRIDGE = re.compile(r"[^\s/]+")
#: Greatest number of a kind.
_MOST = {
    ResourceKind.IRQ: 0xFFFF, ResourceKind.IOPORT: 0xFFFF, ResourceKind.MEMORY: (1 << 52) - 1,
}
#: Longest name of a network interface in Linux.
_BRIDGE_LIMIT = 15


class TooManyPatterns(Exception):
    """Patterns are too many, or too complicated, to compare each with each; has one's index."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index


def canonical(kind: ResourceKind, text: str) -> str:
    """The one spelling of the name, pattern or range ``text``.

    Raises ValueError, with the reason, if ``text`` is none of ``kind``.
    """
    if not kind.physical:
        _printable(text)
        globs.check(text)
        found = re.sub(r"\*+", "*", text) if "[" not in text else text
        _virtual(kind, found, pattern=not globs.literal(found))
        return found
    return _shown(kind, *interval(kind, text))


def canonical_name(kind: ResourceKind, text: str) -> str:
    """As `canonical`, for what names a resource and never is a pattern. Raises ValueError."""
    if kind.physical:
        if "*" in text:
            raise ValueError("a name has no `*`")
        return canonical(kind, text)
    _printable(text)
    _virtual(kind, text, pattern=False)
    return text


def exact(kind: ResourceKind, pattern: str) -> bool:
    """Whether the canonical ``pattern`` names one resource and is no pattern or range."""
    if not kind.physical:
        return globs.literal(pattern)
    low, high = interval(kind, pattern)
    return high - low + 1 == _unit(kind)


def interval(kind: ResourceKind, text: str) -> tuple[int, int]:
    """The first and last number of the physical resources that ``text`` names.

    IRQs, ports and bytes of memory; of a PCI function segment << 16 | bus << 8
    | device << 3 | function, as Xen counts them.  Raises ValueError.
    """
    if kind is ResourceKind.PCI:
        match = _PCI.fullmatch(text)
        if match is None:
            raise ValueError("a PCI address is DDDD:BB:SS.F, with `*` for all functions")
        base = int(match[1] or "0", 16) << 16 | int(match[2], 16) << 8 | int(match[3], 16) << 3
        return (base, base + 7) if match[4] == "*" else (base + int(match[4]),) * 2
    first, dash, last = (part.strip() for part in text.partition("-"))
    if _NUMBER.fullmatch(first) is None or (dash and _NUMBER.fullmatch(last) is None):
        raise ValueError("write a number or LOW-HIGH; hexadecimal numbers start with 0x")
    low = int(first, 0)
    high = int(last, 0) if dash else low + _unit(kind) - 1
    if low > high:
        raise ValueError("the range goes downwards")
    if high > _MOST[kind]:
        raise ValueError(f"the highest is {_MOST[kind]:#x}")
    if low % _unit(kind) or (high + 1) % _unit(kind):
        raise ValueError("memory is labelled in whole pages of 4096 (0x1000) bytes")
    return low, high


def covers(kind: ResourceKind, pattern: str, name: str) -> bool:
    """Whether the canonical ``pattern`` matches the canonical ``name``, all of it."""
    if not kind.physical:
        return pattern == name if globs.literal(pattern) else globs.matches(pattern, name)
    (low, high), (first, last) = interval(kind, pattern), interval(kind, name)
    return low <= first and last <= high


def conflicts(
    entries: Sequence[tuple[ResourceKind, str, Hashable]],
) -> Iterator[tuple[int, int]]:
    """Entries that cannot be told apart and carry different labels, and the other of each.

    ``entries``: kind, canonical pattern, label (equal iff the same).  Yields the
    indices of an entry and of an earlier one which precedence does not
    separate from it.  Raises `TooManyPatterns` rather than take long.
    """
    for kind in ResourceKind:
        names: dict[str, int] = {}
        patterns: list[int] = []
        for index, (of, pattern, label) in enumerate(entries):
            if of is not kind:
                continue
            if not exact(kind, pattern):
                patterns.append(index)
            elif entries[names.setdefault(pattern, index)][2] != label:
                yield index, names[pattern]
        yield from (_ranges if kind.physical else _globs)(entries, patterns)


def _globs(
    entries: Sequence[tuple[ResourceKind, str, Hashable]], indices: list[int]
) -> Iterator[tuple[int, int]]:
    steps = 0
    for place, index in enumerate(indices):
        _, pattern, label = entries[index]
        for other in indices[: min(place, PATTERN_LIMIT)]:
            _, against, theirs = entries[other]
            if theirs == label:
                continue
            met = globs.at_once(pattern, against)
            if met is None:
                steps += globs.cost(pattern, against)
                met = steps <= _STEPS_LIMIT and globs.meet(pattern, against)
            if met:
                yield index, other
                break
        if place >= PATTERN_LIMIT or steps > _STEPS_LIMIT:
            raise TooManyPatterns(index)


def _ranges(
    entries: Sequence[tuple[ResourceKind, str, Hashable]], indices: list[int]
) -> Iterator[tuple[int, int]]:
    """One sweep: of what began before, the entry that reaches furthest, and of other labels."""
    spans = sorted((*interval(entries[i][0], entries[i][1]), i) for i in indices)
    best: list[tuple[int, int]] = []  # (last number, index), two of different labels at most
    for low, high, index in spans:
        label = entries[index][2]
        for last, other in best:
            if last >= low and entries[other][2] != label:
                yield max(index, other), min(index, other)
                break
        rivals = sorted([*best, (high, index)], reverse=True)
        best = rivals[:1] + [r for r in rivals[1:] if entries[r[1]][2] != entries[rivals[0][1]][2]]
        best = best[:2]


def intervals(entries: Iterable[Resource], kind: ResourceKind) -> list[tuple[int, int, Resource]]:
    """The numbers of a physical ``kind`` that have labels: disjoint, ascending, precedence applied.

    Each with the entry that labels it; a range is cut where an exact name stands in it.
    """
    single: dict[int, tuple[int, Resource]] = {}
    ranges = []
    for entry in entries:
        if entry.kind is kind:
            low, high = interval(kind, entry.pattern)
            if exact(kind, entry.pattern):
                single.setdefault(low, (high, entry))
            else:
                ranges.append((low, high, entry))
    cuts = [(low, *single[low]) for low in sorted(single)]
    starts = [cut[0] for cut in cuts]
    result = list(cuts)
    free = 0
    for low, high, entry in sorted(ranges, key=lambda item: item[:2]):
        start = max(low, free)
        for first, last, _ in cuts[bisect_right(starts, start - 1) : bisect_right(starts, high)]:
            if start < first:
                result.append((start, first - 1, entry))
            start = last + 1
        if start <= high:
            result.append((start, high, entry))
        free = max(free, high + 1)
    return sorted(result, key=lambda item: item[0])


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known of one kind: exact names, patterns, intervals."""

    names: dict[str, Resource]
    patterns: tuple[tuple[str, Resource], ...]
    intervals: tuple[tuple[int, int, Resource], ...]
    starts: tuple[int, ...]


class ResourceTable:
    """The entries of a policy, ready to be asked many times."""

    def __init__(self, entries: Iterable[Resource]) -> None:
        found = tuple(entries)
        self._kinds = {kind: _kind(kind, found) for kind in ResourceKind}

    def match(self, kind: ResourceKind, name: str) -> Resource | None:
        """The entry that labels the resource ``name``, or None if none does.

        Raises BadInput: ``resource.name`` if ``name`` is no name of ``kind``,
        ``resource.mixed`` for a range of which parts have different labels.
        """
        try:
            name = canonical_name(kind, name)
        except ValueError as error:
            raise BadInput(
                "resource.name", f"{name[:60]!r} is not the name of a resource: {kind}: {error}",
                "write it as in a policy, and no pattern",
            ) from None
        known = self._kinds[kind]
        if not kind.physical:
            fitting = (entry for pattern, entry in known.patterns if globs.matches(pattern, name))
            return known.names.get(name) or next(fitting, None)
        return self._at(known, kind, name)

    @staticmethod
    def _at(known: _Kind, kind: ResourceKind, name: str) -> Resource | None:
        low, high = interval(kind, name)
        at = bisect_right(known.starts, low) - 1
        found = known.intervals[at] if at >= 0 and known.intervals[at][1] >= low else None
        label = label_key(found[2].label) if found is not None else None
        reached = found[1] if found is not None else low - 1
        for first, last, entry in known.intervals[at + 1 :]:
            if reached >= high or first > high:
                break
            if first != reached + 1 or label_key(entry.label) != label:
                break
            reached = last
        alone = found is None and (at + 1 == len(known.starts) or known.starts[at + 1] > high)
        if reached >= high or alone:
            return found[2] if found is not None else None
        raise BadInput(
            "resource.mixed", f"parts of the {kind} range {name} have different labels",
            "ask about each part",
        )


def label_key(label: ResourceLabel) -> Hashable:
    """Equal for two labels iff they are the same: by name, or what stands in the entries."""
    if label.name is not None:
        return label.name
    return label.coalitions, label.level, label.integrity, label.inaccessible


def match(policy: Policy, kind: ResourceKind, name: str) -> Resource | None:
    """The entry of ``policy`` that labels the resource ``name``: as `ResourceTable.match`."""
    return ResourceTable(policy.resources).match(kind, name)


def _kind(kind: ResourceKind, entries: Sequence[Resource]) -> _Kind:
    mine = [entry for entry in entries if entry.kind is kind]
    cut = tuple(intervals(mine, kind)) if kind.physical else ()
    names: dict[str, Resource] = {}
    for entry in mine if not kind.physical else ():
        if exact(kind, entry.pattern):
            names.setdefault(entry.pattern, entry)
    patterns = () if kind.physical else tuple(
        (entry.pattern, entry) for entry in mine if not exact(kind, entry.pattern)
    )
    return _Kind(names, patterns, cut, tuple(first for first, _, _ in cut))


# -- spelling ------------------------------------------------------------------------------------


def _unit(kind: ResourceKind) -> int:
    return PAGE if kind is ResourceKind.MEMORY else 1


def _printable(text: str) -> None:
    if not text or len(text) > NAME_LIMIT:
        raise ValueError(f"it has 1 to {NAME_LIMIT} characters")
    if not text.isprintable() or text != text.strip():
        raise ValueError("blanks at its ends and control characters are not allowed")


def _virtual(kind: ResourceKind, text: str, *, pattern: bool) -> None:
    if kind is ResourceKind.NETWORK:
        if _BRIDGE.fullmatch(text) is None or (not pattern and len(text) > _BRIDGE_LIMIT):
            raise ValueError(
                f"a bridge has at most {_BRIDGE_LIMIT} characters, no blanks and no `/`"
            )
        return
    if text.startswith("/"):
        parts = text.split("/")[1:]
        if not all(part not in ("", ".", "..") for part in parts):
            raise ValueError("a path has no empty, `.` or `..` parts")
    elif not (pattern and text[0] in "*?[") and _SCHEME.match(text) is None:
        raise ValueError("a disk is an absolute path, or SCHEME:NAME")


def _shown(kind: ResourceKind, low: int, high: int) -> str:
    if kind is ResourceKind.PCI:
        function = "*" if high > low else str(low & 7)
        return f"{low >> 16:04x}:{low >> 8 & 0xFF:02x}:{low >> 3 & 0x1F:02x}.{function}"
    show: Callable[[int], str] = str if kind is ResourceKind.IRQ else hex
    return show(low) if low == high else f"{show(low)}-{show(high)}"

"""What a host has: a file of resources, to compare a policy's entries with.

One resource a line, ``KIND NAME`` (``disk /dev/vg0/a``); empty lines and those
that start with ``#`` say nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.policy import globs, resources
from shype.policy.findings import Id, show, warning
from shype.policy.model import Policy, Resource, ResourceKind
from shype.policy.reading import shown
from shype.policy.source import Finding

#: Bytes and resources that an inventory may have.
SIZE_LIMIT = 4 * 1024 * 1024
LINES_LIMIT = 20_000
_KINDS = {str(kind): kind for kind in ResourceKind}
_MISTAKES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Inventory:
    """The resources of a host, in the order of the file, names in canonical spelling."""

    file: str
    items: tuple[tuple[ResourceKind, str], ...]

    def names(self, kind: ResourceKind) -> list[str]:
        """The names of one kind."""
        return [name for of, name in self.items if of is kind]


def read(path: Path) -> Inventory:
    """The inventory in the file ``path``.

    Raises BadInput: ``inventory.unreadable``, or ``inventory.invalid`` with the
    lines that say nothing that can be understood.
    """
    try:
        data = read_regular(path, SIZE_LIMIT)
        text = data.decode()
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8"
        raise BadInput(
            "inventory.unreadable", f"cannot read the inventory {shown(path)}: {reason}",
            "name a file with a line `KIND NAME` for each resource",
        ) from None
    lines = [(at, line.strip()) for at, line in enumerate(text.split("\n"), 1)]
    lines = [(at, line) for at, line in lines if line and not line.startswith("#")]
    if len(data) > SIZE_LIMIT or len(lines) > LINES_LIMIT:
        raise BadInput(
            "inventory.unreadable",
            f"the inventory {shown(path)} has more than {LINES_LIMIT} lines or {SIZE_LIMIT} bytes",
            "keep to the resources that the policy is about",
        )
    items, mistakes = [], []
    for at, line in lines:
        word, _, name = line.partition(" ")
        try:
            if word not in _KINDS:
                raise ValueError(f"{show(word)} is no kind of resource")
            items.append((_KINDS[word], resources.canonical_name(_KINDS[word], name.strip())))
        except ValueError as problem:
            mistakes.append(f"line {at}: {problem}")
    if mistakes:
        more = len(mistakes) - _MISTAKES_SHOWN
        said = "; ".join(mistakes[:_MISTAKES_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise BadInput(
            "inventory.invalid", f"the inventory {shown(path)} has lines that are wrong: {said}",
            "write KIND NAME, with one of " + ", ".join(_KINDS),
        )
    return Inventory(shown(path), tuple(items))


def unmatched(policy: Policy, inventory: Inventory) -> Iterator[Finding]:
    """A warning for each entry of ``policy`` that names nothing in ``inventory``."""
    for kind in ResourceKind:
        entries = [entry for entry in policy.resources if entry.kind is kind]
        names = inventory.names(kind)
        idle = _idle_ranges(entries, names) if kind.physical else _idle_names(entries, names)
        for entry in idle:
            yield warning(
                Id.RESOURCE_UNMATCHED, entry.span,
                f"the {kind} {show(entry.pattern)} matches nothing in {inventory.file}",
                "correct it, or delete the entry",
            )


def _idle_names(entries: list[Resource], names: list[str]) -> Iterator[Resource]:
    known = set(names)
    for entry in entries:
        if globs.literal(entry.pattern):
            if entry.pattern not in known:
                yield entry
        elif not any(globs.matches(entry.pattern, name) for name in known):
            yield entry


def _idle_ranges(entries: list[Resource], names: list[str]) -> Iterator[Resource]:
    if not entries:
        return
    kind = entries[0].kind
    spans = sorted(resources.interval(kind, name) for name in names)
    starts = [low for low, _ in spans]
    reach = list(accumulate((high for _, high in spans), max))  # how far all up to here go
    for entry in entries:
        low, high = resources.interval(kind, entry.pattern)
        at = bisect_right(starts, high)
        if at == 0 or reach[at - 1] < low:
            yield entry

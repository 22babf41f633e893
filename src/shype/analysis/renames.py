"""What of an old policy is what of a new one: by name, and by `was`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from shype.analysis.ids import Found, PlanId, Weight
from shype.policy.model import Policy
from shype.policy.names import CoalitionName, LabelName, ResourceLabelName, WallName
from shype.policy.source import Span

_N = TypeVar("_N", bound=str)
_C = TypeVar("_C", bound=str, covariant=True)


class _Entry(Protocol[_C]):
    @property
    def was(self) -> _C | None: ...

    @property
    def span(self) -> Span: ...


@dataclass(frozen=True, slots=True)
class Names(Generic[_N]):
    """``new_of``: the names of OLD that live on, with theirs in NEW; ``old_of`` is its inverse.

    A name that is not in it has gone, or is new.  Two old names have one new
    name only where NEW contradicts itself (`plan.was-taken`); then ``old_of``
    has the one that `was` says.
    """

    new_of: Mapping[_N, _N]
    old_of: Mapping[_N, _N]


@dataclass(frozen=True, slots=True)
class Renames:
    """The names of everything that can be renamed.

    ``labels`` has those that a VM may carry: the retired ones of OLD too, but
    not dom0's, which is dom0's under whatever name.
    """

    labels: Names[LabelName]
    coalitions: Names[CoalitionName]
    walls: Names[WallName]
    resource_labels: Names[ResourceLabelName]


def renames(old: Policy, new: Policy) -> Renames:
    """How the names of ``old`` and ``new`` correspond."""
    return Renames(
        _match(
            {*(label.name for label in old.guests), *old.retired},
            {label.name: label.was for label in new.guests},
        ),
        _match({*old.coalitions}, {c.name: c.was for c in new.coalitions.values()}),
        _match({*old.walls}, {wall.name: wall.was for wall in new.walls.values()}),
        _match({*old.resource_labels},
               {name: label.was for name, label in new.resource_labels.items()}),
    )


def _match(old: set[_N], new: Mapping[_N, _N | None]) -> Names[_N]:
    # As the hypervisor does it: a name that exists in NEW is what it was, whatever `was` says.
    renamed = {was: name for name, was in new.items() if was is not None and was in old}
    kept = {name: name for name in new if name in old}
    return Names({**renamed, **kept}, {**kept, **{name: was for was, name in renamed.items()}})


def contradictions(old: Policy, new: Policy) -> Iterator[Found]:
    """Every `was` of ``new`` that names nothing in ``old``, or something that it cannot be."""
    labels = {name: label for name, label in new.labels.items() if name != new.host.dom0}
    carried = {**{label.name: label.span for label in old.guests},
               **{name: tomb.span for name, tomb in old.retired.items()}}
    yield from _wrong("label", labels, carried, Weight.STOP)
    dom0 = new.labels[new.host.dom0]
    yield from _wrong("dom0's label", {new.host.dom0: dom0},
                      {old.host.dom0: old.labels[old.host.dom0].span}, Weight.NOTE)
    yield from _wrong("coalition", new.coalitions, _spans(old.coalitions), Weight.NOTE)
    yield from _wrong("conflict set", new.walls, _spans(old.walls), Weight.NOTE)
    yield from _wrong(
        "resource label", new.resource_labels, _spans(old.resource_labels), Weight.NOTE,
    )


def _spans(entries: Mapping[_N, _Entry[_N]]) -> dict[_N, Span]:
    return {name: entry.span for name, entry in entries.items()}


def _wrong(
    kind: str, new: Mapping[_N, _Entry[_N]], old: Mapping[_N, Span], weight: Weight
) -> Iterator[Found]:
    for name, entry in new.items():
        if entry.was is None:
            continue
        if entry.was not in old:
            yield Found(
                PlanId.WAS_UNKNOWN, Weight.NOTE,
                f"the {kind} {name} was {entry.was}, which the old policy does not have",
                "correct `was`, or delete it", (entry.span,),
            )
        elif name in old:
            follows = (
                f": VMs that carry the old {name} would go on as the renamed {entry.was}"
                if weight is Weight.STOP else ""
            )
            yield Found(
                PlanId.WAS_TAKEN, weight,
                f"the {kind} {name} was {entry.was}, and the old policy has another {kind} "
                f"{name}{follows}",
                f"give it a name that is free in the old policy, or retire {name} in an update "
                "before this one",
                (old[name], old[entry.was], entry.span),
            )

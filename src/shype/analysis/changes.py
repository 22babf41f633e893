"""What two policies declare differently, renames taken into account."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shype.analysis.renames import Names, Renames
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.model import Label, Policy, Resource, ResourceLabel
from shype.policy.quotas import Amount, Quota, show
from shype.policy.source import Span

_N = TypeVar("_N", bound=str)


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: of what ``kind`` of thing, its name (in NEW, if it is there), what it is.

    ``places``: where it stands in OLD, then in NEW.
    """

    kind: str
    name: str
    what: str
    places: tuple[Span, ...]

    def to_json(self) -> dict[str, object]:
        """Shape in ``shype plan --json``."""
        return {
            "kind": self.kind, "name": self.name, "what": self.what,
            "places": [str(span) for span in self.places],
        }


class _Placed(Protocol):
    @property
    def span(self) -> Span: ...


_E = TypeVar("_E", bound=_Placed)


def changes(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    """Every difference, by kind, in the order of NEW and then of OLD."""
    yield from _lattice("levels", old.levels, new.levels)
    yield from _lattice("integrity", old.integrity, new.integrity)
    yield from _presence("coalition", old.coalitions, new.coalitions, names.coalitions)
    for was, now in names.coalitions.new_of.items():
        a, b = old.coalitions[was], new.coalitions[now]
        places = (a.span, b.span)
        if text := _sets(a.mechanisms, b.mechanisms):
            yield Change("coalition", now, f"opens {text}", places)
        if a.write_up != b.write_up:
            what = "opened" if b.write_up else "closed"
            yield Change("coalition", now, f"write-up {what}", places)
    yield from _presence("wall", old.walls, new.walls, names.walls)
    for wall_was, wall_now in names.walls.new_of.items():
        before_wall, after_wall = old.walls[wall_was], new.walls[wall_now]
        if text := _sets(before_wall.members, after_wall.members):
            yield Change("wall", wall_now, f"members {text}", (before_wall.span, after_wall.span))
    yield from _labels(old, new, names)
    yield from _resources(old, new, names)
    yield from _host(old, new, names)
    yield from _vectors(old, new, names)
    yield from _quotas(old, new, names)
    yield from _assignments(old, new, names)


# -- labels and guards ------------------------------------------------------------------------


def _labels(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    carried = {label.name: label for label in old.guests}
    yield from _presence(
        "label", carried, {label.name: label for label in new.guests}, names.labels,
        {name: tomb.span for name, tomb in new.retired.items()},
    )
    for name, tomb in old.retired.items():
        if name not in new.retired and name not in names.labels.new_of:
            yield Change("label", name, "no longer retired: forgotten", (tomb.span,))
    pairs = [
        (old.labels[was], new.labels[now]) for was, now in names.labels.new_of.items()
        if was in carried
    ]
    dom0 = (old.labels[old.host.dom0], new.labels[new.host.dom0])
    for before, after in (dom0, *pairs):
        for what in _label(old, new, before, after, names):
            yield Change("label", after.name, what, (before.span, after.span))


def _label(
    old: Policy, new: Policy, before: Label, after: Label, names: Renames
) -> Iterator[str]:
    if text := _sets(_now(before.coalitions, names.coalitions), after.coalitions):
        yield f"coalitions {text}"
    if text := _sets(before.members, after.members):
        yield f"wall {text}"
    if text := _sets(before.mechanisms, after.mechanisms):
        yield f"mechanisms {text}"
    if before.locked != after.locked:
        yield "is locked" if after.locked else "is no longer locked"
    if before.object_manager != after.object_manager:
        yield ("is an object manager" if after.object_manager
               else "is no object manager any more")
    if before.attested != after.attested:
        yield "is attested" if after.attested else "is no longer attested"
    if before.vtpm != after.vtpm:
        yield "gives its VMs a TPM" if after.vtpm else "gives its VMs no TPM any more"
    for kind, lattice, held, lattice_now, holds in (
        ("level", old.levels, before.level, new.levels, after.level),
        ("integrity", old.integrity, before.integrity, new.integrity, after.integrity),
    ):
        if by_name(lattice, held) != by_name(lattice_now, holds):
            yield f"{kind} {_range(lattice, held)} -> {_range(lattice_now, holds)}"
    a, b = old.guards.get(before.name), new.guards.get(after.name)
    if a is None or b is None:
        if a is not b:
            yield "is no guard any more" if b is None else "becomes a guard"
        return
    for end, was, now in (("from", a.source, b.source), ("to", a.sink, b.sink)):
        if names.coalitions.new_of.get(was) != now:
            yield f"{end} {was} -> {now}"
    if a.expires != b.expires:
        yield f"expires {a.expires or 'never'} -> {b.expires or 'never'}"
    if a.reason != b.reason:
        yield "another reason"


# -- resources, host, assignments -------------------------------------------------------------


def _resources(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    known = names.resource_labels
    yield from _presence("resource label", old.resource_labels, new.resource_labels, known)
    for was, now in known.new_of.items():
        a, b = old.resource_labels[was], new.resource_labels[now]
        for what in _resource_label(old, new, a, b, names):
            yield Change("resource label", now, what, (a.span, b.span))
    before = {(entry.kind, entry.pattern): entry for entry in old.resources}
    after = {(entry.kind, entry.pattern): entry for entry in new.resources}
    for key, entry in after.items():
        kind, shown = f"{entry.kind} resource", entry.pattern
        if key not in before:
            yield Change(kind, shown, f"labelled {_carries(entry)}", (entry.span,))
            continue
        earlier = before[key]
        places = (earlier.span, entry.span)
        a_name, b_name = earlier.label.name, entry.label.name
        if a_name is not None and b_name is not None:
            if known.new_of.get(a_name) != b_name:
                yield Change(kind, shown, f"label {a_name} -> {b_name}", places)
        elif (a_name is None) != (b_name is None):
            yield Change(kind, shown, f"label {_carries(earlier)} -> {_carries(entry)}", places)
        else:
            for what in _resource_label(old, new, earlier.label, entry.label, names):
                yield Change(kind, shown, what, places)
    for key, entry in before.items():
        if key not in after:
            yield Change(f"{entry.kind} resource", entry.pattern, "entry removed", (entry.span,))


def _carries(entry: Resource) -> str:
    return entry.label.name or "(in its entry)"


def _resource_label(
    old: Policy, new: Policy, a: ResourceLabel, b: ResourceLabel, names: Renames
) -> Iterator[str]:
    if a.inaccessible != b.inaccessible:
        yield "becomes inaccessible" if b.inaccessible else "is no longer inaccessible"
    if text := _sets(_now(a.coalitions, names.coalitions), b.coalitions):
        yield f"coalitions {text}"
    for kind, lattice, held, lattice_now, holds in (
        ("level", old.levels, a.level, new.levels, b.level),
        ("integrity", old.integrity, a.integrity, new.integrity, b.integrity),
    ):
        one, other = _single(held), _single(holds)
        if by_name(lattice, one) != by_name(lattice_now, other):
            yield f"{kind} {_range(lattice, one)} -> {_range(lattice_now, other)}"


def _vectors(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    places = (old.host.span, new.host.span)
    if old.static != new.static:
        yield Change("policy", "static", "sealed" if new.static else "not static any more", places)
    for name, vector in new.vectors.items():
        if name not in old.vectors:
            yield Change("vector", name, f"labels {_sets(frozenset(), vector.labels)}",
                         (vector.span,))
            continue
        before = old.vectors[name]
        if text := _sets(_now(before.labels, names.labels), vector.labels):
            yield Change("vector", name, f"labels {text}", (before.span, vector.span))
    for name, vector in old.vectors.items():
        if name not in new.vectors:
            yield Change("vector", name, "removed", (vector.span,))
    first = [next(iter(policy.vectors), None) for policy in (old, new)]
    if first[0] != first[1] and None not in first:
        yield Change("policy", "vectors", f"at boot {first[0]} -> {first[1]}", places)


def _quotas(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    before, after = _by_owner(old, names), _by_owner(new)
    for key in (*after, *(key for key in before if key not in after)):
        a, b = before.get(key), after.get(key)
        places = tuple(quota.span for quota in (a, b) if quota is not None)
        if text := _steps(_said(a), _said(b)):
            yield Change("quota", key[1], text, places)


def _by_owner(policy: Policy, names: Renames | None = None) -> dict[tuple[str, str], Quota]:
    """The quotas, by the kind and the new name of whose they are."""
    section = policy.quotas
    if section is None:
        return {}
    found = {("host", "host"): section.host} if section.host is not None else {}
    for coalition, quota in section.coalitions.items():
        found["coalition", names.coalitions.new_of.get(coalition, coalition) if names
              else coalition] = quota
    for label, quota in section.labels.items():
        found["label", names.labels.new_of.get(label, label) if names else label] = quota
    return found


def _said(quota: Quota | None) -> dict[str, str]:
    if quota is None:
        return {}
    said = {str(a): show(a, n) for a, n in quota.most.items()}
    said |= {f"{a} reserved": show(a, n) for a, n in quota.reserved.items()}
    each = quota.each
    if each.cpu is not None:
        said["cpu of each"] = f"{each.cpu} %"
    if each.weight is not None:
        said["weight of each"] = str(each.weight)
    if each.bandwidth is not None:
        said["bandwidth of each"] = show(Amount.BANDWIDTH, each.bandwidth)
    return said


def _steps(before: dict[str, str], after: dict[str, str]) -> str:
    return ", ".join(
        f"{what} {before.get(what, 'free')} -> {after.get(what, 'free')}"
        for what in dict.fromkeys([*before, *after]) if before.get(what) != after.get(what))


def _host(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    places = (old.host.span, new.host.span)
    if old.host.dom0 != new.host.dom0:
        yield Change("host", "dom0", f"label {old.host.dom0} -> {new.host.dom0}", places)
    if text := _sets(_now(old.host.drivers, names.labels), new.host.drivers):
        yield Change("host", "drivers", text, places)
    for word in ("updates", "revocation"):
        before, after = getattr(old.host, word), getattr(new.host, word)
        if before != after:
            yield Change("host", word, f"{before} -> {after}", places)
    if old.host.manager != new.host.manager:
        what = f"label {old.host.manager or 'none'} -> {new.host.manager or 'none'}"
        yield Change("host", "manager", what, places)
    if old.host.minimum != new.host.minimum:
        yield Change("host", "minimum", f"{old.host.minimum} -> {new.host.minimum}", places)


def _assignments(old: Policy, new: Policy, names: Renames) -> Iterator[Change]:
    for vm, now in new.assignments.items():
        was = old.assignments.get(vm)
        if was is None:
            yield Change("vm", vm, f"assigned {now.label}", (now.span,))
        elif names.labels.new_of.get(was.label) != now.label:
            yield Change("vm", vm, f"label {was.label} -> {now.label}", (was.span, now.span))
    for vm, gone in old.assignments.items():
        if vm not in new.assignments:
            yield Change("vm", vm, "assignment removed", (gone.span,))


# -- helpers ----------------------------------------------------------------------------------


def _presence(
    kind: str, old: Mapping[_N, _E], new: Mapping[_N, _E], names: Names[_N],
    retired: Mapping[_N, Span] | None = None,
) -> Iterator[Change]:
    """What is new, renamed, retired or gone."""
    for name, entry in new.items():
        was = names.old_of.get(name)
        if was is None:
            yield Change(kind, name, "added", (entry.span,))
        elif was != name and was in old:
            yield Change(kind, name, f"renamed, was {was}", (old[was].span, entry.span))
    for name, entry in old.items():
        if name in names.new_of:
            continue
        tomb = (retired or {}).get(name)
        if tomb is None:
            yield Change(kind, name, "removed", (entry.span,))
        else:
            yield Change(kind, name, "retired", (entry.span, tomb))


def _lattice(kind: str, a: Lattice | None, b: Lattice | None) -> Iterator[Change]:
    places = tuple(lat.span for lat in (a, b) if lat is not None)
    if a is None or b is None:
        if a is not b:
            yield Change(kind, "", "section removed" if b is None else "section added", places)
        return
    if a.order != b.order:
        yield Change(kind, "order", f"{', '.join(a.order)} -> {', '.join(b.order)}", places)
    if text := _sets(a.categories, b.categories):
        yield Change(kind, "categories", text, places)
    elif a.categories != b.categories:
        yield Change(kind, "categories", "in another order", places)


def _now(names: Iterable[_N], known: Names[_N]) -> set[str]:
    """Names of OLD as NEW has them; what has gone keeps its name."""
    return {known.new_of.get(name, name) for name in names}


def _sets(before: Iterable[str], after: Iterable[str]) -> str:
    """``+a -b``, or nothing if both are the same."""
    old, new = {*before}, {*after}
    return " ".join([*(f"+{n}" for n in sorted(new - old)), *(f"-{n}" for n in sorted(old - new))])


def _single(level: Level | None) -> LevelRange | None:
    return None if level is None else LevelRange(level, level)


def _range(lattice: Lattice | None, held: LevelRange | None) -> str:
    return "none" if lattice is None or held is None else lattice.show_range(held)


def by_name(lattice: Lattice | None, held: LevelRange | None) -> object:
    """A range of levels by the names of its ends, which compares across lattices."""
    if lattice is None or held is None:
        return None
    return [(lattice.order[end.rank], end.categories) for end in (held.low, held.high)]

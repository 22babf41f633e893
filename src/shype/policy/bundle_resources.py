"""Resources and their labels as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from shype.policy import resources
from shype.policy.bundle_levels import level, level_out
from shype.policy.json_values import (
    corrupt,
    flag,
    name,
    name_or_none,
    names,
    obj,
    span,
    span_out,
    text,
)
from shype.policy.model import Resource, ResourceKind, ResourceLabel
from shype.policy.names import CoalitionName, ResourceLabelName

_KINDS = frozenset(str(kind) for kind in ResourceKind)


def resource_label_out(label: ResourceLabel) -> dict[str, object]:
    """A resource label, or what stands in its place in an entry (its name is null then)."""
    return {
        "name": label.name, "coalitions": sorted(label.coalitions),
        "level": None if label.level is None else level_out(label.level),
        "integrity": None if label.integrity is None else level_out(label.integrity),
        "inaccessible": label.inaccessible, "was": label.was, "span": span_out(label.span),
    }


def resource_label(value: object, where: str) -> ResourceLabel:
    """What `resource_label_out` wrote."""
    entry = obj(
        value, where, "name", "coalitions", "level", "integrity", "inaccessible", "was", "span"
    )
    return ResourceLabel(
        _name(entry["name"], where),
        frozenset(CoalitionName(n) for n in names(entry["coalitions"], f"{where}.coalitions")),
        span(entry["span"], where),
        None if entry["level"] is None else level(entry["level"], f"{where}.level"),
        None if entry["integrity"] is None else level(entry["integrity"], f"{where}.integrity"),
        flag(entry["inaccessible"], f"{where}.inaccessible"),
        _name(entry["was"], where),
    )


def _name(value: object, where: str) -> ResourceLabelName | None:
    found = name_or_none(value, where)
    return None if found is None else ResourceLabelName(found)


def resource_out(entry: Resource) -> dict[str, object]:
    """An entry: its ``label`` is a name, or all of a label that has none."""
    label = entry.label
    return {
        "kind": str(entry.kind), "pattern": entry.pattern,
        "label": resource_label_out(label) if label.name is None else label.name,
        "span": span_out(entry.span),
    }


def resource(
    value: object, where: str, labels: Mapping[ResourceLabelName, ResourceLabel]
) -> Resource:
    """What `resource_out` wrote, with its label among ``labels`` if that has a name."""
    entry = obj(value, where, "kind", "pattern", "label", "span")
    word = text(entry["kind"], f"{where}.kind")
    if word not in _KINDS:
        corrupt(f"{where}.kind is no kind of resource")
    kind = ResourceKind(word)
    pattern = text(entry["pattern"], f"{where}.pattern")
    try:
        spelled = resources.canonical(kind, pattern)
    except ValueError as problem:
        corrupt(f"{where}.pattern: {problem}")
    if spelled != pattern:
        corrupt(f"{where}.pattern is not in its canonical spelling")
    label = _label(entry["label"], where, labels)
    return Resource(kind, pattern, label, span(entry["span"], where))


def _label(
    value: object, where: str, labels: Mapping[ResourceLabelName, ResourceLabel]
) -> ResourceLabel:
    if isinstance(value, dict):
        label = resource_label(value, f"{where}.label")
        if label.name is not None or label.was is not None:
            corrupt(f"{where}.label stands in its entry and has a name")
        return label
    found = labels.get(ResourceLabelName(name(value, f"{where}.label")))
    if found is None:
        corrupt(f"{where}.label is not declared")
    return found

"""A policy file as read so far: names with their spans, before any of them is believed.

Reading is lenient: what is not where it should be is left out (the structure's
findings name it), so that the meaning of all the rest can still be checked.  A
section that is missing or has the wrong type is ``None``: nothing can be said
about references into it.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import dataclass

from shype.policy.grammar import ALL
from shype.policy.source import Span
from shype.policy.yaml_source import Mapping, Node, Scalar, Sequence


@dataclass(frozen=True, slots=True)
class Ref:
    """A name at a place."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class DraftLabel:
    """A label; ``everything`` is its word ``all`` if it has it."""

    name: Ref
    coalitions: tuple[Ref, ...]
    everything: Ref | None
    members: tuple[Ref, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """All sections of a policy."""

    name: Ref | None
    version: Ref | None
    coalitions: Map[str, Ref] | None
    walls: Map[str, tuple[Ref, tuple[Ref, ...]]] | None
    labels: Map[str, DraftLabel] | None
    host: Ref | None
    dom0: Ref | None
    drivers: tuple[Ref, ...] | None
    vms: Map[str, tuple[Ref, Ref]]

    @property
    def walls_of(self) -> dict[str, list[str]]:
        """The conflict sets of each member."""
        result: dict[str, list[str]] = {}
        for wall, (_, members) in (self.walls or {}).items():
            for member in dict.fromkeys(ref.text for ref in members):
                result.setdefault(member, []).append(wall)
        return result


def draft(root: Mapping) -> Draft:
    """The draft that ``root``, the top mapping of a policy file, holds."""
    sections = {key.text: (key, value) for key, value in root.entries}

    def section(name: str) -> Node | None:
        return sections[name][1] if name in sections else None

    header, host = section("policy"), section("host")
    coalitions = section("coalitions")
    drivers = host.get("drivers") if isinstance(host, Mapping) else None
    return Draft(
        name=_ref(header.get("name")) if isinstance(header, Mapping) else None,
        version=_ref(header.get("version")) if isinstance(header, Mapping) else None,
        coalitions=_first(_refs(coalitions)) if isinstance(coalitions, Sequence) else None,
        walls=_walls(section("walls"), "walls" in sections),
        labels=_labels(section("labels")),
        host=_key(sections["host"][0]) if "host" in sections else None,
        dom0=_ref(host.get("dom0")) if isinstance(host, Mapping) else None,
        drivers=_refs(drivers) if isinstance(drivers, Sequence) or drivers is None else None,
        vms=_vms(section("vms")),
    )


def _first(refs: tuple[Ref, ...]) -> dict[str, Ref]:
    """By name, the first place of each."""
    result: dict[str, Ref] = {}
    for ref in refs:
        result.setdefault(ref.text, ref)
    return result


def _walls(node: Node | None, written: bool) -> Map[str, tuple[Ref, tuple[Ref, ...]]] | None:
    if not written:
        return {}
    if not isinstance(node, Mapping):
        return None
    return {key.text: (_key(key), _refs(value)) for key, value in node.entries}


def _labels(node: Node | None) -> Map[str, DraftLabel] | None:
    if not isinstance(node, Mapping):
        return None
    result = {}
    for key, value in node.entries:
        parts = value if isinstance(value, Mapping) else Mapping(key.span, ())
        shares = parts.get("coalitions")
        word = _ref(shares)
        result[key.text] = DraftLabel(
            _key(key), _refs(shares), word if word and word.text == ALL else None,
            _refs(parts.get("wall")),
        )
    return result


def _vms(node: Node | None) -> dict[str, tuple[Ref, Ref]]:
    if not isinstance(node, Mapping):
        return {}
    pairs = ((_key(key), _ref(value)) for key, value in node.entries)
    return {vm.text: (vm, label) for vm, label in pairs if label is not None}


def _key(key: Scalar) -> Ref:
    return Ref(key.text, key.span)


def _ref(node: Node | None) -> Ref | None:
    """The name that ``node`` is, if YAML reads it as text."""
    if isinstance(node, Scalar) and node.kind == "str":
        return Ref(node.text, node.span)
    return None


def _refs(node: Node | None) -> tuple[Ref, ...]:
    items = node.items if isinstance(node, Sequence) else ()
    return tuple(ref for ref in map(_ref, items) if ref is not None)

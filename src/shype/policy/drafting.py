"""From the tree of a policy file to a draft: lenient, so that one mistake hides no other."""

from __future__ import annotations

from collections.abc import Mapping as Map
from itertools import islice

from shype.policy import schema
from shype.policy.assertions import Kind
from shype.policy.draft import (
    Draft,
    DraftAssertion,
    DraftAttestation,
    DraftCoalition,
    DraftGuard,
    DraftLabel,
    DraftLattice,
    DraftQuota,
    DraftQuotas,
    DraftRange,
    DraftResource,
    DraftResourceLabel,
    DraftRetired,
    DraftVector,
    DraftWall,
    Ref,
)
from shype.policy.grammar import ALL, LATTICE_LIMIT
from shype.policy.model import ResourceKind
from shype.policy.source import Span
from shype.policy.suggest import Suggester
from shype.policy.yaml_source import Mapping, Node, Scalar, Sequence

_KINDS = frozenset(str(kind) for kind in ResourceKind)
#: The keys of assertions under which a list stands.
_LISTS = frozenset({
    Kind.EXACTLY, Kind.REACHES, Kind.RECEIVES, "by", "except", "among", "via",
})
_SAYS = ("coalitions", "level", "integrity", "inaccessible")


def draft(root: Mapping) -> Draft:
    """The draft that ``root``, the top mapping of a policy file, holds."""
    sections = {key.text: (key, value) for key, value in root.entries}

    def section(name: str) -> Node | None:
        return sections[name][1] if name in sections else None

    header, host = _mapping(section("policy")), section("host")
    drivers = host.get("drivers") if isinstance(host, Mapping) else None
    return Draft(
        name=_ref(header.get("name")),
        version=_ref(header.get("version")),
        replaces=_ref(header.get("from")),
        was=_ref(header.get("was")),
        coalitions=_coalitions(section("coalitions")),
        walls=_walls(section("walls")) if "walls" in sections else {},
        levels=_lattice(root, "levels"),
        integrity=_lattice(root, "integrity"),
        labels=_labels(section("labels")),
        guards=_guards(section("guards")),
        resource_labels=_resource_labels(section("resource-labels"))
        if "resource-labels" in sections else {},
        resources=_resources(section("resources")),
        retired=_retired(section("retired")),
        host=_key(sections["host"][0]) if "host" in sections else None,
        dom0=_ref(host.get("dom0")) if isinstance(host, Mapping) else None,
        manager=_ref(host.get("manager")) if isinstance(host, Mapping) else None,
        drivers=_refs(drivers) if isinstance(drivers, Sequence) or drivers is None else None,
        updates=_ref(_mapping(host).get("updates")),
        revocation=_ref(_mapping(host).get("revocation")),
        vms=_vms(section("vms")),
        static=_if_true(root, "static"),
        vectors=_vectors(section("vectors")),
        attestation=_attestation(*sections["attestation"]) if "attestation" in sections else None,
        quotas=_quotas(*sections["quotas"]) if "quotas" in sections else None,
        assertions=assertions(section("assert")),
    )


def _coalitions(node: Node | None) -> Map[str, DraftCoalition] | None:
    """By name, the first place of each."""
    result: dict[str, DraftCoalition] = {}
    if isinstance(node, Sequence):
        for ref in _refs(node):
            result.setdefault(ref.text, DraftCoalition(ref, None, None, None))
        return result
    if not isinstance(node, Mapping):
        return None
    for key, value in node.entries:
        parts = _mapping(value)
        result[key.text] = DraftCoalition(
            _key(key), _switches(parts), _if_true(parts, "write-up"), _ref(parts.get("was"))
        )
    return result


def _retired(node: Node | None) -> tuple[DraftRetired, ...]:
    if isinstance(node, Sequence):
        return tuple(DraftRetired(ref, ()) for ref in _refs(node))
    return tuple(
        DraftRetired(_key(key), _refs(_mapping(value).get("wall")))
        for key, value in _mapping(node).entries
    )


def _walls(node: Node | None) -> Map[str, DraftWall] | None:
    if not isinstance(node, Mapping):
        return None
    result = {}
    for key, value in node.entries:
        parts = _mapping(value)
        members = parts.get("members") if isinstance(value, Mapping) else value
        result[key.text] = DraftWall(_key(key), _refs(members), _ref(parts.get("was")))
    return result


def _lattice(root: Mapping, name: str) -> DraftLattice | None:
    """The section ``name``; one whose name is misspelled is there, and unreadable."""
    key = root.key(name)
    if key is None:
        known = schema.document()["properties"]
        strange = (key for key, _ in root.entries if key.text not in known)
        # As many as can be misspelled at all: a file of unknown keys must not take long.
        near = (key for key in islice(strange, 20) if Suggester().nearest(key.text, known) == name)
        return next((DraftLattice(_key(key), None, None) for key in near), None)
    node = root.get(name)
    parts = _mapping(node)
    order, categories = parts.get("order"), parts.get("categories")
    known = categories is None and isinstance(node, Mapping)
    return DraftLattice(
        _key(key), _few(order), () if known else _few(categories)
    )


def _few(node: Node | None) -> tuple[Ref, ...] | None:
    """Names of a lattice: nothing is known of a list that is too long to work with."""
    if isinstance(node, Sequence) and len(node.items) <= LATTICE_LIMIT:
        return _refs(node)
    return None


def _labels(node: Node | None) -> Map[str, DraftLabel] | None:
    if not isinstance(node, Mapping):
        return None
    return {key.text: _label(key, _mapping(value)) for key, value in node.entries}


def _label(key: Scalar, parts: Mapping) -> DraftLabel:
    shares = parts.get("coalitions")
    word = _ref(shares)
    return DraftLabel(
        _key(key), _refs(shares), word if word and word.text == ALL else None,
        _refs(parts.get("wall")), _range(parts, "level"), _range(parts, "integrity"),
        _switches(parts), _ref(parts.get("was")), _if_true(parts, "locked"),
        _if_true(parts, "object-manager"), _if_true(parts, "attested"),
        _if_true(parts, "vtpm"),
    )


def _guards(node: Node | None) -> Map[str, DraftGuard]:
    result = {}
    for key, value in _mapping(node).entries:
        parts = _mapping(value)
        carried = Mapping(
            parts.span, tuple((k, v) for k, v in parts.entries if k.text != "coalitions")
        )
        result[key.text] = DraftGuard(
            _label(key, carried), _ref(parts.get("from")), _ref(parts.get("to")),
            _ref(parts.get("reason")), _ref(parts.get("expires")),
        )
    return result


def _resource_labels(node: Node | None) -> Map[str, DraftResourceLabel] | None:
    if not isinstance(node, Mapping):
        return None
    return {
        key.text: _resource_label(_key(key), _mapping(value)) for key, value in node.entries
    }


def _resource_label(name: Ref, parts: Mapping) -> DraftResourceLabel:
    return DraftResourceLabel(
        name, _refs(parts.get("coalitions")), _single(parts, "level"), _single(parts, "integrity"),
        _if_true(parts, "inaccessible"), _ref(parts.get("was")),
        tuple(_key(key) for key, _ in parts.entries if key.text in _SAYS),
    )


def _resources(node: Node | None) -> tuple[DraftResource, ...]:
    result = []
    for item in node.items if isinstance(node, Sequence) else ():
        if not isinstance(item, Mapping):
            continue
        kinds = tuple(
            (_key(key), _number_or_text(value))
            for key, value in item.entries if key.text in _KINDS
        )
        result.append(DraftResource(
            item.span, kinds, _ref(item.get("label")), item.key("label") is not None,
            _resource_label(kinds[0][0] if kinds else Ref("", item.span), item),
        ))
    return tuple(result)


def _vms(node: Node | None) -> dict[str, tuple[Ref, Ref]]:
    pairs = ((_key(key), _ref(value)) for key, value in _mapping(node).entries)
    return {vm.text: (vm, label) for vm, label in pairs if label is not None}


def _vectors(node: Node | None) -> dict[str, DraftVector]:
    result = {}
    for key, value in _mapping(node).entries:
        word = _ref(value)
        everything = word if word is not None and word.text == ALL else None
        result[key.text] = DraftVector(_key(key), _refs(value), everything)
    return result


def _attestation(key: Scalar, node: Node) -> DraftAttestation:
    parts = _mapping(node)
    pairs = ((_key(k), _ref(value)) for k, value in _mapping(parts.get("verifiers")).entries)
    return DraftAttestation(
        _key(key), tuple((name, value) for name, value in pairs if value is not None),
        _ref(parts.get("fresh")), _ref(parts.get("lost")), _refs(parts.get("refuges")),
    )


def _quotas(key: Scalar, node: Node) -> DraftQuotas:
    parts = _mapping(node)
    host = parts.key("host")
    coalitions, labels = (
        {name.text: _quota(name, value) for name, value in _mapping(parts.get(section)).entries}
        for section in ("coalitions", "labels"))
    return DraftQuotas(
        _key(key), None if host is None else _quota(host, parts.get("host")), coalitions, labels)


def _quota(key: Scalar, node: Node | None) -> DraftQuota:
    parts = _mapping(node)
    most, reserved, each = (
        {name.text: ref for name, value in place.entries
         if (ref := _number_or_text(value)) is not None}
        for place in (parts, _mapping(parts.get("reserved")), _mapping(parts.get("each"))))
    return DraftQuota(_key(key), most, reserved, each)


def assertions(node: Node | None) -> tuple[DraftAssertion, ...]:
    """The entries of a list of assertions."""
    items = node.items if isinstance(node, Sequence) else ()
    return tuple(
        DraftAssertion(
            item.span, {key.text: _key(key) for key, _ in item.entries},
            {key.text: _texts(key.text, value) for key, value in item.entries},
        )
        for item in items if isinstance(item, Mapping)
    )


# -- values --------------------------------------------------------------------------------------


def _mapping(node: Node | None) -> Mapping:
    """``node`` if it is a mapping, or an empty one."""
    if isinstance(node, Mapping):
        return node
    return _NOTHING


def _range(parts: Mapping, name: str) -> DraftRange | None:
    key, value = parts.key(name), parts.get(name)
    if key is None:
        return None
    one = _ref(value)
    if one is not None:
        return DraftRange(_key(key), (one,))
    two = _refs(value)
    return DraftRange(_key(key), two if len(two) == 2 else ())


def _single(parts: Mapping, name: str) -> DraftRange | None:
    """One level: a resource has no range."""
    found = _range(parts, name)
    return DraftRange(found.key, ()) if found is not None and len(found.ends) > 1 else found


def _switches(parts: Mapping) -> tuple[Ref, ...] | None:
    """Mechanisms, or None for all of them."""
    return _refs(parts.get("mechanisms")) if parts.key("mechanisms") is not None else None


def _if_true(parts: Mapping, name: str) -> Ref | None:
    """The key ``name`` if its value is true."""
    key, value = parts.key(name), parts.get(name)
    if key is None or not isinstance(value, Scalar) or value.kind != "bool":
        return None
    return _key(key) if value.text.lower() in ("yes", "true", "on") else None


def _key(key: Scalar) -> Ref:
    return Ref(key.text, key.span)


def _ref(node: Node | None) -> Ref | None:
    """The name that ``node`` is, if YAML reads it as text."""
    if isinstance(node, Scalar) and node.kind == "str":
        return Ref(node.text, node.span)
    return None


def _number_or_text(node: Node | None) -> Ref | None:
    if isinstance(node, Scalar) and node.kind in ("str", "int"):
        return Ref(node.text, node.span)
    return None


def _refs(node: Node | None) -> tuple[Ref, ...]:
    items = node.items if isinstance(node, Sequence) else ()
    return tuple(ref for ref in map(_ref, items) if ref is not None)


def _texts(key: str, node: Node) -> tuple[Ref, ...] | None:
    """What stands under ``key`` of an assertion: a list of texts, or one text."""
    if key not in _LISTS:
        one = _ref(node)
        return None if one is None else (one,)
    found = _refs(node)
    return found if isinstance(node, Sequence) and len(found) == len(node.items) else None


_NOTHING = Mapping(Span("", 1, 1), ())

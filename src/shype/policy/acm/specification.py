"""The first form, June 2005: SecurityPolicySpec, with domain ids, VLANs and PCI slots.

Read at best effort, as no file of that form is known to have survived: a
Definition (Types with TE, ChWallTypes with ChWall, ConflictSets of ChWall) and
a Policy (VM: id, TE, ChWall; Vlan: vid, TE; Slot: bus, slot, TE), in one
document or in two.
"""

from __future__ import annotations

from collections.abc import Sequence

from shype.policy.acm.errors import AcmUnreadable
from shype.policy.acm.model import (
    AcmPolicy,
    Conflict,
    Generation,
    Name,
    ObjectLabel,
    SubjectLabel,
)
from shype.policy.acm.structure import Part, Structure
from shype.policy.acm.xml import Element

ROOTS = ("SecurityPolicySpec", "Definition", "Policy")

_SPEC = (Part("Definition"), Part("Policy"))
_DEFINITION = (Part("Types"), Part("ChWallTypes"), Part("ConflictSet", many=True))
_POLICY = (
    Part("PolicyHeader"), Part("VM", many=True), Part("Vlan", many=True), Part("Slot", many=True),
)
_HEADER = (
    Part("Name"), Part("DateTime"), Part("Tag"), Part("TypeDefinition"),
)
_TE, _CHWALL = Part("TE", many=True), Part("ChWall", many=True)


def read(roots: Sequence[Element], structure: Structure) -> AcmPolicy:
    """The policy in these documents. Raises AcmUnreadable if one half is missing."""
    definition, policy = None, None
    for root in roots:
        parts = structure.take(root, _SPEC) if root.name == ROOTS[0] else {root.name: [root]}
        for element in (*parts.get("Definition", ()), *parts.get("Policy", ())):
            if element.name == "Definition" and definition is None:
                definition = element
            elif element.name == "Policy" and policy is None:
                policy = element
            else:
                raise _incomplete(element, "twice what is needed once")
    if definition is None or policy is None:
        raise _incomplete(roots[0], "no `Definition`" if definition is None else "no `Policy`")
    defined = structure.take(definition, _DEFINITION)
    said = structure.take(policy, _POLICY)
    names = [
        name
        for header in said["PolicyHeader"]
        for name in structure.texts(structure.take(header, _HEADER)["Name"])
    ]
    subjects = [
        label for element in said["VM"] if (label := _vm(element, structure)) is not None
    ]
    zero = next((s.name for s in subjects if s.name.text == "domain 0"), None)
    return AcmPolicy(
        generation=Generation.SPECIFICATION, span=roots[0].span, name=names[0] if names else None,
        version=None, from_name=None, from_version=None,
        ste=_listed(defined["Types"], _TE, structure),
        chwall=_listed(defined["ChWallTypes"], _CHWALL, structure),
        conflicts=tuple(
            Conflict(
                _named(element),
                structure.texts(structure.take(element, (_CHWALL,), ("name",))["ChWall"]),
                element.span,
            )
            for element in defined["ConflictSet"]
        ),
        bootstrap=zero, subjects=tuple(subjects),
        objects=tuple(
            thing
            for kind, keys in (("Vlan", ("vid",)), ("Slot", ("bus", "slot")))
            for element in said[kind]
            if (thing := _resource(element, keys, structure)) is not None
        ),
    )


def _incomplete(element: Element, what: str) -> AcmUnreadable:
    return AcmUnreadable(
        "acm.files", f"a policy of 2005 has one `Definition` and one `Policy`; here is {what}",
        "name all files of the policy, once", element.span,
    )


def _listed(
    elements: Sequence[Element], part: Part, structure: Structure
) -> tuple[Name, ...] | None:
    for element in elements:
        return structure.texts(structure.take(element, (part,))[part.name])
    return None


def _named(element: Element) -> Name | None:
    text = element.attributes.get("name", "").strip()
    return Name(text, element.span) if text else None


def _vm(element: Element, structure: Structure) -> SubjectLabel | None:
    parts = structure.take(element, (Part("id", required=True), _TE, _CHWALL))
    ids = structure.texts(parts["id"])
    if not ids:
        return None
    return SubjectLabel(
        Name(f"domain {ids[0].text}", ids[0].span), structure.texts(parts["TE"]),
        structure.texts(parts["ChWall"]),
    )


def _resource(
    element: Element, keys: Sequence[str], structure: Structure
) -> ObjectLabel | None:
    parts = structure.take(element, (*(Part(key, required=True) for key in keys), _TE))
    ids = [name.text for key in keys for name in structure.texts(parts[key])]
    if len(ids) != len(keys):
        return None
    return ObjectLabel(
        Name(" ".join([element.name, *ids]), element.span), structure.texts(parts["TE"])
    )

"""From the XML of any generation to an `AcmPolicy`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shype.policy.acm import specification
from shype.policy.acm.errors import AcmUnreadable
from shype.policy.acm.findings import Id, error, warning
from shype.policy.acm.model import (
    AcmPolicy,
    Conflict,
    Generation,
    Name,
    ObjectLabel,
    SubjectLabel,
)
from shype.policy.acm.structure import Part, Structure
from shype.policy.acm.xml import Element, parse
from shype.policy.findings import show
from shype.policy.source import Finding

_ROOT = (
    Part("PolicyHeader", required=True), Part("SimpleTypeEnforcement"), Part("ChineseWall"),
    Part("SecurityLabelTemplate"),
)
#: 2005 said Name where later generations say PolicyName.
_HEADER = (
    Part("PolicyName"), Part("Name"), Part("PolicyUrl"), Part("Reference"), Part("Date"),
    Part("NameSpaceUrl"), Part("Version"), Part("FromPolicy"),
)
_FROM = (Part("PolicyName", required=True), Part("Version", required=True))
_STE_TYPES, _CHWALL_TYPES = "SimpleTypeEnforcementTypes", "ChineseWallTypes"
_TYPES = (Part("Type", required=True, many=True),)
_WALL = (Part(_CHWALL_TYPES, required=True), Part("ConflictSets"))
_SETS = (Part("Conflict", required=True, many=True),)
_LABELS = (Part("SubjectLabels"), Part("ObjectLabels"))
_LABEL_HEADER = (Part("Name"), Part("Date"), Part("PolicyName"))
_SUBJECTS = (Part("VirtualMachineLabel", required=True, many=True),)
_OBJECTS = (Part("ResourceLabel", required=True, many=True),)
_SUBJECT = (Part("Name", required=True), Part(_STE_TYPES), Part(_CHWALL_TYPES))
_OBJECT = (Part("Name", required=True), Part(_STE_TYPES, required=True))
_PRIMARY = "PrimaryPolicyComponent"
_WHOLE = "name one policy file, or a policy and its label template of 2005"


def read(documents: Iterable[tuple[bytes, str]]) -> tuple[AcmPolicy, tuple[Finding, ...]]:
    """The policy in ``documents`` (content, file's name) and what is wrong with its structure.

    Raises AcmUnreadable if they are no XML, or together no policy.
    """
    roots = [parse(data, file) for data, file in documents]
    by_name: dict[str, Element] = {}
    for root in roots:
        if root.name not in ("SecurityPolicyDefinition", "SecurityLabelTemplate",
                             *specification.ROOTS):
            raise AcmUnreadable(
                "acm.root", f"the root element is {show(root.name)}: this is no policy of "
                "Xen's ACM", "name a file whose root is SecurityPolicyDefinition", root.span,
            )
        if root.name in by_name:
            raise AcmUnreadable(
                "acm.files", f"this is a second {show(root.name)}", _WHOLE, root.span
            )
        by_name[root.name] = root
    structure = Structure()
    for root in roots:
        structure.root(root)
    if not by_name.keys().isdisjoint(specification.ROOTS):
        policy = specification.read(roots, structure)
    else:
        policy = _policy(by_name, roots[0], structure)
    return policy, tuple(structure.findings)


def _policy(by_name: dict[str, Element], first: Element, structure: Structure) -> AcmPolicy:
    root, template = by_name.get("SecurityPolicyDefinition"), by_name.get("SecurityLabelTemplate")
    if root is None:
        raise AcmUnreadable(
            "acm.files", "this is a label template: without its policy the conflict sets are "
            "missing, and nothing would be excluded", _WHOLE, first.span,
        )
    parts = structure.take(root, _ROOT)
    inner = parts["SecurityLabelTemplate"]
    if template is None and not inner:
        raise AcmUnreadable(
            "acm.files", "the policy has no labels (no SecurityLabelTemplate)",
            "name the label template's file as well", root.span,
        )
    if template is not None and inner:
        raise AcmUnreadable(
            "acm.files", "the policy has labels of its own, so this template is not part of it",
            _WHOLE, template.span,
        )
    header = _header(parts["PolicyHeader"], structure)
    generation = (
        Generation.TWO_FILES if template is not None
        else Generation.MERGED if header["Version"] is None else Generation.VERSIONED
    )
    if template is not None:
        _names_its_policy(template, root, structure)
    labels = structure.take(
        template or inner[0], (Part("LabelHeader"), *_LABELS) if template else _LABELS
    )
    bootstrap, subjects = _subjects(labels["SubjectLabels"], structure)
    chwall, conflicts = _chinese_wall(parts["ChineseWall"], structure)
    ste = _enforcement(parts["SimpleTypeEnforcement"], structure)
    _priority([*parts["SimpleTypeEnforcement"], *parts["ChineseWall"]], structure)
    return AcmPolicy(
        generation, root.span, header["PolicyName"], header["Version"], header["FromName"],
        header["FromVersion"], ste, chwall, conflicts, bootstrap, subjects,
        _objects(labels["ObjectLabels"], structure),
    )


def _header(elements: Sequence[Element], structure: Structure) -> dict[str, Name | None]:
    said: dict[str, Name | None] = dict.fromkeys(
        ("PolicyName", "Version", "FromName", "FromVersion")
    )
    for element in elements:
        parts = structure.take(element, _HEADER)
        said["PolicyName"] = _text([*parts["PolicyName"], *parts["Name"]], structure)
        said["Version"] = _text(parts["Version"], structure)
        for before in parts["FromPolicy"]:
            inner = structure.take(before, _FROM)
            said["FromName"] = _text(inner["PolicyName"], structure)
            said["FromVersion"] = _text(inner["Version"], structure)
    return said


def _text(elements: Sequence[Element], structure: Structure) -> Name | None:
    """The first of ``elements`` that says something."""
    return next(iter(structure.texts(elements)), None)


def _types(elements: Sequence[Element], structure: Structure) -> tuple[Name, ...]:
    return tuple(
        name
        for element in elements
        for name in structure.texts(structure.take(element, _TYPES)["Type"])
    )


def _enforcement(elements: Sequence[Element], structure: Structure) -> tuple[Name, ...] | None:
    for element in elements:
        parts = structure.take(element, (Part(_STE_TYPES, required=True),), ("priority",))
        return _types(parts[_STE_TYPES], structure)
    return None


def _chinese_wall(
    elements: Sequence[Element], structure: Structure
) -> tuple[tuple[Name, ...] | None, tuple[Conflict, ...]]:
    for element in elements:
        parts = structure.take(element, _WALL, ("priority",))
        sets = [
            conflict
            for each in parts["ConflictSets"]
            for conflict in structure.take(each, _SETS)["Conflict"]
        ]
        return _types(parts[_CHWALL_TYPES], structure), tuple(
            Conflict(
                _attribute(conflict, "name"),
                structure.texts(structure.take(conflict, _TYPES, ("name",))["Type"]),
                conflict.span,
            )
            for conflict in sets
        )
    return None, ()


def _priority(components: Sequence[Element], structure: Structure) -> None:
    """The attribute chose the component that decides first; both must permit, so nothing follows.

    A value that the schema does not know, or both as the first, was refused.
    """
    primary = [element for element in components if "priority" in element.attributes]
    for element in primary:
        value = element.attributes["priority"]
        if value != _PRIMARY or element is not primary[0]:
            what = f"is {show(value)}" if value != _PRIMARY else "is given to both components"
            structure.findings.append(error(
                Id.PRIORITY, element.span,
                f"the attribute `priority` {what}; it is left out, which changes no decision",
                f'give one component at most priority="{_PRIMARY}"',
            ))


def _attribute(element: Element, key: str) -> Name | None:
    text = element.attributes.get(key, "").strip()
    return Name(text, element.span) if text else None


def _subjects(
    elements: Sequence[Element], structure: Structure
) -> tuple[Name | None, tuple[SubjectLabel, ...]]:
    for element in elements:
        labels = []
        for child in structure.take(element, _SUBJECTS, ("bootstrap",))["VirtualMachineLabel"]:
            parts = structure.take(child, _SUBJECT)
            name, was = _name(parts["Name"], structure)
            if name is not None:
                labels.append(SubjectLabel(
                    name, _types(parts[_STE_TYPES], structure),
                    _types(parts[_CHWALL_TYPES], structure), was,
                ))
        return _attribute(element, "bootstrap"), tuple(labels)
    return None, ()


def _objects(elements: Sequence[Element], structure: Structure) -> tuple[ObjectLabel, ...]:
    labels = []
    for element in elements:
        for child in structure.take(element, _OBJECTS)["ResourceLabel"]:
            parts = structure.take(child, _OBJECT)
            name, was = _name(parts["Name"], structure)
            if name is not None:
                labels.append(ObjectLabel(name, _types(parts[_STE_TYPES], structure), was))
    return tuple(labels)


def _name(elements: Sequence[Element], structure: Structure) -> tuple[Name | None, Name | None]:
    """A label's name and what it was called before."""
    for element in elements:
        name = structure.text(element, ("from",))
        if name.text:
            return name, _attribute(element, "from")
        structure.findings.append(error(
            Id.NO_NAME, element.span, "a label has no name; it is left out, as nobody could use it",
            "give it a name, or delete it",
        ))
    return None, None


def _names_its_policy(template: Element, root: Element, structure: Structure) -> None:
    """A template names the policy that it was written for by the name of its file."""
    header = next((c for c in template.children if c.name == "LabelHeader"), None)
    if header is None:
        return
    parts = structure.take(header, _LABEL_HEADER)
    for policy in parts["PolicyName"]:
        url = next((c for c in policy.children if c.name == "Url"), None)
        file = root.span.file.replace("\\", "/").rpartition("/")[2]
        if url is not None and not file.endswith(url.text.rpartition("/")[2]):
            structure.findings.append(warning(
                Id.TEMPLATE_POLICY, url.span,
                f"the label template was written for {show(url.text)}, and the policy's file is "
                f"{show(file)}", "check that both belong together",
            ))

"""ACM's last schema as a table, to check exports by: what may stand where, and how often."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from shype.policy.acm.structure import NAMESPACE

#: element -> (children in order: name, least, most), attributes: name -> required.
_MANY = 10**9
_TYPE = [("Type", 1, _MANY)]
_TABLE: dict[str, tuple[list[tuple[str, int, int]], dict[str, bool]]] = {
    "SecurityPolicyDefinition": ([
        ("PolicyHeader", 1, 1), ("SimpleTypeEnforcement", 0, 1), ("ChineseWall", 0, 1),
        ("SecurityLabelTemplate", 1, 1),
    ], {}),
    "PolicyHeader": ([
        ("PolicyName", 1, 1), ("PolicyUrl", 0, 1), ("Reference", 0, 1), ("Date", 0, 1),
        ("NameSpaceUrl", 0, 1), ("Version", 1, 1), ("FromPolicy", 0, 1),
    ], {}),
    "FromPolicy": ([("PolicyName", 1, 1), ("Version", 1, 1)], {}),
    "SimpleTypeEnforcement": ([("SimpleTypeEnforcementTypes", 1, 1)], {"priority": False}),
    "SimpleTypeEnforcementTypes": (_TYPE, {}),
    "ChineseWall": ([("ChineseWallTypes", 1, 1), ("ConflictSets", 0, 1)], {"priority": False}),
    "ChineseWallTypes": (_TYPE, {}),
    "ConflictSets": ([("Conflict", 1, _MANY)], {}),
    "Conflict": (_TYPE, {"name": True}),
    "SecurityLabelTemplate": ([("SubjectLabels", 0, 1), ("ObjectLabels", 0, 1)], {}),
    "SubjectLabels": ([("VirtualMachineLabel", 1, _MANY)], {"bootstrap": True}),
    "VirtualMachineLabel": ([
        ("Name", 1, 1), ("SimpleTypeEnforcementTypes", 0, 1), ("ChineseWallTypes", 0, _MANY),
    ], {}),
    "ObjectLabels": ([("ResourceLabel", 1, _MANY)], {}),
    "ResourceLabel": ([("Name", 1, 1), ("SimpleTypeEnforcementTypes", 1, 1)], {}),
}
_LEAVES = {
    "PolicyName", "PolicyUrl", "Reference", "Date", "NameSpaceUrl", "Version", "Type", "Name",
}


def violations(text: str) -> list[str]:
    """What is wrong with a document by the schema; empty if it is valid."""
    root = ElementTree.fromstring(text)
    if root.tag != f"{{{NAMESPACE}}}SecurityPolicyDefinition":
        return [f"root {root.tag}"]
    return list(_check(root))


def _check(element: ElementTree.Element) -> list[str]:
    name = element.tag.removeprefix(f"{{{NAMESPACE}}}")
    wrong = []
    if name in _LEAVES:
        allowed = {"from"} if name == "Name" else set()
        if len(element) or not set(element.attrib) <= allowed:
            wrong.append(f"{name} has more than text")
        if name == "Version" and not re.fullmatch("[0-9]{1,8}.[0-9]{1,8}", element.text or ""):
            wrong.append(f"version {element.text}")
        return wrong
    children, attributes = _TABLE[name]
    if set(element.attrib) - attributes.keys():
        wrong.append(f"{name}: attributes {sorted(element.attrib)}")
    wrong += [f"{name} lacks @{key}" for key, needed in attributes.items()
              if needed and key not in element.attrib]
    if element.attrib.get("priority", "PrimaryPolicyComponent") != "PrimaryPolicyComponent":
        wrong.append(f"{name}: priority")
    found = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]
    order = [child for child, _, _ in children]
    if any(child not in order for child in found):
        return [*wrong, f"{name}: {found}"]
    if [order.index(child) for child in found] != sorted(order.index(child) for child in found):
        wrong.append(f"{name}: order {found}")
    for child, least, most in children:
        if not least <= found.count(child) <= most:
            wrong.append(f"{name}: {found.count(child)} of {child}")
    types = element.findall(f"{{{NAMESPACE}}}*/{{{NAMESPACE}}}Type")
    if name == "ResourceLabel" and len(types) != 1:
        wrong.append("a resource label has one type")
    for inner in element:
        wrong += _check(inner)
    return wrong

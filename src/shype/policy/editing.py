"""Small changes to a policy file that leave every other character of it alone.

The change is made in the text, at the place that the YAML parser names, and
then believed only if the whole file, read again, says exactly what was meant:
the old policy with that one entry changed.  Otherwise it is refused and the
file stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as Map
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import yaml

from shype.base.errors import BadInput
from shype.base.files import write_atomic
from shype.policy import loader, reading, resources
from shype.policy.model import Assignment, Policy, Resource, ResourceKind
from shype.policy.names import LabelName, ResourceLabelName, VmId
from shype.policy.source import Finding, PolicyInvalid, Severity, Span

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./")

#: What an entry of `resources` has that names no label.
_OWN_RIGHTS = "(rights of its own)"


@dataclass(frozen=True, slots=True)
class Edit:
    """The new text of a file, and the label that was there before, if any."""

    text: str
    before: str | None


class PolicyFile:
    """A policy file that is to be changed. Raises PolicyInvalid if it is not valid as it is."""

    def __init__(self, path: Path) -> None:
        text = reading.read(path)
        if isinstance(text, Finding):
            raise PolicyInvalid((text,))
        self._path = path.resolve()
        self._name = reading.shown(path)
        self._text = text
        policy, findings = loader.check_text(text, self._name)
        if policy is None:
            raise PolicyInvalid(findings)
        self.policy = policy

    def save(self, edit: Edit) -> None:
        """Write the new text, whole or not at all. Raises BadInput if the file has changed."""
        if reading.read(self._path) != self._text:
            raise BadInput(
                "edit.changed", f"{self._name} was changed by somebody else meanwhile",
                "give the command again",
            )
        mode = self._path.stat().st_mode & 0o777
        write_atomic(self._path, edit.text.encode(), mode)

    def label_of(self, kind: ResourceKind | None, name: str) -> str | None:
        """The label that the file gives to a VM (``kind`` None) or to a resource.

        For a pattern: that of the entry with this very pattern.  Raises BadInput
        ``resource.name`` for what is no name of the kind.
        """
        if kind is None:
            found = self.policy.assignments.get(VmId(name))
            return None if found is None else found.label
        entry = self._entry(kind, name)
        if entry is None and resources.exact(kind, _canonical(kind, name)):
            entry = resources.match(self.policy, kind, name)
        return None if entry is None else entry.label.name or _OWN_RIGHTS

    def _entry(self, kind: ResourceKind, name: str) -> Resource | None:
        """The entry that is written for exactly this name or pattern."""
        spelled = _canonical(kind, name)
        return next((r for r in self.policy.resources if (r.kind, r.pattern) == (kind, spelled)),
                    None)

    # -- VMs ----------------------------------------------------------------------------------

    def label_vm(self, vm: str, label: str | None) -> Edit:
        """Give a VM a label, or (None) take it away: its line under ``vms``.

        Raises BadInput: ``label.unknown``, or ``edit.refused`` if the file is
        written such that the change cannot be made safely, or would be an error.
        """
        policy, key = self.policy, VmId(vm)
        before = policy.assignments.get(key)
        if label is not None and label not in policy.labels:
            raise BadInput("label.unknown", f"the policy has no label {label!r}",
                           f"its labels: {', '.join(policy.labels)}")
        if (before.label if before else None) == label:
            return Edit(self._text, label)
        wanted = dict(policy.assignments)
        if label is None:
            del wanted[key]
            text = _without_key(self._text, "vms", vm)
        else:
            wanted[key] = Assignment(key, LabelName(label), policy.host.span)
            text = _with_key(self._text, "vms", vm, label)
        self._verify(text, replace(policy, assignments=wanted))
        return Edit(text, before.label if before else None)

    # -- resources ----------------------------------------------------------------------------

    def label_resource(self, kind: ResourceKind, name: str, label: str | None) -> Edit:
        """Give a resource (exact name or pattern, as an entry has it) a label, or take it away.

        Raises BadInput as `label_vm`, and ``resource.name``; an entry with rights
        of its own and no label's name is not touched.
        """
        policy = self.policy
        before = self._entry(kind, name)
        index = policy.resources.index(before) if before is not None else None
        if before is not None and before.label.name is None and label is not None:
            raise _refused(before.span, "the entry states rights of its own and names no label")
        if label is not None and label not in policy.resource_labels:
            raise BadInput(
                "label.unknown", f"the policy has no resource label {label!r}",
                f"its resource labels: {', '.join(map(str, policy.resource_labels)) or 'none'}",
            )
        old = before.label.name if before is not None else None
        if (before is None and label is None) or (before is not None and old == label is not None):
            return Edit(self._text, old)
        wanted = list(policy.resources)
        if label is None:
            assert index is not None
            del wanted[index]
            text = _without_item(self._text, "resources", index)
        else:
            new = Resource(
                kind, _canonical(kind, name),
                policy.resource_labels[ResourceLabelName(label)], policy.host.span,
            )
            if index is None:
                wanted.append(new)
                item = f"{{{kind}: {json.dumps(name)}, label: {_scalar(label)}}}"
                text = _with_item(self._text, "resources", item)
            else:
                wanted[index] = new
                text = _with_value(self._text, "resources", index, "label", label)
        self._verify(text, replace(policy, resources=tuple(wanted)))
        return Edit(text, old or (None if before is None else _OWN_RIGHTS))

    def _verify(self, text: str, wanted: Policy) -> None:
        policy, findings = loader.check_text(text, self._name)
        if policy is None:
            errors = [f for f in findings if f.severity is Severity.ERROR]
            raise BadInput(
                "edit.refused", f"the policy would not be valid: {errors[0].message}",
                errors[0].fix,
            )
        if _bare(policy) != _bare(wanted):
            raise _refused(
                self.policy.host.span, "the change would reach more than this entry (an alias?)"
            )


def _canonical(kind: ResourceKind, name: str) -> str:
    try:
        return resources.canonical(kind, name)
    except ValueError as error:
        raise BadInput(
            "resource.name", f"{name[:60]!r} is not the name of a resource: {kind}: {error}",
            "write it as in a policy",
        ) from None


def _bare(value: object) -> object:
    """A value of the model without its places in the file."""
    if isinstance(value, Span):
        return None
    if is_dataclass(value):
        return tuple(_bare(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, Map):
        return {key: _bare(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_bare, value))
    return value


def _refused(span: Span, why: str) -> BadInput:
    return BadInput(
        "edit.refused", f"the file is not changed: {why}", f"edit it by hand, near {span}"
    )


# -- text ---------------------------------------------------------------------------------------


def _scalar(text: str) -> str:
    """``text`` as YAML, in quotes unless it is surely read as text."""
    plain = text and text[0].isalpha() and set(text) <= _PLAIN
    read = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return text if plain and read == "tag:yaml.org,2002:str" else json.dumps(text)


def _root(text: str) -> yaml.MappingNode:
    root = yaml.compose(text, Loader=_LOADER)
    assert isinstance(root, yaml.MappingNode), "a valid policy is a mapping"
    return root


def _section(
    root: yaml.MappingNode, name: str
) -> tuple[yaml.Node, yaml.CollectionNode] | None:
    return next(((k, v) for k, v in root.value if k.value == name), None)


def _end(node: yaml.Node) -> int:
    """Where the node's last character is, without blanks and comments after it."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _line(text: str, index: int) -> tuple[int, int]:
    """The start of the line that ``index`` is in, and that of the next one."""
    start = text.rfind("\n", 0, index) + 1
    end = text.find("\n", index)
    return start, len(text) if end < 0 else end + 1


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _inserted(text: str, after: int, line: str) -> str:
    """``line`` as a line of its own behind the line that ``after`` is in."""
    end = _line(text, after)[1]
    newline = _newline(text)
    gap = "" if text[:end].endswith("\n") else newline
    return text[:end] + gap + line + newline + text[end:]


def _new_section(text: str, root: yaml.MappingNode, name: str, entry: str, flow: str) -> str:
    if root.flow_style:
        at = _end(root.value[-1][1])
        return f"{text[:at]}, {name}: {flow}{text[at:]}"
    newline = _newline(text)
    gap = "" if text.endswith("\n") else newline
    return f"{text}{gap}{newline}{name}:{newline}  {entry}{newline}"


def _with_key(text: str, section: str, key: str, value: str) -> str:
    entry = f"{_scalar(key)}: {_scalar(value)}"
    root = _root(text)
    found = _section(root, section)
    if found is None:
        return _new_section(text, root, section, entry, f"{{{entry}}}")
    node = found[1]
    for name, old in node.value:
        if name.value == key:
            return text[: old.start_mark.index] + _scalar(value) + text[old.end_mark.index :]
    if node.flow_style:
        return _into_flow(text, node, entry)
    column = node.value[-1][0].start_mark.column
    return _inserted(text, _end(node), " " * column + entry)


def _with_item(text: str, section: str, item: str) -> str:
    root = _root(text)
    found = _section(root, section)
    if found is None:
        return _new_section(text, root, section, f"- {item}", f"[{item}]")
    node = found[1]
    if node.flow_style:
        return _into_flow(text, node, item)
    return _inserted(text, _end(node), " " * node.start_mark.column + f"- {item}")


def _into_flow(text: str, node: yaml.CollectionNode, entry: str) -> str:
    if not node.value:
        at = node.start_mark.index + 1
        return text[:at] + entry + text[at:]
    last = node.value[-1]
    at = _end(last[1] if isinstance(last, tuple) else last)
    return f"{text[:at]}, {entry}{text[at:]}"


def _with_value(text: str, section: str, index: int, key: str, value: str) -> str:
    found = _section(_root(text), section)
    assert found is not None
    old = next(node for name, node in found[1].value[index].value if name.value == key)
    return text[: old.start_mark.index] + _scalar(value) + text[old.end_mark.index :]


def _without_key(text: str, section: str, key: str) -> str:
    found = _section(_root(text), section)
    assert found is not None
    pairs = found[1].value
    index = next(i for i, (name, _) in enumerate(pairs) if name.value == key)
    return _without(text, found, [(k.start_mark.index, _end(v)) for k, v in pairs], index, "{}")


def _without_item(text: str, section: str, index: int) -> str:
    found = _section(_root(text), section)
    assert found is not None
    spans = [(item.start_mark.index, _end(item)) for item in found[1].value]
    return _without(text, found, spans, index, "[]")


def _without(
    text: str, section: tuple[yaml.Node, yaml.CollectionNode], spans: list[tuple[int, int]],
    index: int, empty: str,
) -> str:
    start, end = spans[index]
    if section[1].flow_style:
        if index:
            return text[: spans[index - 1][1]] + text[end:]
        return text[:start] + text[spans[1][0] if len(spans) > 1 else end :]
    first, last = _line(text, start)[0], _line(text, end)[1]
    if len(spans) > 1:
        return text[:first] + text[last:]
    colon = text.index(":", section[0].end_mark.index) + 1
    return f"{text[:colon]} {empty}{text[colon:first]}{text[last:]}"

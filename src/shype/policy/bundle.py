"""The policy as JSON: what ``policy.json`` in a compiled bundle holds.

Standard library only, because the agent on an enforcing host reads this and
never YAML.  Lists keep the order of the policy file (canonical JSON sorts the
keys of objects), sets are sorted, and a span is ``[file, line, column]``.

Reading trusts nothing: `policy_from_json` re-checks every rule that decisions
rely on, so that a damaged or forged bundle is refused and never half used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeVar

from shype.base.errors import BadInput
from shype.policy import grammar
from shype.policy.model import (
    Assignment,
    Coalition,
    Enforcement,
    Host,
    Label,
    Policy,
    Wall,
)
from shype.policy.names import UNLABELED, CoalitionName, LabelName, MemberName, VmId, WallName
from shype.policy.source import Span

FORMAT = 1

_K = TypeVar("_K", bound=str)
_V = TypeVar("_V")


def policy_to_json(policy: Policy) -> dict[str, object]:
    """``policy`` as JSON values; `policy_from_json` gives back an equal policy."""
    return {
        "format": FORMAT,
        "name": policy.name,
        "version": policy.version,
        "source": policy.source,
        "coalitions": [
            {"name": c.name, "span": _span_out(c.span)} for c in policy.coalitions.values()
        ],
        "walls": [
            {"name": w.name, "members": sorted(w.members), "span": _span_out(w.span)}
            for w in policy.walls.values()
        ],
        "labels": [
            {
                "name": label.name, "coalitions": sorted(label.coalitions),
                "members": sorted(label.members), "span": _span_out(label.span),
            }
            for label in policy.labels.values()
        ],
        "host": {
            "dom0": policy.host.dom0, "drivers": sorted(policy.host.drivers),
            "minimum": str(policy.host.minimum), "span": _span_out(policy.host.span),
        },
        "assignments": [
            {"vm": a.vm, "label": a.label, "span": _span_out(a.span)}
            for a in policy.assignments.values()
        ],
    }


def policy_from_json(value: object) -> Policy:
    """The policy that `policy_to_json` wrote as ``value``.

    Raises BadInput (``bundle.corrupt``) for anything else: a wrong type, a key
    too many or too few, a bad name, or a rule of the language that is broken.
    """
    top = _object(
        value, "policy",
        "format", "name", "version", "source", "coalitions", "walls", "labels", "host",
        "assignments",
    )
    if type(top["format"]) is not int or top["format"] != FORMAT:
        _corrupt(f"the policy's format is not {FORMAT}")
    policy = Policy(
        name=_name(top["name"], "policy.name"),
        version=_spelled(top["version"], "policy.version", grammar.is_version),
        source=_text(top["source"], "policy.source"),
        coalitions=_keyed(top["coalitions"], "coalitions", _coalition, lambda c: c.name),
        walls=_keyed(top["walls"], "walls", _wall, lambda w: w.name),
        labels=_keyed(top["labels"], "labels", _label, lambda label: label.name),
        host=_host(top["host"]),
        assignments=_keyed(top["assignments"], "assignments", _assignment, lambda a: a.vm),
    )
    _check(policy)
    return policy


# -- parts ---------------------------------------------------------------------------------------


def _coalition(value: object, where: str) -> Coalition:
    entry = _object(value, where, "name", "span")
    return Coalition(CoalitionName(_name(entry["name"], where)), _span_in(entry["span"], where))


def _wall(value: object, where: str) -> Wall:
    entry = _object(value, where, "name", "members", "span")
    return Wall(
        WallName(_name(entry["name"], where)),
        frozenset(MemberName(name) for name in _names(entry["members"], f"{where}.members")),
        _span_in(entry["span"], where),
    )


def _label(value: object, where: str) -> Label:
    entry = _object(value, where, "name", "coalitions", "members", "span")
    return Label(
        LabelName(_name(entry["name"], where)),
        frozenset(CoalitionName(n) for n in _names(entry["coalitions"], f"{where}.coalitions")),
        frozenset(MemberName(n) for n in _names(entry["members"], f"{where}.members")),
        _span_in(entry["span"], where),
    )


def _host(value: object) -> Host:
    entry = _object(value, "host", "dom0", "drivers", "minimum", "span")
    if entry["minimum"] != str(Enforcement.ENFORCING):
        _corrupt("host.minimum is not `enforcing`")
    return Host(
        LabelName(_name(entry["dom0"], "host.dom0")),
        frozenset(LabelName(name) for name in _names(entry["drivers"], "host.drivers")),
        Enforcement.ENFORCING,
        _span_in(entry["span"], "host"),
    )


def _assignment(value: object, where: str) -> Assignment:
    entry = _object(value, where, "vm", "label", "span")
    return Assignment(
        VmId(_spelled(entry["vm"], where, grammar.is_vm)),
        LabelName(_name(entry["label"], where)),
        _span_in(entry["span"], where),
    )


# -- rules that decisions rely on ----------------------------------------------------------------


def _check(policy: Policy) -> None:
    if not policy.coalitions or grammar.ALL in policy.coalitions:
        _corrupt("the coalitions are empty or include one named `all`")
    for wall in policy.walls.values():
        if len(wall.members) < 2:
            _corrupt(f"the conflict set `{wall.name}` has fewer than two members")
    members = policy.members
    for label in policy.labels.values():
        if not label.coalitions <= policy.coalitions.keys():
            _corrupt(f"the label `{label.name}` names an undeclared coalition")
        if not label.members <= members:
            _corrupt(f"the label `{label.name}` names an undeclared member")
        for wall in policy.walls.values() if len(label.members) > 1 else ():
            if len(label.members & wall.members) > 1:
                _corrupt(f"the label `{label.name}` conflicts with itself in `{wall.name}`")
    host = policy.host
    if host.dom0 not in policy.labels or host.dom0 == UNLABELED:
        _corrupt("dom0's label is undeclared or `unlabeled`")
    if policy.labels[host.dom0].members:
        _corrupt("dom0's label has wall members")
    if not host.drivers <= policy.labels.keys() - {host.dom0, UNLABELED}:
        _corrupt("a driver domain's label is undeclared, dom0's or `unlabeled`")
    for assignment in policy.assignments.values():
        if assignment.label not in policy.labels or assignment.label == host.dom0:
            _corrupt(f"the VM `{assignment.vm}` has an undeclared label or dom0's")


# -- values --------------------------------------------------------------------------------------


def _corrupt(reason: str) -> NoReturn:
    raise BadInput(
        "bundle.corrupt",
        f"the compiled policy is damaged: {reason}",
        "build the bundle again with `shype build` and copy it whole",
    )


def _object(value: object, where: str, *keys: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _corrupt(f"{where} is not an object")
    if value.keys() != set(keys):
        _corrupt(f"{where} must have exactly the keys {', '.join(keys)}")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        _corrupt(f"{where} is not a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _corrupt(f"{where} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        _corrupt(f"{where} is not valid Unicode")
    return value


def _spelled(value: object, where: str, rule: Callable[[str], bool]) -> str:
    text = _text(value, where)
    if not rule(text):
        _corrupt(f"{where} holds {text[:60]!r}, which is not spelled as it must be")
    return text


def _name(value: object, where: str) -> str:
    return _spelled(value, where, grammar.is_name)


def _names(value: object, where: str) -> list[str]:
    names = [_name(item, where) for item in _list(value, where)]
    if names != sorted(set(names)):
        _corrupt(f"{where} is not sorted or names something twice")
    return names


def _keyed(
    value: object, where: str, read: Callable[[object, str], _V], key: Callable[[_V], _K]
) -> dict[_K, _V]:
    entries: Iterable[_V] = (
        read(item, f"{where}[{index}]") for index, item in enumerate(_list(value, where))
    )
    result: dict[_K, _V] = {}
    for entry in entries:
        if key(entry) in result:
            _corrupt(f"{where} has two entries named `{key(entry)}`")
        result[key(entry)] = entry
    return result


def _span_out(span: Span) -> list[object]:
    return [span.file, span.line, span.column]


def _span_in(value: object, where: str) -> Span:
    parts = _list(value, f"{where}.span")
    if len(parts) != 3:
        _corrupt(f"{where}.span is not [file, line, column]")
    file, line, column = parts
    if type(line) is not int or type(column) is not int or line < 1 or column < 1:
        _corrupt(f"{where}.span has no line and column from 1")
    return Span(_text(file, f"{where}.span"), line, column)

"""The section ``quotas`` as JSON."""

from __future__ import annotations

from collections.abc import Mapping

from shype.policy.json_values import corrupt, keyed, name, number, obj, span, span_out
from shype.policy.model import Policy
from shype.policy.names import CoalitionName, LabelName
from shype.policy.quotas import Amount, Each, Quota, Quotas


def quotas_out(section: Quotas | None) -> dict[str, object] | None:
    """The section, or null."""
    if section is None:
        return None
    return {
        "host": None if section.host is None else _out("host", section.host),
        "coalitions": [_out(name, quota) for name, quota in section.coalitions.items()],
        "labels": [_out(name, quota) for name, quota in section.labels.items()],
        "span": span_out(section.span),
    }


def quotas(value: object) -> Quotas | None:
    """What `quotas_out` wrote. Raises BadInput (``bundle.corrupt``)."""
    if value is None:
        return None
    entry = obj(value, "quotas", "host", "coalitions", "labels", "span")
    found = {
        key: keyed(entry[key], f"quotas.{key}", _in, lambda pair: pair[0])
        for key in ("coalitions", "labels")
    }
    return Quotas(
        span(entry["span"], "quotas"),
        None if entry["host"] is None else _in(entry["host"], "quotas.host")[1],
        {CoalitionName(key): quota for key, (_, quota) in found["coalitions"].items()},
        {LabelName(key): quota for key, (_, quota) in found["labels"].items()},
    )


def check(policy: Policy) -> None:
    """The rules of the section that decisions rely on. Raises BadInput (``bundle.corrupt``)."""
    section = policy.quotas
    if section is None:
        return
    if not section.coalitions.keys() <= policy.coalitions.keys():
        corrupt("there is a quota of no coalition")
    if not section.labels.keys() <= policy.labels.keys() - {policy.host.dom0}:
        corrupt("there is a quota of no label, or of dom0's")
    outer = [*section.coalitions.values(), *([section.host] if section.host else [])]
    if any(quota.each != Each() for quota in outer) or (section.host and section.host.reserved):
        corrupt("a quota of a coalition or of the host says what only a label's can")


def _out(name: str, quota: Quota) -> dict[str, object]:
    return {
        "name": name, "most": {str(a): n for a, n in sorted(quota.most.items())},
        "reserved": {str(a): n for a, n in sorted(quota.reserved.items())},
        "cpu": quota.each.cpu, "weight": quota.each.weight, "bandwidth": quota.each.bandwidth,
        "span": span_out(quota.span),
    }


def _in(value: object, where: str) -> tuple[str, Quota]:
    entry = obj(value, where, "name", "most", "reserved", "cpu", "weight", "bandwidth", "span")
    return name(entry["name"], where), Quota(
        span(entry["span"], where), _amounts(entry["most"], where),
        _amounts(entry["reserved"], where),
        Each(*(None if entry[key] is None else number(entry[key], where)
               for key in ("cpu", "weight", "bandwidth"))),
    )


def _amounts(value: object, where: str) -> Mapping[Amount, int]:
    if not isinstance(value, dict) or not value.keys() <= set(map(str, Amount)):
        corrupt(f"{where} has amounts that there are not")
    return {a: number(value[a], where) for a in Amount if a in value}

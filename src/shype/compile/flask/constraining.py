"""The level constraints between ordinary labels, as CIL.

A constraint takes permissions away; it never gives any.  It sees the two
contexts that the hypervisor compares: for a grant the mapper and the granter,
for a copy the source and the sink of the data, for Argo the sender and the
owner of the ring (`register_single_source`: the owner and the sender).  An
event channel carries the type of the remote VM and the level of the VM that
opens it, so `bind` compares the levels of the two VMs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shype.compile.flask import encoding as enc
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy

#: Operands of an expression in one group: secilc limits how deep it nests.
_GROUP = 32


@dataclass(frozen=True, slots=True)
class Rule:
    """What two levels must satisfy for one permission.

    ``blind``: what suffices instead where a coalition opens ``mechanism`` for
    write-up and both labels are in it, or None.
    """

    cls: str
    permission: str
    needs: str
    blind: str | None
    mechanism: Mechanism
    reason: str


RULES: tuple[Rule, ...] = (
    Rule("grant", "map_read", "dom", None, Mechanism.GRANT,
         "the mapper reads: its level dominates the granter's"),
    Rule("grant", "map_write", "eq", None, Mechanism.GRANT,
         "a writable mapping is two-way: equal levels"),
    Rule("grant", "copy", "eq", "domby", Mechanism.GRANT,
         "from data source to data sink; whoever issues it, the other learns nothing of it"),
    Rule("event", "bind", "eq", None, Mechanism.EVENT,
         "a channel is two-way: equal levels"),
    Rule("argo", "send", "eq", "domby", Mechanism.ARGO,
         "from sender to ring owner"),
    Rule("argo", "register_single_source", "eq", "dom", Mechanism.ARGO,
         "the ring's owner, for one sender"),
)


def constraints(policy: Policy, attributes: Mapping[str, list[str]]) -> Iterator[str]:
    """CIL of all constraints, with comments; none where the policy has no levels."""
    if not (policy.levels or policy.integrity) or not policy.guests:
        return
    yield "; -- Levels"
    for rule in RULES:
        expression = _expression(rule, policy, attributes)
        yield f"; {rule.reason}"
        yield f"(mlsconstrain ({rule.cls} ({rule.permission})) {expression})"


def _expression(rule: Rule, policy: Policy, attributes: Mapping[str, list[str]]) -> str:
    """Nested to the left: the hypervisor evaluates with a stack of five (CEXPR_MAXDEPTH)."""
    expression = f"({rule.needs} l1 l2)"
    up = [
        enc.coalition_attribute(name) for name, coalition in policy.coalitions.items()
        if coalition.write_up and rule.mechanism in coalition.mechanisms
    ]
    shared = [f"(and (eq t1 {name}) (eq t2 {name}))" for name in up if attributes.get(name)]
    if rule.blind is not None and shared:
        expression = f"(or (and {_either(shared)} ({rule.blind} l1 l2)) {expression})"
    return f"(or (or {expression} (eq t1 {enc.EXEMPT})) (eq t2 {enc.EXEMPT}))"


def _either(terms: list[str]) -> str:
    """``(or (or a b) c)``, in groups."""
    if len(terms) > _GROUP:
        return _either([_either(terms[i:i + _GROUP]) for i in range(0, len(terms), _GROUP)])
    result = terms[0]
    for term in terms[1:]:
        result = f"(or {result} {term})"
    return result

"""From the word that a person typed to a label: labels, VM names and UUIDs, dom0."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.policy.model import Policy, ResourceKind
from shype.policy.names import LabelName, VmId
from shype.policy.source import Span

_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a question: what was ``given``, the label meant, where that is written.

    ``kind`` is ``label``, ``vm`` or ``dom0``.
    """

    given: str
    kind: str
    label: LabelName
    span: Span

    def to_json(self) -> dict[str, object]:
        """Shape of a party in ``--json`` output."""
        return {
            "given": self.given, "kind": self.kind, "label": self.label, "rule": str(self.span)
        }


def resolve(policy: Policy, word: str) -> Party:
    """The party that ``word`` names.

    In this order: a label, a VM of ``vms:`` by name or UUID (a UUID in any
    case), the word ``dom0``. ``label:NAME`` and ``vm:NAME`` say which one is
    meant. Raises BadInput ``label.unknown``, or ``label.ambiguous`` for a bare
    word that is a label and also a VM which carries another label.
    """
    label, vm = _label(policy, word, word), _vm(policy, word, word)
    if label and vm and label.label != vm.label:
        raise BadInput(
            "label.ambiguous",
            f"{word!r} is a label and also a VM with the label {vm.label}",
            f"write label:{word} or vm:{word}",
        )
    if word == "dom0" and not label and not vm:
        return Party(word, "dom0", policy.host.dom0, policy.host.span)
    kind, _, name = word.partition(":")
    party = (
        label or vm
        or (_label(policy, word, name) if kind == "label" else None)
        or (_vm(policy, word, name) if kind == "vm" else None)
    )
    if party is None and kind == "label" and _vm(policy, word, name):
        raise _other(name, "a VM, not a label", "vm")
    if party is None and kind == "vm" and _label(policy, word, name):
        raise _other(name, "a label, not a VM", "label")
    if party is None:
        raise _unknown(policy, name if kind in ("label", "vm") and name else word)
    return party


def _label(policy: Policy, given: str, name: str) -> Party | None:
    found = policy.labels.get(LabelName(name))
    return Party(given, "label", found.name, found.span) if found else None


def _vm(policy: Policy, given: str, name: str) -> Party | None:
    found = policy.assignments.get(VmId(name))
    if found is None and _UUID.fullmatch(name):
        found = policy.assignments.get(VmId(name.lower()))  # the language wants lower case
    return Party(given, "vm", found.label, found.span) if found else None


def _other(name: str, what: str, kind: str) -> BadInput:
    return BadInput("label.unknown", f"{name!r} is {what}", f"write {kind}:{name}")


def _unknown(policy: Policy, name: str) -> BadInput:
    known = [*policy.labels, *policy.assignments, "dom0"]
    close = list(dict.fromkeys(difflib.get_close_matches(name, known, n=3)))
    kind, colon, _ = name.partition(":")
    if close:
        fix = f"did you mean {' or '.join(close)}?"
    elif kind in {*ResourceKind}:
        fix = "a resource stands in the second place, after the label or VM that would use it"
    elif colon:
        fix = f"see `labels:` and `vms:`; a resource is KIND:NAME ({', '.join(ResourceKind)})"
    else:
        fix = "see `labels:` and `vms:`"
    return BadInput("label.unknown", f"the policy has no label and no VM {name!r}", fix)

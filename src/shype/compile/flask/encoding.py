"""How policy names become FLASK names: types, contexts, attributes, booleans, windows.

A policy name has hyphens and no underscore, so replacing the one by the other
is injective, and prefixes keep the name spaces apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shype.base.errors import BadInput
from shype.compile.flask import levels
from shype.compile.flask.mls import MlsRange
from shype.policy.manifest import Booleans, Dom0Entry, LabelEntry, bits_for, digest_boolean, spelled
from shype.policy.mechanism import Mechanism
from shype.policy.model import Label, Policy, ResourceKind, Updates
from shype.policy.names import CoalitionName, LabelName, MemberName

USER = "u"
ROLE = "r"

DOM0_TYPE = "dom0_t"
#: What every VM is to itself, so that one rule set serves all labels.
SELF_TYPE = "self_t"
#: dom0's own end of an event channel to a VM.
CHANNEL_TYPE = "dom0ch_t"
#: A trusted label's own end of an event channel, on which it may notify its peer.
SPEAKING_TYPE = "speakch_t"
#: The same, on which it may not: only the peer notifies.
MUTE_TYPE = "mutech_t"
#: Attribute of every type that a VM may carry, retired ones included.
ALL_LABELS = "label"
#: Attribute of the types that the level constraints leave alone.
EXEMPT = "mlsexempt"
#: Attribute of the VM labels that dom0 is authorised to run.
MANAGED = "managed"
#: Attribute of those of them that are not locked, if some are.
UNLOCKED = "unlocked"

#: Attribute of the types of VMs that dom0 may always end: all but the manager's.
ENDABLE = "endable"

#: Boolean that opens the launch window.
ENABLE = "win_en"
#: Boolean under which another policy may be loaded.
LOADING = "load_open"

#: Terms per group in a long condition; see `conjunction`.
_GROUP = 64
#: Longest context, bytes: libxl gives it one page.
MAX_CONTEXT = 4000


def type_of(label: LabelName) -> str:
    """FLASK type of a VM label."""
    return f"l_{_word(label)}_t"


def resource_type(kind: ResourceKind, name: str) -> str:
    """Type of the resources of one kind that carry one label.

    ``name`` is the label's, or the index of the entry that says a label of
    its own: a number, which no label's name is.
    """
    return f"{kind}_{_word(name)}_t"


def resource_name(kind: ResourceKind, number: int) -> str:
    """How a policy names one resource, by the number that `policy.resources.interval` gives it."""
    if kind is ResourceKind.PCI:
        bus = f"{number >> 16:04x}:{number >> 8 & 0xFF:02x}"
        return f"{bus}:{number >> 3 & 0x1F:02x}.{number & 7}"
    return str(number) if kind is ResourceKind.IRQ else f"0x{number:x}"


def users_attribute(number: int) -> str:
    """Attribute of labels that may use the same physical resources."""
    return f"users{number}"


def sid_type(sid: str) -> str:
    """FLASK type of an initial SID."""
    return f"{sid}_t"


def coalition_attribute(coalition: CoalitionName) -> str:
    """Attribute that holds the types of a coalition's labels, trusted ones left out."""
    return f"ste_{_word(coalition)}"


def mechanism_attribute(coalition: CoalitionName, mechanism: Mechanism) -> str:
    """Attribute of those of them that have ``mechanism`` on, if some have it off."""
    return f"{mechanism}_{_word(coalition)}"


def peers_attribute(label: LabelName, number: int) -> str:
    """Attribute of labels for which a trusted label has the same rules."""
    return f"to{number}_{_word(label)}"


def running_boolean(member: MemberName) -> str:
    """Boolean that is true while a VM with this conflict set member runs."""
    return f"run_{_word(member)}"


def context_of(type_: str, levels_: MlsRange) -> str:
    """Security context in the form that the hypervisor's tools show and take.

    Raises `BadInput` (``compile.long-context``) if the tools would cut it off.
    """
    context = f"{USER}:{ROLE}:{type_}:{levels_}"
    if len(context) > MAX_CONTEXT:
        raise BadInput(
            "compile.long-context",
            f"the security context of {type_} has {len(context)} bytes; Xen's tools "
            f"take {MAX_CONTEXT}",
            "declare fewer categories",
        )
    return context


def window_bits(labels: int) -> tuple[str, ...]:
    """Booleans that spell a window index, least significant first; at least one."""
    return tuple(f"win_b{i}" for i in range(bits_for(labels)))


def managed(policy: Policy) -> tuple[Label, ...]:
    """VM labels that dom0 may run: dom0 is in all their coalitions (sHype's authorization)."""
    own = policy.labels[policy.host.dom0].coalitions
    return tuple(label for label in policy.guests if policy.coalitions_of(label.name) <= own)


def monitor(policy: Policy) -> str:
    """Type of the reference monitor's subject: who may open windows, and nobody else may."""
    return DOM0_TYPE if policy.host.manager is None else type_of(policy.host.manager)


def carried(policy: Policy) -> tuple[str, ...]:
    """Types that a VM may carry: those of all VM labels, then those of retired ones."""
    return (
        *(type_of(label.name) for label in policy.guests), *map(type_of, policy.retired),
    )


def aliases(policy: Policy) -> dict[str, str]:
    """Types of labels under the name that they had before, with their type now.

    A running VM keeps its label through a reload by this: the hypervisor looks
    its old type's name up in the new policy. dom0's type never changes.
    """
    return {
        type_of(label.was): type_of(label.name)
        for label in policy.guests if label.was is not None
    }


def conflicting(policy: Policy, label: Label) -> tuple[MemberName, ...]:
    """Members that must not run while ``label`` starts: the others of every wall it is in."""
    others = {
        member
        for wall in policy.walls.values() if wall.members & label.members
        for member in wall.members - label.members
    }
    return tuple(sorted(others))


def vector_bits(vectors: int) -> tuple[str, ...]:
    """Booleans that spell the index of the vector in force, least significant first.

    None if there are no vectors. All are false when the hypervisor boots: the first vector.
    """
    return tuple(f"vec_b{i}" for i in range(bits_for(vectors))) if vectors else ()


def windows(policy: Policy, label: Label, index: int) -> list[str]:
    """CIL conditions under each of which dom0 may create a VM with ``label``.

    One; or if the policy has vectors, one for each vector that has the label. A setting of
    the bits that is no vector's index opens nothing.
    """
    if not policy.vectors:
        return [_window(policy, label, index, ())]
    bits = vector_bits(len(policy.vectors))
    return [
        _window(policy, label, index, _spelled(bits, number))
        for number, vector in enumerate(policy.vectors.values()) if label.name in vector.labels
    ]


def _spelled(bits: Sequence[str], index: int) -> tuple[str, ...]:
    return tuple(name if on else f"(not {name})" for name, on in spelled(bits, index).items())


def _window(policy: Policy, label: Label, index: int, vector: Sequence[str]) -> str:
    bits = window_bits(len(policy.labels) - 1)  # dom0's label has no window
    terms = [ENABLE, *_spelled(bits, index), *vector]
    terms += [f"(not {running_boolean(member)})" for member in conflicting(policy, label)]
    return conjunction(terms)


def conjunction(terms: Sequence[str]) -> str:
    """All of ``terms``.

    Nested to the left, because the hypervisor evaluates with a stack of ten
    (COND_EXPR_MAXDEPTH): to the left needs two, to the right one per term.
    Long conditions are grouped, because secilc limits how deep it nests; that
    costs one more place on the stack.
    """
    if len(terms) > _GROUP:
        chunks = (terms[i:i + _GROUP] for i in range(0, len(terms), _GROUP))
        return _nest(_nest(chunk) for chunk in chunks)
    return _nest(terms)


def _nest(terms: Iterable[str]) -> str:
    """``(and (and a b) c)``."""
    result = ""
    for term in terms:
        result = f"(and {result} {term})" if result else term
    return result


def label_entries(policy: Policy) -> dict[LabelName, LabelEntry]:
    """Manifest entry of every VM label; the window index is the position in the file."""
    entries = {}
    for index, label in enumerate(policy.guests):
        type_ = type_of(label.name)
        context = context_of(type_, levels.range_of(policy, label))
        entries[label.name] = LabelEntry(type_, context, index)
    return entries


def dom0_entry(policy: Policy) -> Dom0Entry:
    """Manifest entry of dom0."""
    return Dom0Entry(policy.host.dom0, DOM0_TYPE, context_of(DOM0_TYPE, levels.whole(policy)))


def retired_types(policy: Policy) -> dict[LabelName, str]:
    """Manifest entry of every retired label."""
    return {name: type_of(name) for name in policy.retired}


def booleans(policy: Policy, digest: str) -> Booleans:
    """Names of all booleans of the compiled policy."""
    return Booleans(
        ENABLE,
        window_bits(len(policy.guests)),
        {member: running_boolean(member) for member in sorted(policy.members)},
        digest_boolean(digest),
        vector_bits(len(policy.vectors)),
        LOADING if policy.host.updates is Updates.LIVE else None,
    )


def _word(name: str) -> str:
    return name.replace("-", "_")

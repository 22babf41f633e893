"""How policy names become FLASK names: types, contexts, attributes, booleans, windows.

A policy name has hyphens and no underscore, so replacing the one by the other
is injective, and prefixes keep the name spaces apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shype.policy.manifest import Booleans, Dom0Entry, LabelEntry, digest_boolean
from shype.policy.model import Label, Policy
from shype.policy.names import CoalitionName, LabelName, MemberName

USER = "u"
ROLE = "r"
#: The one sensitivity. MLS is on so that levels can be added by a reload: the
#: hypervisor refuses a reload that switches MLS on or off.
LEVEL = "s0"

DOM0_TYPE = "dom0_t"
#: What every VM is to itself, so that one rule set serves all labels.
SELF_TYPE = "self_t"
#: dom0's own end of an event channel to a VM.
CHANNEL_TYPE = "dom0ch_t"
#: Attribute of every VM label.
ALL_LABELS = "label"
#: Attribute of the VM labels that dom0 is authorised to run.
MANAGED = "managed"

#: Boolean that opens the launch window.
ENABLE = "win_en"

#: Terms per group in a long condition; see `conjunction`.
_GROUP = 64


def type_of(label: LabelName) -> str:
    """FLASK type of a VM label."""
    return f"l_{_word(label)}_t"


def sid_type(sid: str) -> str:
    """FLASK type of an initial SID."""
    return f"{sid}_t"


def coalition_attribute(coalition: CoalitionName) -> str:
    """Attribute that holds the types of a coalition's labels."""
    return f"ste_{_word(coalition)}"


def running_boolean(member: MemberName) -> str:
    """Boolean that is true while a VM with this conflict set member runs."""
    return f"run_{_word(member)}"


def context_of(type_: str) -> str:
    """Security context in the form that the hypervisor's tools show and take."""
    return f"{USER}:{ROLE}:{type_}:{LEVEL}"


def window_bits(labels: int) -> tuple[str, ...]:
    """Booleans that spell a window index, least significant first; at least one."""
    return tuple(f"win_b{i}" for i in range(max(1, (max(labels, 1) - 1).bit_length())))


def managed(policy: Policy) -> tuple[Label, ...]:
    """VM labels that dom0 may run: dom0 is in all their coalitions (sHype's authorization)."""
    own = policy.labels[policy.host.dom0].coalitions
    return tuple(label for label in policy.guests if label.coalitions <= own)


def conflicting(policy: Policy, label: Label) -> tuple[MemberName, ...]:
    """Members that must not run while ``label`` starts: the others of every wall it is in."""
    others = {
        member
        for wall in policy.walls.values() if wall.members & label.members
        for member in wall.members - label.members
    }
    return tuple(sorted(others))


def window(policy: Policy, label: Label, index: int) -> str:
    """CIL condition under which dom0 may create a VM with ``label``."""
    bits = window_bits(len(policy.guests))
    terms = [ENABLE]
    terms += [name if index >> i & 1 else f"(not {name})" for i, name in enumerate(bits)]
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
        entries[label.name] = LabelEntry(type_, context_of(type_), index)
    return entries


def dom0_entry(policy: Policy) -> Dom0Entry:
    """Manifest entry of dom0."""
    return Dom0Entry(policy.host.dom0, DOM0_TYPE, context_of(DOM0_TYPE))


def booleans(policy: Policy, digest: str) -> Booleans:
    """Names of all booleans of the compiled policy."""
    return Booleans(
        ENABLE,
        window_bits(len(policy.guests)),
        {member: running_boolean(member) for member in sorted(policy.members)},
        digest_boolean(digest),
    )


def _word(name: str) -> str:
    return name.replace("-", "_")

"""The reason of a verdict between two domains, in words and places of the policy."""

from __future__ import annotations

from collections.abc import Iterable

from shype.decision import wording
from shype.decision.decision import Reason
from shype.decision.ids import DecisionId
from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.policy.lattice import Lattice, LevelRange
from shype.policy.model import Guard, Label, Policy
from shype.policy.names import CoalitionName, LabelName, VectorName
from shype.policy.source import Span, distinct

_DOES = {
    Operation.EVENT_SEND: "notify {o} on an event channel",
    Operation.MAP_READ: "map pages of {o} to read them",
    Operation.MAP_WRITE: "map pages of {o} to write to them",
    Operation.COPY_FROM: "copy out of pages of {o}",
    Operation.COPY_TO: "copy into pages of {o}",
    Operation.ARGO_SEND: "send {o} messages by Argo",
    Operation.DISK_READ: "read a disk to which {o} writes",
    Operation.DISK_WRITE: "write to a disk to which {o} writes as well",
    Operation.NETWORK_SEND: "send frames to {o}",
    Operation.STORE_READ: "read the directory that {o} writes in XenStore",
    Operation.FOREIGN_MAP: "map memory of {o} without a grant",
    Operation.CONTROL: "control {o}",
}


class Explainer:
    """Puts the verdicts of one policy into words."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._dom0 = policy.host.dom0

    def reason(
        self, id: DecisionId, subject: LabelName, object: LabelName, operation: Operation
    ) -> Reason:
        """The reason of the verdict ``id``."""
        where = self._policy.host.span
        match id:
            case DecisionId.LABEL_RETIRED:
                return self._retired(subject, object)
            case DecisionId.HOST_ONLY:
                return Reason(
                    f"a VM labelled {subject} may neither control {object} nor map its memory "
                    f"without a grant: only dom0 ({self._dom0}) may.",
                    distinct(where, self._span(subject)),
                )
            case DecisionId.HOST_NO_ARGO:
                return Reason(
                    f"Argo rings never involve dom0 ({self._dom0}): it serves VMs through event "
                    "channels and grants only.",
                    (where,),
                )
            case DecisionId.HOST_NO_MAP:
                return Reason(
                    f"a VM never maps dom0's memory ({self._dom0}); PV devices work the other way "
                    "round, dom0 maps what the VM grants.",
                    distinct(where, self._span(subject)),
                )
            case DecisionId.HOST_SELF:
                return Reason(
                    f"dom0 ({subject}) may act on itself.", distinct(where, self._span(subject)),
                )
            case DecisionId.LABEL_LOCKED:
                return Reason(
                    f"the label {object} is locked: dom0 ({subject}) reaches the memory of a VM "
                    "with it only while it builds one, in the launch window.",
                    distinct(self._span(object), where),
                )
            case DecisionId.AUTH_DOM0 | DecisionId.AUTH_NOT_AUTHORIZED:
                return self.authority(object if subject == self._dom0 else subject)
        return self._between(id, subject, object, operation)

    def authority(self, label: LabelName) -> Reason:
        """Why dom0 may run and serve ``label``, or may not."""
        policy, dom0 = self._policy, self._dom0
        types = policy.coalitions_of(label)
        missing = sorted(types - policy.labels[dom0].coalitions)
        rules = distinct(self._span(dom0), self._span(label), policy.host.span)
        if missing:
            return Reason(
                f"dom0 ({dom0}) may not run or serve {label}: dom0 is not in "
                f"{wording.coalitions(missing)}.", rules,
            )
        held = tuple(sorted(types))
        why = f"dom0 is in {wording.coalitions(held)}" if held else f"{label} is in no coalition"
        return Reason(f"dom0 ({dom0}) may run and serve {label}: {why}.", rules, held)

    def guard_expired(self, guard: Guard) -> Reason:
        """Why a guard may not be used any more."""
        return Reason(
            f"the guard {guard.name} expired on {guard.expires}: until its reason "
            f"({wording.printable(guard.reason)}) is confirmed with a later date, it may neither "
            "run nor pass anything.",
            (guard.span,),
        )

    def absent(self, label: LabelName, vector: VectorName) -> Reason:
        """Why nothing of a label starts while a configuration vector is in force."""
        entry = self._policy.vectors[vector]
        others = [name for name, other in self._policy.vectors.items() if label in other.labels]
        where = f"it may in {wording.listed(others)}" if others else "no vector has it"
        return Reason(
            f"{label} may not start while the vector {vector} is in force: {where}.", (entry.span,)
        )

    def locked(self, label: LabelName, there: Running) -> Reason:
        """Why a second VM of a locked label does not start beside the first."""
        return Reason(
            f"{label} may not start: the label is locked, and while a VM of it is built, dom0 "
            f"could reach the one that runs already ({wording.printable(there.vm)}, domain "
            f"{there.domid}).", (self._policy.labels[label].span,),
        )

    def retired(self, label: LabelName) -> Reason:
        """Why nothing goes to or from a tombstone."""
        return Reason(
            f"the label {label} is retired: no VM with it starts, and one that still runs shares "
            "with nobody.", (self._policy.retired[label].span,),
        )

    # -- parts --------------------------------------------------------------------------------

    def _between(
        self, id: DecisionId, subject: LabelName, object: LabelName, operation: Operation
    ) -> Reason:
        policy = self._policy
        guard = policy.guards.get(subject) or policy.guards.get(object)
        own = distinct(self._span(subject), self._span(object))
        shared = tuple(sorted(policy.coalitions_of(subject) & policy.coalitions_of(object)))
        opening = tuple(
            c for c in shared if operation.mechanism in policy.coalitions[c].mechanisms
        )
        does = _DOES[operation].format(o=f"another {object}" if subject == object else object)
        match id:
            case DecisionId.STE_SHARED:
                places = distinct(*(policy.coalitions[c].span for c in opening))
                levels, spans = self._levels(subject, object)
                levels = levels and f", and their levels allow it ({levels})"
                return Reason(
                    f"{subject} may {does}: they share {wording.coalitions(opening)}{levels}.",
                    distinct(*own, *places, *spans), opening,
                )
            case DecisionId.STE_DISJOINT if subject == object:
                why = f"{subject} is in no coalition"
            case DecisionId.STE_DISJOINT:
                why = "no coalition in common (" + "; ".join(
                    f"{n}: {wording.listed(sorted(policy.coalitions_of(n)), 'no coalition')}"
                    for n in (subject, object)
                ) + ")"
            case DecisionId.MECHANISM_CLOSED:
                # At a guard, the coalition of the other direction may well open it.
                closing = tuple(c for c in shared if c not in opening)
                why = (f"they share {wording.coalitions(closing)}, which "
                       f"{'opens' if len(closing) == 1 else 'open'} no {operation.mechanism}")
                own = distinct(*own, *(policy.coalitions[c].span for c in closing))
            case DecisionId.MECHANISM_OFF:
                off = [n for n in dict.fromkeys((subject, object))
                       if operation.mechanism not in policy.labels[n].mechanisms]
                why = f"{operation.mechanism} is switched off for {wording.listed(off)}"
            case DecisionId.GUARD_CHAIN:
                why = "guards do not pass information to each other"
            case DecisionId.GUARD_EXPIRED if guard is not None:
                reason = self.guard_expired(guard)
                return Reason(reason.sentence, distinct(*reason.rules, *own))
            case DecisionId.GUARD_PASSES if guard is not None:
                return Reason(
                    f"{subject} may {does}: the guard {guard.name} passes information from "
                    f"{guard.source} to {guard.sink} ({wording.printable(guard.reason)}).",
                    distinct(guard.span, *own, policy.coalitions[guard.source].span,
                              policy.coalitions[guard.sink].span),
                    tuple(sorted({guard.source, guard.sink} & {*shared})),
                )
            case DecisionId.GUARD_DIRECTION if guard is not None:
                why = (f"the guard {guard.name} passes information from {guard.source} to "
                       f"{guard.sink} only")
                own = distinct(guard.span, *own)
            case _:
                why, spans = self._level_refusal(id, subject, object, operation, opening)
                own = distinct(*own, *spans)
        return Reason(f"{subject} may not {does}: {why}.", own)

    def _level_refusal(
        self, id: DecisionId, subject: LabelName, object: LabelName, operation: Operation,
        opening: tuple[CoalitionName, ...],
    ) -> tuple[str, tuple[Span, ...]]:
        levels, spans = self._levels(subject, object)
        places = tuple(self._policy.coalitions[c].span for c in opening)
        copied = operation is Operation.COPY_FROM
        match id:
            case DecisionId.MLS_READ_UP:
                why = "reading up"
            case DecisionId.MLS_WRITE_DOWN:
                why = "writing down"
            case DecisionId.BIBA_READ_DOWN:
                why = "reading from a lower integrity"
            case DecisionId.BIBA_WRITE_UP:
                why = "writing to a higher integrity"
            case DecisionId.MLS_NOT_EQUAL | DecisionId.BIBA_NOT_EQUAL:
                return (f"this is a two-way exchange, which needs equal levels ({levels})", spans)
            case _:
                blind = "to higher levels" if id is DecisionId.MLS_WRITE_UP else (
                    "to lower integrity")
                told = f"no coalition that they share lets VMs write {blind} (write-up)"
                if copied:
                    told += "; the hypervisor cannot tell this copy from such a write"
                return f"{told} ({levels})", (*places, *spans)
        return f"that would be {why} ({levels})", spans

    def _levels(self, a: LabelName, b: LabelName) -> tuple[str, tuple[Span, ...]]:
        """``a: secret; b: public`` for the lattices that the policy has, and where they are."""
        policy = self._policy
        parts: list[str] = []
        for name in dict.fromkeys((a, b)):
            label = policy.labels[name]
            held = [
                *_shown(policy.levels, label.level),
                *(f"integrity {text}" for text in _shown(policy.integrity, label.integrity)),
            ]
            if held:
                parts.append(f"{name}: {', '.join(held)}")
        lattices = (policy.levels, policy.integrity)
        return "; ".join(parts), tuple(lat.span for lat in lattices if lat is not None)

    def _retired(self, a: LabelName, b: LabelName) -> Reason:
        return self.retired(a if a in self._policy.retired else b)

    def _span(self, name: LabelName) -> Span:
        label: Label | None = self._policy.labels.get(name)
        return label.span if label is not None else self._policy.retired[name].span


def _shown(lattice: Lattice | None, held: LevelRange | None) -> Iterable[str]:
    return () if lattice is None or held is None else (lattice.show_range(held),)


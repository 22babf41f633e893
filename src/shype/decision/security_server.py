"""The security server: answers every question about a policy with a `Decision`.

It combines Simple Type Enforcement (who may exchange information), mechanisms
and levels (by what, and in which direction), guards, the authorization rule
(whom dom0 may run) and the Chinese Wall (who may run together).  It does no I/O
and keeps no state of the host: who runs, and today's date, are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from shype.base.errors import BadInput, Unavailable
from shype.decision import resources, wording
from shype.decision.chinese_wall import ChineseWall, Conflict, ReplayConflict
from shype.decision.decision import Decision, Holder, Reason
from shype.decision.explaining import Explainer
from shype.decision.ids import PERMISSIONS, DecisionId
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.rights import Classes
from shype.decision.rows import Rows
from shype.decision.running import Running
from shype.decision.sharing import INDEX, AccessVector, Row, Sharing
from shype.policy.model import Policy, Resource, ResourceKind, ResourceLabel
from shype.policy.names import LabelName, MemberName, VectorName
from shype.policy.resources import ResourceTable
from shype.policy.source import distinct

if TYPE_CHECKING:
    from shype.decision.batch import Batch, Codes, Indices, Verdicts

#: Vectors kept at a time; beyond it they are computed anew. One takes about 34 bytes.
AVC_LIMIT = 1_000_000
#: Decisions kept for who asks the same again: what 70 labels can ask. One takes about 300 bytes.
DECIDED_LIMIT = 1 << 16


class UnknownRunning(Unavailable):
    """Domains run whose label the policy does not know, so the wall cannot be decided."""


class SecurityServer:
    """Decides by one policy; safe to share between threads.

    ``today``: the date by which guards expire; None (for analysis) lets none
    expire.  Every method that takes a label raises BadInput
    (``label.unknown``) if the policy does not have it. A denial is never an
    exception.

    Verdicts are kept in an access vector cache: per pair of classes that was
    asked about, one verdict per operation. Nothing is computed beforehand, so
    that neither a question nor the memory depends on how many others share a
    coalition. Above it, the last decisions themselves are kept.
    """

    def __init__(self, policy: Policy, *, today: date | None = None) -> None:
        self.policy = policy
        self._today = today
        self._labels = dict(policy.labels)
        self._dom0 = policy.host.dom0
        self.classes = Classes(policy)
        self._class = self.classes.of
        self._sharing = Sharing(policy, self.classes, today)
        self._explainer = Explainer(policy)
        self._explain = self._explainer.reason
        self._wall = ChineseWall({name: wall.members for name, wall in policy.walls.items()})
        self._spans = {
            **{name: tomb.span for name, tomb in policy.retired.items()},
            **{name: label.span for name, label in self._labels.items()},
        }
        self._members: dict[LabelName, frozenset[MemberName]] = {
            **{name: tomb.members for name, tomb in policy.retired.items()},
            **{name: label.members for name, label in self._labels.items()},
        }
        self._avc: dict[int, dict[int, AccessVector]] = {}
        self._cached = 0
        self.decide = lru_cache(DECIDED_LIMIT)(self._decide)
        self._batch: Batch | None = None
        self._rows: Rows | None = None
        self._resources = ResourceTable(policy.resources)

    # -- between two domains ------------------------------------------------------------------

    #: May a domain labelled ``subject`` do an operation to one labelled ``object``? The arguments
    #: are these three. The same label twice means two different VMs, except for dom0's label: no
    #: VM carries it, so that is dom0 acting on itself. The last `DECIDED_LIMIT` answers are kept.
    decide: Callable[[LabelName, LabelName, Operation], Decision]

    def _decide(self, subject: LabelName, object: LabelName, operation: Operation) -> Decision:
        try:
            id = self._avc[self._class[subject]][self._class[object]][INDEX[operation]]
        except KeyError:
            id = self._miss(subject, object, operation)
        # Without `Decision.__init__`, and the reason not before it is asked for: the hot path.
        decision = _new(Decision)
        decision.permitted = id in PERMISSIONS
        decision.id = id
        decision._told = (self._explain, id, subject, object, operation)
        return decision

    def permits(self, subject: LabelName, object: LabelName, operation: Operation) -> bool:
        """The verdict of `decide` alone."""
        try:
            vector = self._avc[self._class[subject]][self._class[object]]
            return vector[INDEX[operation]] in PERMISSIONS
        except KeyError:
            return self._miss(subject, object, operation) in PERMISSIONS

    def decide_many(
        self, subjects: Indices, objects: Indices, operations: Indices
    ) -> Verdicts:
        """The verdicts (true: permitted) of arrays of questions, as `decide` gives them.

        Subjects and objects are indices into `order` (`indices` finds them by
        name), operations are indices into `Operation` (`sharing.INDEX`). The
        arrays have one shape, or are broadcast to one. Raises BadInput
        ``batch.index`` and ``batch.shape``.
        """
        return self.batch.permits(subjects, objects, operations)

    def decide_many_ids(
        self, subjects: Indices, objects: Indices, operations: Indices
    ) -> Codes:
        """As `decide_many`, but the decisions: each number is an index into `DecisionId`."""
        return self.batch.decide(subjects, objects, operations)

    def indices(self, labels: Iterable[str]) -> Indices:
        """The indices of labels, for `decide_many`. Raises BadInput ``label.unknown``."""
        return self.batch.indices(labels)

    @property
    def batch(self) -> Batch:
        """What decides arrays; made at its first use, because it needs numpy and memory."""
        if self._batch is None:
            from shype.decision.batch import Batch

            self._batch = Batch(self.classes, self._sharing)
        return self._batch

    def vectors(self, subject: int) -> Row:
        """The access vectors of class ``subject`` of `classes` on all it is not unrelated to.

        Every other class has the vector `sharing.UNRELATED`. Computed anew, not cached.
        """
        return self._sharing.row(subject)

    def groups(self, subject: int) -> Iterator[tuple[AccessVector, int]]:
        """As `vectors`, by vector: each with the set of classes (bit n for class n) that has it.

        A vector may come more than once. Quick however many classes there are.
        """
        if self._rows is None:
            self._rows = Rows(self.classes, self._sharing)
        return self._rows.groups(subject)

    def _miss(self, subject: LabelName, object: LabelName, operation: Operation) -> DecisionId:
        for name in (subject, object):
            if name not in self._class:
                raise unknown_label(name, self._labels)
        mine, theirs = self._class[subject], self._class[object]
        vector = self._sharing.vector(mine, theirs)
        if self._cached >= AVC_LIMIT:
            self._avc, self._cached = {}, 0
        self._cached += 1
        self._avc.setdefault(mine, {})[theirs] = vector
        return vector[INDEX[operation]]

    # -- resources ----------------------------------------------------------------------------

    def use(
        self, label: LabelName, kind: ResourceKind, name: str,
        access: Access = Access.READ_WRITE,
    ) -> Decision:
        """May a VM labelled ``label`` use the resource ``name`` of ``kind``?

        Raises BadInput ``resource.name`` if ``name`` is none of ``kind``, and
        ``resource.mixed`` if parts of a range carry different labels.
        """
        if label not in self._class:
            raise unknown_label(label, self._labels)
        rights = self.classes.rights[self._class[label]]
        return resources.use(
            self.policy, self._resources, label, rights, kind, name, access, self._today
        )

    def use_entry(
        self, label: LabelName, kind: ResourceKind, entry: Resource | None,
        access: Access = Access.READ_WRITE, *, shown: str | None = None,
    ) -> Decision:
        """As `use`, for each resource of ``kind`` that ``entry`` names (None: that no entry does).

        ``shown``: the one that is asked about, by whatever name. Raises BadInput
        ``label.unknown``.
        """
        if label not in self._class:
            raise unknown_label(label, self._labels)
        name = shown or ("that no entry names" if entry is None else entry.pattern)
        rights = self.classes.rights[self._class[label]]
        return resources.judge(
            self.policy, label, rights, kind, name, entry, access, self._today
        )

    def labelled(self, kind: ResourceKind, name: str) -> bool:
        """Whether an entry of the policy names the resource. Raises BadInput as `use`."""
        return self._resources.match(kind, name) is not None

    def class_may_use(
        self, number: int, kind: ResourceKind, found: ResourceLabel, access: Access
    ) -> bool:
        """Whether labels of class ``number`` of `classes` may use what is labelled ``found``."""
        rights = self.classes.rights[number]
        id = resources.verdict(self.policy, rights, kind, found, access, self._today)
        return id in PERMISSIONS

    # -- authorization and launch -------------------------------------------------------------

    def authorize(self, label: LabelName) -> Decision:
        """May dom0 run, and serve, a VM labelled ``label``?"""
        dom0, host = self._dom0, self.policy.host.span
        if label in self.policy.retired:
            return _from(DecisionId.LABEL_RETIRED, self._explainer.retired(label))
        self._require(label)
        if label == dom0:
            return Decision(
                False, DecisionId.AUTH_RESERVED,
                f"no VM may carry {label}: it is dom0's own label.", distinct(host),
            )
        if label == self.policy.host.manager:
            return Decision(
                False, DecisionId.AUTH_RESERVED,
                f"{label} is the manager's own label: `shype manager start` starts it, once.",
                distinct(host),
            )
        allowed = self.policy.coalitions_of(label) <= self._labels[dom0].coalitions
        id = DecisionId.AUTH_DOM0 if allowed else DecisionId.AUTH_NOT_AUTHORIZED
        return _from(id, self._explainer.authority(label))

    def launch(
        self, label: LabelName, running: Sequence[Running], vector: VectorName | None = None
    ) -> Decision:
        """May a VM labelled ``label`` start next to the domains ``running`` (dom0 may be listed)?

        Authorization first, then whether it is a guard that has expired, then
        whether ``vector``, the configuration vector in force (None: not asked), has
        the label, whether it is locked and carried already, then the wall. Domains that already
        run against
        the wall do not change the answer for labels they do not concern; ask
        `violations` for them.

        Raises UnknownRunning (``wall.unknown-running``) if a running domain's
        label is not in the policy: nothing is guessed about what it holds.
        """
        authorized = self.authorize(label)
        if not authorized.permitted:
            return authorized
        guard = self.policy.guards.get(label)
        if guard is not None and self._today is not None and guard.expired(self._today):
            return _from(DecisionId.GUARD_EXPIRED, self._explainer.guard_expired(guard))
        if vector is not None and label not in self.policy.vectors[vector].labels:
            return _from(DecisionId.VECTOR_ABSENT, self._explainer.absent(label, vector))
        self._require_known(running)
        if self._labels[label].locked:
            twin = next((domain for domain in running if domain.label == label), None)
            if twin is not None:
                return _from(DecisionId.LABEL_LOCKED, self._explainer.locked(label, twin))
        return self._beside(label, running)

    def together(self, a: LabelName, b: LabelName) -> Decision:
        """May VMs labelled ``a`` and ``b`` run on one host at the same time, by the wall alone?"""
        self._require(a, b)
        mine, theirs = self._labels[a].members, self._labels[b].members
        outcome = self._wall.replay((theirs, mine))
        spans = distinct(self._spans[a], self._spans[b])
        if not isinstance(outcome, ReplayConflict):
            return Decision(
                True, DecisionId.WALL_FREE,
                f"{wording.pair(a, b)} may run on one host at the same time: no wall "
                "separates them.",
                spans,
            )
        found = [
            (wall, member, held)
            for member in sorted(mine)
            for wall, held in self._wall.excluders(member, theirs)
        ]
        names = tuple(dict.fromkeys(wall for wall, _, _ in found))
        verb = "separates" if len(names) == 1 else "separate"
        parts = tuple(dict.fromkeys(f"{member} from {held}" for _, member, held in found))
        return Decision(
            False, DecisionId.WALL_CONFLICT,
            f"{wording.pair(a, b)} may not run on one host at the same time: "
            f"{wording.walls(names)} {verb} {wording.listed(parts)}.",
            distinct(*(self.policy.walls[wall].span for wall in names), *spans),
        )

    def violations(self, running: Sequence[Running]) -> tuple[Decision, ...]:
        """Who of ``running``, in that order, could not have started after those before it.

        Empty if the wall holds. Raises UnknownRunning like `launch`.
        """
        self._require_known(running)
        state, found = self._wall.count(()), list[Decision]()
        for index, domain in enumerate(running):
            members = self._members[domain.label]
            if isinstance(self._wall.start(state, members), Conflict):
                found.append(self._beside(domain.label, running[:index]))
            state = self._wall.account(state, members)
        return tuple(found)

    def _beside(self, name: LabelName, running: Sequence[Running]) -> Decision:
        own = self._members[name]
        state = self._wall.count(self._members[domain.label] for domain in running)
        outcome = self._wall.start(state, own)
        if isinstance(outcome, Conflict):
            return self._conflict(name, outcome, running)
        if not own:
            why = "it is a member of no wall"
        else:
            why = f"no running domain is separated from {wording.listed(sorted(own))}"
        spans = (self.policy.walls[wall].span for wall in self._wall.walls_of(own))
        return Decision(
            True, DecisionId.WALL_FREE, f"{name} may start: {why}.",
            distinct(self._spans[name], *spans),
        )

    def _conflict(
        self, name: LabelName, conflict: Conflict, running: Sequence[Running]
    ) -> Decision:
        holders = tuple(
            Holder(domain.domid, domain.vm, domain.label, member)
            for domain in running
            for member in dict.fromkeys(
                held
                for excluded in conflict.members
                for _, held in self._wall.excluders(excluded, self._members[domain.label])
            )
        )
        verb = "separates" if len(conflict.walls) == 1 else "separate"
        return Decision(
            False, DecisionId.WALL_CONFLICT,
            f"{name} may not start: {wording.walls(conflict.walls)} {verb} "
            f"{wording.listed(conflict.members)} from what runs: {wording.holders(holders)}.",
            distinct(
                *(self.policy.walls[wall].span for wall in conflict.walls), self._spans[name],
                *(self._spans[holder.label] for holder in holders),
            ),
            holders=holders,
        )

    # -- helpers ------------------------------------------------------------------------------

    def _require(self, *labels: LabelName) -> None:
        for label in labels:
            if label not in self._labels:
                raise unknown_label(label, self._labels)

    def _require_known(self, running: Sequence[Running]) -> None:
        strange = [domain for domain in running if domain.label not in self._members]
        if strange:
            each = [
                f"{wording.printable(d.vm)} (domain {d.domid}, label {wording.printable(d.label)})"
                for d in strange
            ]
            raise UnknownRunning(
                "wall.unknown-running",
                "the wall cannot be decided: the policy does not know the labels of "
                + wording.listed(each),
                "stop these domains, or build and load a policy that has their labels",
            )


def unknown_label(name: str, known: Iterable[str]) -> BadInput:
    """The error ``label.unknown``, with the names that look like ``name``."""
    import difflib  # only for a refusal

    close = difflib.get_close_matches(name, list(known), n=3)
    fix = f"did you mean {' or '.join(close)}?" if close else "see `labels:` of the policy"
    return BadInput("label.unknown", f"the policy has no label {name!r}", fix)


def _from(id: DecisionId, reason: Reason) -> Decision:
    """The decision ``id`` with a reason that is at hand."""
    return Decision(id in PERMISSIONS, id, reason.sentence, reason.rules, reason.shared)


_new = Decision.__new__

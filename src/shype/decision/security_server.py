"""The security server: answers every question about a policy with a `Decision`.

It combines Simple Type Enforcement (who may exchange information), the
authorization rule (whom dom0 may run) and the Chinese Wall (who may run
together), after Sailer et al., ACSAC 2005. It does no I/O and keeps no state of
the host: who runs is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shype.base.errors import BadInput, Unavailable
from shype.decision import wording
from shype.decision.chinese_wall import ChineseWall, Conflict, ReplayConflict
from shype.decision.decision import Decision, Holder
from shype.decision.ids import DecisionId
from shype.decision.running import Running
from shype.decision.type_enforcement import TypeEnforcement
from shype.policy.mechanism import Mechanism
from shype.policy.model import Label, Policy
from shype.policy.names import CoalitionName, LabelName
from shype.policy.source import Span

# Looking up a member of an enumeration costs as much as the whole decision.
_ARGO, _FOREIGN, _CONTROL = Mechanism.ARGO, Mechanism.FOREIGN, Mechanism.CONTROL
_STE_SHARED, _STE_DISJOINT = DecisionId.STE_SHARED, DecisionId.STE_DISJOINT


class UnknownRunning(Unavailable):
    """Domains run whose label the policy does not know, so the wall cannot be decided."""


class SecurityServer:
    """Decides by one policy. Immutable after construction, so it may be shared between threads.

    Every method that takes a label raises BadInput (``label.unknown``) if the
    policy does not have it. A denial is never an exception.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._labels = dict(policy.labels)
        self._dom0 = policy.host.dom0
        self._ste = TypeEnforcement({n: label.coalitions for n, label in self._labels.items()})
        self._wall = ChineseWall({name: wall.members for name, wall in policy.walls.items()})
        self._spans = {label.name: label.span for label in self._labels.values()}
        self._types = {name: self._ste.types(name) for name in self._labels}
        self._spelled = {n: wording.listed(t, "no coalition") for n, t in self._types.items()}
        self._reasons: dict[tuple[CoalitionName, ...], tuple[tuple[Span, ...], str]] = {}

    # -- communication ------------------------------------------------------------------------

    def permits(self, a: LabelName, b: LabelName, mechanism: Mechanism) -> bool:
        """The verdict of `communicate` alone, several times cheaper: for whole matrices."""
        dom0 = self._dom0
        try:
            if a != dom0 and b != dom0:
                shares = self._ste.may_share(a, b)
                return shares and mechanism is not _FOREIGN and mechanism is not _CONTROL
            if mechanism is _ARGO:
                self._require(a, b)
                return False
            if a != dom0 and (mechanism is _FOREIGN or mechanism is _CONTROL):
                self._require(a, b)
                return False
            return self._ste.may_authorize(dom0, b if a == dom0 else a)
        except KeyError:
            self._require(a, b)
            raise

    def communicate(self, a: LabelName, b: LabelName, mechanism: Mechanism) -> Decision:
        """May a domain labelled ``a`` act on one labelled ``b`` through ``mechanism``?

        The same label twice means two different VMs, except for dom0's label:
        no VM carries it, so that is dom0 acting on itself.
        """
        spans = self._spans
        if a not in spans or b not in spans:
            self._require(a, b)
        dom0 = self._dom0
        if a == dom0 or b == dom0:
            return self._with_dom0(a, b, mechanism)
        if mechanism is _FOREIGN or mechanism is _CONTROL:
            return self._host_only(a, b)
        shared = self._ste.shared(a, b)
        own = (spans[a],) if a == b else (spans[a], spans[b])
        if shared:
            where, reason = self._reason(shared)
            return Decision(
                True, _STE_SHARED, f"{wording.pair(a, b)} may communicate: {reason}.",
                own + where, shared,
            )
        if a == b:
            why = f"{a} is in no coalition"
        else:
            spelled = self._spelled
            why = f"no coalition in common ({a}: {spelled[a]}; {b}: {spelled[b]})"
        return Decision(
            False, _STE_DISJOINT,
            f"{wording.pair(a, b)} may not communicate: {why}.", own,
        )

    def _with_dom0(self, a: LabelName, b: LabelName, mechanism: Mechanism) -> Decision:
        here = self.policy.host.span
        if mechanism is _ARGO:
            return Decision(
                False, DecisionId.HOST_NO_ARGO,
                f"Argo rings never involve dom0 ({self._dom0}): it serves VMs through event "
                "channels and grants only.",
                (here,),
            )
        if a == b:
            return Decision(
                True, DecisionId.HOST_SELF, f"dom0 ({a}) may act on itself.",
                _distinct(here, self._spans[a]),
            )
        if a != self._dom0 and (mechanism is _FOREIGN or mechanism is _CONTROL):
            return self._host_only(a, b)
        return self.authorize(b if a == self._dom0 else a)

    def _host_only(self, a: LabelName, b: LabelName) -> Decision:
        return Decision(
            False, DecisionId.HOST_ONLY,
            f"a VM labelled {a} may neither control {b} nor map its memory without a grant: "
            f"only dom0 ({self._dom0}) may.",
            _distinct(self.policy.host.span, self._spans[a]),
        )

    # -- authorization and launch -------------------------------------------------------------

    def authorize(self, label: LabelName) -> Decision:
        """May dom0 run, and serve, a VM labelled ``label``?"""
        self._require(label)
        dom0, host = self._dom0, self.policy.host.span
        if label == dom0:
            return Decision(
                False, DecisionId.AUTH_RESERVED,
                f"no VM may carry {label}: it is dom0's own label.", _distinct(host),
            )
        rules = _distinct(self._spans[dom0], self._spans[label], host)
        missing = self._ste.missing(dom0, label)
        if missing:
            return Decision(
                False, DecisionId.AUTH_NOT_AUTHORIZED,
                f"dom0 ({dom0}) may not run or serve {label}: dom0 is not in "
                f"{wording.coalitions(missing)}.",
                rules,
            )
        types = self._types[label]
        why = f"dom0 is in {wording.coalitions(types)}" if types else f"{label} is in no coalition"
        return Decision(
            True, DecisionId.AUTH_DOM0, f"dom0 ({dom0}) may run and serve {label}: {why}.",
            rules, types,
        )

    def launch(self, label: LabelName, running: Sequence[Running]) -> Decision:
        """May a VM labelled ``label`` start next to the domains ``running`` (dom0 may be listed)?

        Authorization first, then the wall. Domains that already run against
        the wall do not change the answer for labels they do not concern; ask
        `violations` for them.

        Raises UnknownRunning (``wall.unknown-running``) if a running domain's
        label is not in the policy: nothing is guessed about what it holds.
        """
        authorized = self.authorize(label)
        if not authorized.permitted:
            return authorized
        self._require_known(running)
        return self._beside(label, running)

    def together(self, a: LabelName, b: LabelName) -> Decision:
        """May VMs labelled ``a`` and ``b`` run on one host at the same time, by the wall alone?"""
        self._require(a, b)
        mine, theirs = self._labels[a].members, self._labels[b].members
        outcome = self._wall.replay((theirs, mine))
        spans = _distinct(self._spans[a], self._spans[b])
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
            _distinct(*(self.policy.walls[wall].span for wall in names), *spans),
        )

    def violations(self, running: Sequence[Running]) -> tuple[Decision, ...]:
        """Who of ``running``, in that order, could not have started after those before it.

        Empty if the wall holds. Raises UnknownRunning like `launch`.
        """
        self._require_known(running)
        state, found = self._wall.count(()), list[Decision]()
        for index, domain in enumerate(running):
            members = self._labels[domain.label].members
            if isinstance(self._wall.start(state, members), Conflict):
                found.append(self._beside(domain.label, running[:index]))
            state = self._wall.account(state, members)
        return tuple(found)

    def _beside(self, name: LabelName, running: Sequence[Running]) -> Decision:
        label = self._labels[name]
        state = self._wall.count(self._labels[domain.label].members for domain in running)
        outcome = self._wall.start(state, label.members)
        if isinstance(outcome, Conflict):
            return self._conflict(label, outcome, running)
        if not label.members:
            why = "it is a member of no wall"
        else:
            why = f"no running domain is separated from {wording.listed(sorted(label.members))}"
        spans = (self.policy.walls[wall].span for wall in self._wall.walls_of(label.members))
        return Decision(
            True, DecisionId.WALL_FREE, f"{name} may start: {why}.",
            _distinct(label.span, *spans),
        )

    def _conflict(self, label: Label, conflict: Conflict, running: Sequence[Running]) -> Decision:
        holders = tuple(
            Holder(domain.domid, domain.vm, domain.label, member)
            for domain in running
            for member in dict.fromkeys(
                held
                for excluded in conflict.members
                for _, held in self._wall.excluders(excluded, self._labels[domain.label].members)
            )
        )
        verb = "separates" if len(conflict.walls) == 1 else "separate"
        return Decision(
            False, DecisionId.WALL_CONFLICT,
            f"{label.name} may not start: {wording.walls(conflict.walls)} {verb} "
            f"{wording.listed(conflict.members)} from what runs: {wording.holders(holders)}.",
            _distinct(
                *(self.policy.walls[wall].span for wall in conflict.walls), label.span,
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
        strange = [domain for domain in running if domain.label not in self._labels]
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

    def _reason(self, shared: tuple[CoalitionName, ...]) -> tuple[tuple[Span, ...], str]:
        """Where ``shared`` are declared, and that they are shared; few sets for many pairs."""
        reason = self._reasons.get(shared)
        if reason is None:
            spans = _distinct(*(self.policy.coalitions[name].span for name in shared))
            reason = spans, f"they share {wording.coalitions(shared)}"
            self._reasons[shared] = reason
        return reason


def unknown_label(name: str, known: Iterable[str]) -> BadInput:
    """The error ``label.unknown``, with the names that look like ``name``."""
    import difflib  # only for a refusal

    close = difflib.get_close_matches(name, list(known), n=3)
    fix = f"did you mean {' or '.join(close)}?" if close else "see `labels:` of the policy"
    return BadInput("label.unknown", f"the policy has no label {name!r}", fix)


def _distinct(*spans: Span) -> tuple[Span, ...]:
    return tuple(dict.fromkeys(spans))

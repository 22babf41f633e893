"""The plan of an update: what it changes, what stands against it, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from shype.analysis.assertions.prove import prove
from shype.analysis.changes import Change, changes
from shype.analysis.channels import about_channels, about_resources
from shype.analysis.contexts import Contexts
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.ids import Found, PlanId, Weight
from shype.analysis.pairs import Group, compare, counted, parties
from shype.analysis.renames import contradictions, renames
from shype.analysis.running import Both, about_labels, about_running, guests
from shype.analysis.state import State
from shype.decision.security_server import SecurityServer
from shype.policy.assertions import sentence
from shype.policy.grammar import version_order
from shype.policy.model import Policy
from shype.policy.source import Span

#: A guard whose last day is nearer is mentioned.
_SOON = timedelta(days=30)


class Verdict(StrEnum):
    """Whether an update can be applied to what runs."""

    CLEAN = "clean"
    REVOKE = "needs-revocation"
    IMPOSSIBLE = "impossible"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that an update from ``old`` to ``new`` would do.

    ``found`` starts with the weightiest.  ``informed``: a state was given.
    """

    old: Policy
    new: Policy
    changes: tuple[Change, ...]
    groups: tuple[Group, ...]
    found: tuple[Found, ...]
    informed: bool

    @property
    def verdict(self) -> Verdict:
        """By the weightiest finding."""
        weights = {finding.weight for finding in self.found}
        if Weight.STOP in weights:
            return Verdict.IMPOSSIBLE
        return Verdict.REVOKE if Weight.REVOKE in weights else Verdict.CLEAN

    def concerned(self, weight: Weight) -> tuple[tuple[int, str], ...]:
        """The running domains (id, name) that findings of ``weight`` are about."""
        return tuple(sorted({vm for f in self.found if f.weight is weight for vm in f.vms}))

    def to_json(self) -> dict[str, object]:
        """Shape of ``shype plan --json``."""
        return {
            "verdict": self.verdict,
            "state_given": self.informed,
            "old": {"name": self.old.name, "version": self.old.version},
            "new": {"name": self.new.name, "version": self.new.version},
            "stop": [{"domid": d, "vm": vm} for d, vm in self.concerned(Weight.STOP)],
            "revoke": [{"domid": d, "vm": vm} for d, vm in self.concerned(Weight.REVOKE)],
            "findings": [finding.to_json() for finding in self.found],
            "changes": [change.to_json() for change in self.changes],
            "pairs": {
                "by_operation": {
                    op: {"gained": gained, "lost": lost}
                    for op, (gained, lost) in counted(self.groups).items()
                },
                "groups": [group.to_json() for group in self.groups],
            },
        }


def plan(
    old: Policy, new: Policy, old_contexts: Contexts, new_contexts: Contexts, *,
    today: date, state: State | None = None,
) -> Plan:
    """What replacing ``old`` by ``new`` would do, to the host in ``state`` if one is given.

    Pairs are compared as the hypervisor enforces them, which knows no dates:
    a guard that has expired is a finding and not a lost pair.
    """
    both = Both(
        SecurityServer(old), SecurityServer(new), renames(old, new), old_contexts, new_contexts,
    )
    groups = compare(both.old, both.new, parties(both.old, both.new, both.names))
    found = [
        *_versions(old, new), *contradictions(old, new), *_assertions(both.new),
        *_guards(new, today), *_dom0(both),
    ]
    found += about_labels(both) if state is None else _with_state(both, state)
    order = list(reversed(Weight))
    found.sort(key=lambda finding: order.index(finding.weight))
    declared = tuple(changes(old, new, both.names))
    return Plan(old, new, declared, groups, tuple(found), state is not None)


def _versions(old: Policy, new: Policy) -> Iterator[Found]:
    """Versions only grow, and each names the one that it replaces."""
    # A policy keeps no place of its heading: its file says enough.
    place = (Span(old.source, 1, 1), Span(new.source, 1, 1))
    if new.name != old.name and new.was != old.name:
        yield Found(
            PlanId.NAME, Weight.STOP,
            f"the new policy is named {new.name}, and the old one {old.name}: it replaces another",
            f"write `was: {old.name}` under `policy:` if it was renamed", place,
        )
    if new.replaces != old.version:
        named = "none" if new.replaces is None else f"version {new.replaces}"
        yield Found(
            PlanId.FROM, Weight.STOP,
            f"the new policy says that it replaces {named}, and the old one has version "
            f"{old.version}",
            f'write `from: "{old.version}"` under `policy:`, if it was made from that one', place,
        )
    if version_order(new.version) <= version_order(old.version):
        yield Found(
            PlanId.VERSION, Weight.STOP,
            f"version {new.version} is not higher than {old.version}: versions only grow",
            "raise `version`; a rollback is a new version with the old content", place,
        )


def _assertions(new: SecurityServer) -> Iterator[Found]:
    """A policy that violates its own assertions is not built, and replaces nothing."""
    if not new.policy.assertions:  # as in every bundle
        return
    for result in prove(new, FlowGraph(new), new.policy.assertions, shown=1):
        if not result.holds:
            yield Found(
                PlanId.ASSERTION, Weight.STOP,
                f"the new policy violates what it asserts (`{sentence(result.assertion)}`): "
                f"{result.violations[0].sentence}",
                "see `shype check` for the path; close it, or correct the assertion",
                (result.assertion.terms.span,),
            )


def _guards(new: Policy, today: date) -> Iterator[Found]:
    for guard in new.guards.values():
        if guard.expires is None:
            continue
        if guard.expired(today):
            yield Found(
                PlanId.GUARD_EXPIRED, Weight.STOP,
                f"the guard {guard.name} of the new policy expired on {guard.expires}, and the "
                "hypervisor knows no dates",
                "renew it with a reason, or remove it", (guard.span,),
            )
        elif guard.expires - today <= _SOON:
            yield Found(
                PlanId.GUARD_EXPIRES, Weight.NOTE,
                f"the guard {guard.name} expires on {guard.expires}", "plan its renewal",
                (guard.span,),
            )


def _dom0(both: Both) -> Iterator[Found]:
    before, after = both.old_contexts.dom0, both.new_contexts.dom0
    if before != after:
        places = (lat.span for lat in (both.new.policy.levels, both.new.policy.integrity) if lat)
        yield Found(
            PlanId.DOM0_LEVELS, Weight.STOP,
            f"dom0 booted with all levels of the old policy ({before}) and keeps them through a "
            f"reload; the new policy has others ({after})",
            "boot the host with the new policy, or keep the number of levels and categories",
            tuple(places) or (both.new.policy.host.span,), ((0, "dom0"),),
        )


def _with_state(both: Both, state: State) -> Iterator[Found]:
    if state.window_open:
        yield Found(
            PlanId.WINDOW_OPEN, Weight.STOP,
            "a launch window is open: it stays open through a reload, and the new policy may "
            "mean another label by it",
            "wait for the launch to end, or close it by `shype recover`",
        )
    running = guests(both, state)
    yield from about_running(both, running)
    yield from about_channels(both, state, running)
    yield from about_resources(both, running)

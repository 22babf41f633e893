"""The security server and the reference model give the same answers, for the same reasons."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date

from hypothesis import given, settings
from hypothesis import strategies as st

from shype.decision.ids import PERMISSIONS, DecisionId
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy, ResourceKind
from tests.policy.strategies import full_policies

from . import reference_model as model
from .small_policies import (
    TODAY,
    policies_with_resources,
    resource_of,
    small_policies,
    world_of,
)

#: The security server's id for each reason of the model.
IDS = {
    "shared": DecisionId.STE_SHARED,
    "guard passes": DecisionId.GUARD_PASSES,
    "dom0 itself": DecisionId.HOST_SELF,
    "served by dom0": DecisionId.AUTH_DOM0,
    "free": DecisionId.WALL_FREE,
    "nothing in common": DecisionId.STE_DISJOINT,
    "not opened": DecisionId.MECHANISM_CLOSED,
    "switched off": DecisionId.MECHANISM_OFF,
    "level read": DecisionId.MLS_READ_UP,
    "level write": DecisionId.MLS_WRITE_DOWN,
    "level both": DecisionId.MLS_NOT_EQUAL,
    "level blind": DecisionId.MLS_WRITE_UP,
    "integrity read": DecisionId.BIBA_READ_DOWN,
    "integrity write": DecisionId.BIBA_WRITE_UP,
    "integrity both": DecisionId.BIBA_NOT_EQUAL,
    "integrity blind": DecisionId.BIBA_WRITE_DOWN,
    "wrong way": DecisionId.GUARD_DIRECTION,
    "two guards": DecisionId.GUARD_CHAIN,
    "expired": DecisionId.GUARD_EXPIRED,
    "retired": DecisionId.LABEL_RETIRED,
    "locked": DecisionId.LABEL_LOCKED,
    "power": DecisionId.HOST_ONLY,
    "no Argo": DecisionId.HOST_NO_ARGO,
    "no map": DecisionId.HOST_NO_MAP,
    "not authorized": DecisionId.AUTH_NOT_AUTHORIZED,
    "reserved": DecisionId.AUTH_RESERVED,
    "wall": DecisionId.WALL_CONFLICT,
    "not in the vector": DecisionId.VECTOR_ABSENT,
    "used": DecisionId.RESOURCE_SHARED,
    "nothing of it": DecisionId.RESOURCE_DISJOINT,
    "inaccessible": DecisionId.RESOURCE_INACCESSIBLE,
    "no label": DecisionId.RESOURCE_UNLABELED,
}


def ids(reasons: set[str]) -> set[DecisionId]:
    """What the security server may call these reasons."""
    return {IDS[reason] for reason in reasons}


def test_every_id_has_a_reason() -> None:
    assert {*IDS.values()} == {*DecisionId}
    assert {IDS[reason] for reason in model.PERMISSIONS} == {*PERMISSIONS}


def check(policy: Policy, today: date | None) -> None:
    """All pairs of labels, by all operations, and all labels beside each other."""
    server, world = SecurityServer(policy, today=today), world_of(policy, today)
    names = [*policy.labels, *policy.retired]
    for subject, object in itertools.product(names, repeat=2):
        for operation in Operation:
            reasons = model.may_do(world, subject, object, operation)
            decision = server.decide(subject, object, operation)
            question = (subject, operation, object, reasons, decision.id)
            assert decision.id in ids(reasons), question
            assert decision.permitted is (reasons <= model.PERMISSIONS), question
            assert decision.permitted is server.permits(subject, object, operation), question
    for label in names:
        for vector in (None, *policy.vectors):
            among = None if vector is None else policy.vectors[vector].labels
            reasons = model.may_launch(world, label, [], among)
            decision = server.launch(label, [], vector)
            assert decision.id in ids(reasons), (label, reasons, decision)
            assert decision.permitted is (reasons <= model.PERMISSIONS)
        twin = [Running(1, "twin", label)]
        assert server.launch(label, twin).id in ids(model.may_launch(world, label, [label]))


def half_locked(policy: Policy) -> Policy:
    """``policy`` with every other label of a VM locked."""
    locked = {label.name for label in policy.guests[::2]}
    return replace(policy, labels={
        name: replace(label, locked=name in locked) for name, label in policy.labels.items()
    })


@settings(deadline=None, max_examples=100)
@given(policy=small_policies(), today=st.sampled_from([TODAY, None]))
def test_locked_labels(policy: Policy, today: date | None) -> None:
    check(half_locked(policy), today)


@settings(deadline=None, max_examples=800)
@given(policy=small_policies(), today=st.sampled_from([TODAY, None]))
def test_small_policies(policy: Policy, today: date | None) -> None:
    check(policy, today)


@settings(deadline=None, max_examples=25)
@given(policy=full_policies())
def test_policies_of_every_form(policy: Policy) -> None:
    check(policy, date(2031, 1, 1))


@settings(deadline=None, max_examples=80)
@given(policy=small_policies())
def test_every_decision_has_its_lines_and_a_sentence(policy: Policy) -> None:
    server = SecurityServer(policy, today=TODAY)
    lines = {
        **{label.span: name for name, label in policy.labels.items()},
        **{tomb.span: name for name, tomb in policy.retired.items()},
    }
    for subject, object in itertools.product([*policy.labels, *policy.retired], repeat=2):
        for operation in Operation:
            decision = server.decide(subject, object, operation)
            assert decision.sentence.endswith("."), decision
            assert decision.sentence.isprintable(), decision
            assert len({*decision.rules}) == len(decision.rules) > 0, decision
            assert {*decision.rules} & {*lines, policy.host.span}, decision
            # Between VMs, both labels are there (a tombstone's entry says it all).
            if policy.host.dom0 not in (subject, object) and not {
                subject, object
            } & policy.retired.keys() and decision.id != DecisionId.HOST_ONLY:
                assert {subject, object} <= {lines.get(span) for span in decision.rules}, decision
            if decision.permitted and policy.host.dom0 not in (subject, object):
                assert decision.shared, decision
                shared = policy.coalitions_of(subject) & policy.coalitions_of(object)
                assert {*decision.shared} <= shared


@settings(deadline=None, max_examples=250)
@given(policy=policies_with_resources())
def test_use_of_resources(policy: Policy) -> None:
    server, world = SecurityServer(policy, today=TODAY), world_of(policy, TODAY)
    things = [(entry.kind, entry.pattern, resource_of(entry.label)) for entry in policy.resources]
    asked = [*things, (ResourceKind.DISK, "/dev/unnamed", None)]
    names = [label.name for label in policy.guests] + [*policy.retired]
    for vm, (kind, name, thing), access in itertools.product(names, asked, Access):
        reasons = model.may_use(world, vm, kind, thing, access)
        decision = server.use(vm, kind, name, access)
        assert decision.id in ids(reasons), (vm, kind, thing, access, reasons, decision)
        assert decision.permitted is (reasons <= model.PERMISSIONS)
        assert decision.sentence.endswith(".")
        assert decision.rules


@settings(deadline=None, max_examples=100)
@given(policy=small_policies())
def test_together_is_the_wall_both_ways(policy: Policy) -> None:
    server, world = SecurityServer(policy), world_of(policy)
    for a, b in itertools.product(policy.labels, repeat=2):
        beside = [model.held(world, a)]
        expected = model.may_start(world.walls.values(), beside, model.held(world, b))
        assert server.together(a, b).permitted is server.together(b, a).permitted is expected


@settings(deadline=None, max_examples=100)
@given(policy=small_policies(levels=False, guards=False))
def test_without_levels_and_guards_sharing_is_symmetric(policy: Policy) -> None:
    server = SecurityServer(policy)
    for a, b in itertools.combinations([label.name for label in policy.guests], 2):
        for operation in Operation:
            there, back = server.decide(a, b, operation), server.decide(b, a, operation)
            assert (there.permitted, there.id) == (back.permitted, back.id)
            assert {*there.shared} == {*back.shared}


def test_the_model_knows_every_operation() -> None:
    assert {*model.OPERATIONS, *model.POWER} == {*Operation}
    for operation, (mechanism, _, _) in model.OPERATIONS.items():
        assert Operation(operation).mechanism == mechanism

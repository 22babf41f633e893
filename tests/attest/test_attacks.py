"""Attacks on evidence: each is noticed, each has its reason, none is an exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from shype.attest import event_log, evidence, host_events
from shype.attest.host_events import HostEvent, Kind, to_event
from shype.attest.reference import Boot, Rule, Window
from shype.attest.tpm import Quote
from shype.attest.verifier import CHALLENGE_LIFE
from shype.base.errors import BadInput
from shype.host import attest_result
from shype.host.attest_result import Verdict
from tests.attest.logs import ENFORCING, LAUNCH, LOAD, START, chain
from tests.attest.paper_tpm import PaperTpm
from tests.attest.world import (
    BOOTED,
    NEXT,
    NOW,
    OLD,
    REFERENCES,
    VERIFIER,
    Machine,
    World,
    judged,
    load,
    paper_machine,
)

PERMISSIVE = HostEvent(Kind.ENFORCEMENT, {"mode": "permissive"})


def changed(data: bytes, **parts: object) -> bytes:
    return evidence.dumps(replace(evidence.loads(data), **parts))  # type: ignore[arg-type]


def test_an_honest_host_is_trusted(host: Machine) -> None:
    assert judged(host) == (Verdict.TRUSTED, "")
    host.measure(LAUNCH)
    assert judged(host) == (Verdict.TRUSTED, "")


# Replays and other hosts


def test_a_replayed_quote_is_noticed(host: Machine) -> None:
    data = host.evidence()
    assert judged(host, data)[0] is Verdict.TRUSTED
    assert judged(host, data) == (Verdict.FAILED, "challenge.used")


def test_a_quote_that_is_kept_for_later_is_too_old(host: Machine) -> None:
    data = host.evidence()
    host.world.clock.now += CHALLENGE_LIFE
    assert judged(host, data) == (Verdict.FAILED, "challenge.expired")


def test_an_old_quote_does_not_answer_a_new_challenge(host: Machine) -> None:
    old = evidence.loads(host.evidence())
    nonce = host.world.verifier.challenge(host.attester.id).nonce
    assert judged(host, evidence.dumps(replace(old, nonce=nonce))) == (
        Verdict.FAILED, "quote.nonce")


def test_a_nonce_of_one_s_own_is_no_challenge(host: Machine) -> None:
    for nonce in (bytes(32), bytes(16), bytes(64), b"\0" * 7 + b"\1" + bytes(24)):
        data = host.attester.quote(nonce, REFERENCES.pcrs)
        assert judged(host, data) == (Verdict.FAILED, "challenge.unknown")


def test_another_host_s_challenge_and_key_do_not_do(world: World, host: Machine) -> None:
    other = paper_machine(world, "xen2")
    nonce = world.verifier.challenge(host.attester.id).nonce
    # the other signs for its own id with this host's challenge
    assert judged(host, other.attester.quote(nonce, REFERENCES.pcrs)) == (
        Verdict.FAILED, "challenge.unknown")
    # or claims to be this host
    forged = changed(other.attester.quote(nonce, REFERENCES.pcrs), attester=host.attester.id)
    assert judged(host, forged) == (Verdict.FAILED, "quote.signature")


def test_a_host_that_nobody_admitted_gets_no_verdict(world: World) -> None:
    stranger = Machine(world, "stranger", PaperTpm())
    stranger.attester.request("stranger")
    stranger.attester.keep()
    stranger.boot()
    with pytest.raises(BadInput) as caught:
        world.verifier.challenge(stranger.attester.id)
    assert caught.value.id == "host.unknown"
    with pytest.raises(BadInput):
        world.verifier.appraise(stranger.attester.quote(bytes(32), REFERENCES.pcrs))


def test_a_revoked_host_is_not_believed(world: World, host: Machine) -> None:
    data = host.evidence()
    world.verifier.revoke("xen1", "stolen")
    assert judged(host, data) == (Verdict.FAILED, "host.revoked")
    with pytest.raises(BadInput) as caught:
        world.verifier.enrol(host.attester.request("xen1"))
    assert caught.value.id in ("host.revoked", "tpm-key.ek")


def test_a_revoked_host_that_asks_is_told_so_signed(world: World, host: Machine) -> None:
    """Otherwise the good result that it has would hold for as long as it did before."""
    world.verifier.revoke("xen1", "stolen")
    nonce = world.verifier.challenge(host.attester.id).nonce
    result, sealed, _ = world.verifier.appraise(host.attester.quote(nonce, REFERENCES.pcrs))
    assert attest_result.loads(sealed, {VERIFIER.public.id: VERIFIER.public}) == result
    assert (result.verdict, [r.id for r in result.reasons]) == (Verdict.FAILED, ["host.revoked"])
    assert "stolen" in result.reasons[0].message


def test_evidence_that_is_not_genuine_changes_nothing_that_is_known(host: Machine) -> None:
    assert judged(host)[0] is Verdict.TRUSTED
    before = host.world.verifier.registry.get("xen1")
    last = host.world.verifier.last("xen1")
    data = host.evidence()
    bad = evidence.loads(data)
    forged = evidence.dumps(replace(bad, quote=Quote(bad.quote.attest, bad.quote.signature[:-1]
                                                     + bytes([bad.quote.signature[-1] ^ 1]))))
    assert judged(host, forged) == (Verdict.FAILED, "quote.signature")
    assert host.world.verifier.registry.get("xen1") == before
    assert host.world.verifier.last("xen1") == last
    assert judged(host, data)[0] is Verdict.TRUSTED, "and the challenge is still good"


# The log


def _entries(data: bytes) -> list[event_log.Event]:
    return list(event_log.loads(evidence.loads(data).log))


LOGS: list[tuple[str, Callable[[list[event_log.Event]], list[event_log.Event]]]] = [
    ("missing", lambda log: [*log[:2], *log[3:]]),
    ("missing at the end", lambda log: log[:-1]),
    ("empty", lambda log: []),
    ("reordered", lambda log: [log[0], log[2], log[1], log[3]]),
    ("twice", lambda log: [*log, log[-1]]),
    ("changed", lambda log: [*log[:-1], to_event(
        HostEvent(Kind.LAUNCH, {**LAUNCH.values, "label": "market"}))]),
]


@pytest.mark.parametrize("change", [change for _, change in LOGS], ids=[name for name, _ in LOGS])
def test_an_altered_log_is_noticed(
    host: Machine, change: Callable[[list[event_log.Event]], list[event_log.Event]]
) -> None:
    host.measure(LAUNCH)
    data = host.evidence()
    altered = changed(data, log=event_log.dumps(change(_entries(data))))
    assert judged(host, altered) == (Verdict.FAILED, "log.register")


def test_what_an_event_says_is_bound_to_its_digest(host: Machine) -> None:
    host.measure(PERMISSIVE)
    data = host.evidence()
    *entries, last = _entries(data)
    lie = replace(last, data=to_event(ENFORCING).data)  # the digest stays
    altered = changed(data, log=event_log.dumps([*entries, lie]))
    assert judged(host, altered) == (Verdict.FAILED, "log.unknown-event")


@pytest.mark.parametrize("entry", [
    event_log.measured(13, 6, b"something"), event_log.measured(13, 4, b"\0\0\0\0"),
    event_log.measured(13, 6, to_event(LAUNCH).data + b" "),
])
def test_what_shype_does_not_measure_is_not_accepted(
    host: Machine, entry: event_log.Event
) -> None:
    assert entry.sha256 is not None
    host.tpm.pcr_extend(13, entry.sha256)
    host.log.write_bytes(host.log.read_bytes() + event_log.encode(entry))
    assert judged(host) == (Verdict.FAILED, "log.unknown-event")


def test_no_room_for_more_in_the_log(host: Machine) -> None:
    data = host.evidence()
    found = evidence.loads(data)
    assert judged(host, changed(data, log=found.log + bytes(8))) == (Verdict.FAILED, "log.form")
    data = host.evidence()
    noted = event_log.dumps([*_entries(data), event_log.measured(8, 3, b"no action")])
    assert judged(host, changed(data, log=noted)) == (Verdict.FAILED, "log.unknown-event")


def test_what_was_measured_before_the_agent_is_noticed(world: World) -> None:
    machine = Machine(world, "xen1", PaperTpm())
    machine.enrol()
    machine.boot(LAUNCH, START, LOAD, ENFORCING)
    assert judged(machine) == (Verdict.FAILED, "log.no-agent")


@pytest.mark.parametrize(("events", "verdict", "id"), [
    ((START, LOAD), Verdict.UNKNOWN, "log.no-enforcement"),
    ((START, ENFORCING), Verdict.TRUSTED, ""),  # the boot says which policy it was
    ((START, LOAD, PERMISSIVE), Verdict.FAILED, "event.unknown"),
    ((START, LOAD, ENFORCING, PERMISSIVE, ENFORCING), Verdict.FAILED, "event.unknown"),
    ((START, load("0.9", OLD), ENFORCING), Verdict.FAILED, "event.unknown"),
    ((HostEvent(Kind.AGENT, {"agent": OLD}), LOAD, ENFORCING), Verdict.FAILED, "event.unknown"),
    ((START, LOAD, ENFORCING, HostEvent(Kind.LAUNCH, {**LAUNCH.values, "label": "b-desk"})),
     Verdict.FAILED, "event.unknown"),
    ((START, LOAD, ENFORCING, HostEvent(Kind.VECTOR, {"vector": "night"})), Verdict.FAILED,
     "event.unknown"),
])
def test_events_that_nobody_accepted_fail(
    world: World, events: tuple[HostEvent, ...], verdict: Verdict, id: str
) -> None:
    machine = Machine(world, "xen1", PaperTpm())
    machine.enrol()
    machine.boot(*events)
    assert judged(machine) == (verdict, id)


def test_a_host_without_an_agent_is_unknown(world: World, host: Machine) -> None:
    assert isinstance(host.tpm, PaperTpm)
    host.tpm.reboot()
    host.boot()
    host.tpm.reset_register(13)
    host.log.unlink()
    assert judged(host) == (Verdict.UNKNOWN, "log.no-agent")


# Registers and boots


def test_a_reset_register_is_noticed_within_one_boot(host: Machine) -> None:
    host.measure(LAUNCH)
    host.measure(LAUNCH)
    assert judged(host)[0] is Verdict.TRUSTED
    assert isinstance(host.tpm, PaperTpm)
    host.tpm.reset_register(host_events.PCR)
    host.log.unlink()
    for event in (START, LOAD, ENFORCING):
        host.measure(event)
    assert judged(host) == (Verdict.FAILED, "log.shrunk")
    host.measure(LAUNCH)
    host.measure(HostEvent(Kind.LAUNCH, {**LAUNCH.values, "image": OLD}))
    assert judged(host) == (Verdict.FAILED, "log.shrunk"), "as long as before, and another one"


def test_another_kernel_is_noticed(world: World) -> None:
    machine = Machine(world, "xen1", PaperTpm())
    machine.enrol()
    machine.tpm.pcr_extend(9, b"\6" * 32)
    machine.boot()
    result = machine.attest()
    assert result.verdict is Verdict.FAILED
    assert result.reasons[0].id == "boot.unknown"
    assert "registers 9 differ" in result.reasons[0].message


def test_no_mixture_of_two_good_boots_is_good(world: World) -> None:
    other = Boot("another", {pcr: chain(reversed([bytes(32), *d])) for pcr, d in BOOTED.items()})
    mixed = {**REFERENCES.boots[0].pcrs, 9: other.pcrs[9]}
    world.publish(replace(REFERENCES, serial=2, boots=(
        Boot("a", mixed), Boot("b", {**other.pcrs, 9: REFERENCES.boots[0].pcrs[9]}))))
    machine = paper_machine(world)
    assert judged(machine) == (Verdict.FAILED, "boot.unknown")


def test_other_firmware_is_noticed(world: World) -> None:
    machine = Machine(world, "xen1", PaperTpm())
    machine.enrol()
    machine.tpm.pcr_extend(7, b"\6" * 32)
    machine.boot()
    assert judged(machine) == (Verdict.FAILED, "firmware.unknown")


def test_fewer_registers_are_not_enough(host: Machine) -> None:
    nonce = host.world.verifier.challenge(host.attester.id).nonce
    assert judged(host, host.attester.quote(nonce, (0, 4, 7, 8))) == (
        Verdict.FAILED, "quote.missing")
    data = host.evidence()
    values = dict(evidence.loads(data).pcrs)
    del values[0]
    assert judged(host, changed(data, pcrs=values)) == (Verdict.FAILED, "quote.registers")


def test_registers_that_were_not_quoted_are_noticed(host: Machine) -> None:
    host.tpm.pcr_extend(8, bytes(32))
    data = host.evidence()
    good = {**evidence.loads(data).pcrs, **REFERENCES.boots[0].pcrs}
    assert judged(host, changed(data, pcrs=good)) == (Verdict.FAILED, "quote.digest")


@pytest.mark.parametrize(("resets", "time"), [(-1, 0), (0, -500)])
def test_a_tpm_that_counts_backwards_is_noticed(host: Machine, resets: int, time: int) -> None:
    assert judged(host)[0] is Verdict.TRUSTED
    seen = host.world.verifier.registry.get("xen1").seen
    assert isinstance(host.tpm, PaperTpm)
    host.tpm.resets += resets
    host.tpm.time += time
    assert judged(host) == (Verdict.FAILED, "quote.clock")
    assert host.world.verifier.registry.get("xen1").seen == seen


@pytest.mark.parametrize("lie", ["magic", "kind"])
def test_a_signature_over_something_else_is_no_quote(host: Machine, lie: str) -> None:
    setattr(host.tpm, lie, 0x8017)
    assert judged(host) == (Verdict.FAILED, "quote.corrupt")


# Policies, windows


def test_a_downgraded_policy_is_noticed_even_if_it_is_known(world: World, host: Machine) -> None:
    rules = (*REFERENCES.rules, Rule(Kind.POLICY, load("2.0", NEXT).values),
             Rule(Kind.POLICY, load("0.9", OLD).values))
    world.publish(replace(REFERENCES, serial=2, rules=rules))
    assert judged(host)[0] is Verdict.TRUSTED
    host.measure(load("2.0", NEXT))
    result = host.attest()
    assert result.verdict is Verdict.TRUSTED
    assert result.policy is not None
    assert result.policy.version == "2.0"
    assert isinstance(host.tpm, PaperTpm)
    for events in ((START, load("0.9", OLD), ENFORCING), (START, LOAD, ENFORCING),
                   (START, load("2.0", NEXT), load("0.9", OLD), load("2.0", NEXT), ENFORCING)):
        host.tpm.reboot()
        host.boot(*events)
        assert judged(host) == (Verdict.FAILED, "policy.downgrade"), events
        host.measure(LAUNCH)
        assert judged(host) == (Verdict.FAILED, "policy.downgrade"), "asking again does not help"
    # The operator may mean it, and signs that
    meant = (*rules[:-1], replace(rules[-1], rollback=True), replace(rules[1], rollback=True))
    world.publish(replace(REFERENCES, serial=3, rules=meant))
    host.tpm.reboot()
    host.boot(START, load("0.9", OLD), ENFORCING)
    assert judged(host) == (Verdict.TRUSTED, "")


def test_a_planned_policy_is_good_in_its_window_only(world: World, host: Machine) -> None:
    rules = (REFERENCES.rules[0], *REFERENCES.rules[2:],
             replace(REFERENCES.rules[1], window=Window(None, NOW + 300)),
             Rule(Kind.POLICY, load("2.0", NEXT).values, window=Window(NOW + 100, None)))
    world.publish(replace(REFERENCES, serial=2, rules=rules))
    assert judged(host) == (Verdict.TRUSTED, "")
    host.measure(load("2.0", NEXT))
    assert judged(host) == (Verdict.FAILED, "event.not-yet")
    world.clock.now = NOW + 100
    assert judged(host) == (Verdict.TRUSTED, "")
    world.clock.now = NOW + 300  # the old one is history in this boot, and stays that
    assert judged(host) == (Verdict.TRUSTED, "")
    late = paper_machine(world, "xen2")  # this one has slept through it
    assert judged(late) == (Verdict.FAILED, "event.expired")


def test_a_planned_hypervisor_is_good_in_its_window_only(world: World) -> None:
    window = Window(NOW + 100, NOW + 200)
    world.publish(replace(REFERENCES, serial=2, boots=(
        replace(REFERENCES.boots[0], window=window),)))
    machine = paper_machine(world)
    for now, expected in ((NOW, (Verdict.FAILED, "boot.not-yet")),
                          (NOW + 100, (Verdict.TRUSTED, "")),
                          (NOW + 200, (Verdict.FAILED, "boot.expired"))):
        world.clock.now = now
        assert judged(machine) == expected


def test_announced_maintenance_is_neither_trusted_nor_failed(world: World, host: Machine) -> None:
    rule = Rule(Kind.ENFORCEMENT, PERMISSIVE.values, Verdict.MAINTENANCE, Window(NOW, NOW + 60))
    world.publish(replace(REFERENCES, serial=2, rules=(*REFERENCES.rules, rule)))
    host.measure(PERMISSIVE)
    assert judged(host) == (Verdict.MAINTENANCE, "event.severity")
    host.measure(ENFORCING)
    assert judged(host) == (Verdict.MAINTENANCE, "event.severity"), "until the next boot"
    world.clock.now += 60
    host.measure(PERMISSIVE)
    assert judged(host) == (Verdict.FAILED, "event.expired")


def test_an_image_that_is_known_to_be_bad_fails_whatever_else_holds(
    world: World, host: Machine
) -> None:
    bad = Rule(Kind.LAUNCH, LAUNCH.values, Verdict.FAILED)
    world.publish(replace(REFERENCES, serial=2, rules=(*REFERENCES.rules, bad)))
    host.measure(HostEvent(Kind.LAUNCH, {**LAUNCH.values, "image": OLD}))
    assert judged(host)[0] is Verdict.TRUSTED
    host.measure(LAUNCH)
    assert judged(host) == (Verdict.FAILED, "event.severity")


def test_the_verifier_s_clock_alone_counts(host: Machine) -> None:
    data = host.evidence()
    host.world.clock.now -= 30  # set back a little: within what clocks may differ
    result = host.world.verifier.appraise(data)[0]
    assert result.verdict is Verdict.TRUSTED
    host.world.clock.now = NOW
    late = host.evidence()
    host.world.clock.now -= 3600  # set back an hour
    assert judged(host, late) == (Verdict.FAILED, "challenge.expired")
    # who relies on the result notices its own clock
    assert result.objection(NOW + 3600) is not None
    assert result.objection(NOW - 3600) is not None

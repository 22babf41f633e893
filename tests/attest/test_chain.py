"""A guest, its TPM, its host, a policy: every link that does not hold is found, with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shype.attest import event_log, evidence
from shype.attest.chain import Chain, Link, follow
from shype.attest.host_events import HostEvent, Kind
from shype.attest.public import endorsement_key
from shype.attest.reference import Rule
from shype.base.errors import BadInput
from shype.host.attest_result import attester_id
from tests.attest.logs import BUNDLE, LAUNCH, LOAD, START, TPM
from tests.attest.paper_tpm import PaperTpm
from tests.attest.software_tpm import SoftwareTpm, software_tpm
from tests.attest.world import POLICY, REFERENCES, Machine, World, load, paper_machine

UUID = TPM.values["uuid"]
OTHER = "5e1f0000-0000-4000-8000-00000000000b"
WITH_TPMS = replace(REFERENCES, rules=(*REFERENCES.rules, *(
    Rule(kind, {"label": label, **dict.fromkeys(names, "*")})
    for label in ("a-desk", "b-desk") for kind, names in (
        (Kind.TPM, ("vm", "uuid", "ek")), (Kind.LAUNCH, ("image",)))
    if (label, kind) != ("a-desk", Kind.LAUNCH))))


def given(name: str, **values: str) -> HostEvent:
    """The host gives the TPM of the machine ``name`` on paper to a VM."""
    return HostEvent(Kind.TPM, {
        **TPM.values, "ek": hashlib.sha256(name.encode()).hexdigest(), **values})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "verifier", WITH_TPMS)


@pytest.fixture
def guest(world: World) -> Machine:
    machine = Machine(world, "desk", PaperTpm())
    machine.enrol()
    return machine


@pytest.fixture
def host(world: World) -> Machine:
    machine = paper_machine(world)
    machine.measure(LAUNCH)
    machine.measure(given("desk"))
    return machine


def quoted_by(
    world: World, attester: str, quote: Callable[[bytes, tuple[int, ...]], bytes]
) -> bytes:
    """A fresh quote of a VM: of registers that no reference values are about."""
    challenge = world.verifier.challenge(attester, range(10))
    return quote(challenge.nonce, challenge.pcrs)


def quoted(guest: Machine) -> bytes:
    return quoted_by(
        guest.world, attester_id(guest.attester.key().public), guest.attester.quote)


def shown(guest: Machine, host: Machine, label: str | None = None) -> Chain:
    return follow(host.world.verifier, quoted(guest), host.evidence(), label=label)


def why(chain: Chain) -> list[tuple[Link, str]]:
    assert chain.broken
    assert not chain.holds
    return [(one.link, one.reason.id) for one in chain.broken]


def test_an_honest_guest_shows_its_label_and_the_policy_of_its_host(
    guest: Machine, host: Machine
) -> None:
    chain = shown(guest, host, "a-desk")
    assert chain.holds
    assert (chain.guest, chain.host) == ("desk", "xen1")
    assert (chain.vm, chain.uuid, chain.label) == ("a-desk", UUID, "a-desk")
    assert chain.policy == POLICY
    assert chain.policy.bundle == BUNDLE
    assert set(range(10)) <= chain.pcrs.keys()
    assert chain.to_json()["holds"] is True


def test_what_the_guest_measures_of_itself_is_in_it(guest: Machine, host: Machine) -> None:
    guest.tpm.pcr_extend(9, bytes(32))
    assert shown(guest, host).pcrs[9] == hashlib.sha256(bytes(64)).digest()


def test_a_restart_of_the_vm_gives_it_the_same_tpm(guest: Machine, host: Machine) -> None:
    host.measure(LAUNCH)
    host.measure(given("desk"))
    assert shown(guest, host).holds


def test_the_tpm_of_another_vm(world: World, guest: Machine, host: Machine) -> None:
    other = Machine(world, "other", PaperTpm())
    other.enrol()
    assert why(shown(other, host)) == [(Link.TPM, "chain.no-tpm")]
    host.measure(HostEvent(Kind.LAUNCH, {**LAUNCH.values, "label": "b-desk"}))
    host.measure(given("other", vm="b", uuid=OTHER, label="b-desk"))
    chain = shown(other, host, "a-desk")
    assert why(chain) == [(Link.TPM, "chain.label")]
    assert shown(other, host).label == "b-desk"


def test_a_vm_is_not_compared_with_anything(world: World, host: Machine) -> None:
    vm = Machine(world, "vm", PaperTpm(), reference=None)
    vm.enrol()
    with pytest.raises(BadInput, match="vm is a VM") as caught:
        follow(world.verifier, quoted(vm), quoted(vm))
    assert caught.value.id == "reference.vm"
    with pytest.raises(BadInput, match="--host for xen1") as caught:
        follow(world.verifier, host.evidence(), quoted(vm))
    assert caught.value.id == "chain.swapped"


def test_the_host_itself_is_no_guest(host: Machine) -> None:
    chain = follow(host.world.verifier, host.evidence(), host.evidence())
    assert why(chain) == [(Link.TPM, "chain.no-tpm")]


def test_a_host_that_has_not_measured_the_tpm(world: World, guest: Machine) -> None:
    host = paper_machine(world, "xen2")
    host.measure(LAUNCH)
    assert why(shown(guest, host)) == [(Link.TPM, "chain.no-tpm")]


def test_an_event_that_is_taken_out_put_in_or_moved(guest: Machine, host: Machine) -> None:
    def with_log(change: str) -> Chain:
        found = evidence.loads(host.evidence())
        entries = list(event_log.loads(found.log))
        if change == "missing":
            entries.pop()
        elif change == "moved":
            entries[-1], entries[-2] = entries[-2], entries[-1]
        else:
            entries.append(entries[-1])
        return follow(host.world.verifier, quoted(guest), evidence.dumps(
            replace(found, log=event_log.dumps(entries))))

    for change in ("missing", "moved", "twice"):
        broken = why(with_log(change))
        assert (Link.HOST, "log.register") in broken, change
        assert (Link.TPM, "chain.no-tpm") in broken, change


def test_a_tpm_without_the_start_of_a_vm(world: World, guest: Machine) -> None:
    host = paper_machine(world, "xen2")
    host.measure(given("desk"))
    host.measure(LAUNCH)
    assert why(shown(guest, host)) == [(Link.TPM, "chain.no-launch")]


@pytest.mark.parametrize("other", [{"label": "b-desk"}, {"uuid": OTHER}])
def test_one_tpm_for_two(guest: Machine, host: Machine, other: dict[str, str]) -> None:
    host.measure(HostEvent(Kind.LAUNCH, {**LAUNCH.values, "label": "b-desk"}))
    host.measure(given("desk", **other))
    assert why(shown(guest, host)) == [(Link.TPM, "chain.two-owners")]


def test_a_vm_that_has_another_tpm_by_now(guest: Machine, host: Machine) -> None:
    host.measure(LAUNCH)
    host.measure(given("other"))
    assert why(shown(guest, host)) == [(Link.TPM, "chain.replaced")]


def test_an_untrusted_host(guest: Machine, host: Machine) -> None:
    host.measure(HostEvent(Kind.ENFORCEMENT, {"mode": "permissive"}))
    chain = shown(guest, host)
    assert why(chain) == [(Link.HOST, "event.unknown")]
    assert chain.label == "a-desk"  # as that host says


def test_a_host_with_a_policy_that_nobody_accepts(guest: Machine, host: Machine) -> None:
    host.measure(load("1.1", "e" * 64))
    assert why(shown(guest, host)) == [(Link.HOST, "event.unknown")]


def test_a_host_that_was_revoked(guest: Machine, host: Machine) -> None:
    data = host.evidence()
    host.world.verifier.revoke("xen1", "stolen")
    chain = follow(host.world.verifier, quoted(guest), data)
    assert (Link.HOST, "host.revoked") in why(chain)


def test_reference_values_that_know_no_tpms(world: World, guest: Machine, host: Machine) -> None:
    world.publish(replace(REFERENCES, serial=2))
    assert (Link.HOST, "event.unknown") in why(shown(guest, host))


def test_a_guests_quote_that_is_played_again(guest: Machine, host: Machine) -> None:
    data = quoted(guest)
    verifier = host.world.verifier
    assert follow(verifier, data, host.evidence()).holds
    chain = follow(verifier, data, host.evidence())
    assert why(chain) == [(Link.GUEST, "challenge.used")]
    assert chain.label is None


def test_a_hosts_quote_that_is_played_again(guest: Machine, host: Machine) -> None:
    data = host.evidence()
    verifier = host.world.verifier
    assert follow(verifier, quoted(guest), data).holds
    assert why(follow(verifier, quoted(guest), data)) == [
        (Link.HOST, "challenge.used"), (Link.TPM, "chain.no-tpm")]


def test_a_guests_quote_that_somebody_has_changed(guest: Machine, host: Machine) -> None:
    found = evidence.loads(quoted(guest))
    lie = evidence.dumps(replace(found, pcrs={**found.pcrs, 9: b"\1" * 32}))
    assert why(follow(host.world.verifier, lie, host.evidence())) == [
        (Link.GUEST, "quote.digest")]


def test_a_stranger(guest: Machine, host: Machine) -> None:
    data = quoted(guest)
    host.world.verifier.forget("desk")
    assert why(follow(host.world.verifier, data, host.evidence())) == [
        (Link.GUEST, "host.unknown")]


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000])
def test_no_evidence_at_all(guest: Machine, host: Machine, data: bytes) -> None:
    verifier = host.world.verifier
    assert why(follow(verifier, data, host.evidence())) == [(Link.GUEST, "evidence.corrupt")]
    assert (Link.HOST, "evidence.corrupt") in why(follow(verifier, quoted(guest), data))


# With TPMs


@pytest.fixture
def second_tpm(tmp_path: Path) -> Iterator[SoftwareTpm]:
    with software_tpm(tmp_path / "guest-tpm") as tpm:
        yield tpm


def test_with_a_tpm_for_the_host_and_one_for_the_guest(
    world: World, own_tpm: SoftwareTpm, second_tpm: SoftwareTpm
) -> None:
    with own_tpm.open() as real, second_tpm.open() as virtual:
        host = Machine(world, "xen1", real)
        host.enrol()
        ek = endorsement_key(virtual.ek()).id
        host.boot(START, LOAD, HostEvent(Kind.ENFORCEMENT, {"mode": "enforcing"}), LAUNCH,
                  HostEvent(Kind.TPM, {**TPM.values, "ek": ek}))
        guest = Machine(world, "desk", virtual)
        guest.enrol()
        chain = shown(guest, host, "a-desk")
        assert chain.broken == ()
        assert chain.holds
        assert (chain.ek, chain.label) == (ek, "a-desk")
        second_tpm.reboot()


def test_evidence_of_guest_and_host_that_were_swapped(guest: Machine, host: Machine) -> None:
    """It is told before a challenge has been used up: the same evidence does it in its place."""
    verifier = host.world.verifier
    registry = verifier.registry
    registry.put(replace(registry.get("desk"), reference="vms"))
    of_guest, of_host = quoted(guest), host.evidence()
    with pytest.raises(BadInput) as caught:
        follow(verifier, of_host, of_guest)
    assert caught.value.id == "chain.swapped"
    assert "desk" in caught.value.message
    assert "xen1" in caught.value.message
    assert follow(verifier, of_guest, of_host, label="a-desk").holds
    with pytest.raises(BadInput) as caught:
        follow(verifier, quoted(guest), quoted(guest))
    assert caught.value.id == "reference.missing"

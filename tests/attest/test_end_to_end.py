"""From enrolment to a signed result, with a real TPM in software and a verifier beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.attest.public import endorsement_key
from shype.attest.tpm import EkKind
from shype.base.errors import BadInput, Unavailable
from shype.host import attest_result
from shype.host.attest_result import Verdict
from tests.attest.logs import LAUNCH
from tests.attest.software_tpm import SoftwareTpm
from tests.attest.world import NOW, POLICY, VERIFIER, Machine, World


def test_a_host_is_enrolled_boots_and_is_trusted(own_tpm: SoftwareTpm, tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    with own_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        host.enrol()
        host.boot()
        data = host.evidence()
        result, sealed, _ = world.verifier.appraise(data)
        clock = chip.clock()
    assert (result.verdict, result.reasons) == (Verdict.TRUSTED, ())
    assert result.policy == POLICY
    assert (result.reset_count, result.restart_count) == (clock.reset_count, clock.restart_count)
    verifiers = {VERIFIER.public.id: VERIFIER.public}
    assert attest_result.loads(sealed, verifiers) == result == world.verifier.last("xen1")
    assert result.objection(NOW, bundle=POLICY.bundle) is None


def test_after_a_reboot_the_log_begins_again(own_tpm: SoftwareTpm, tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    with own_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        host.enrol()
        host.boot()
        host.measure(LAUNCH)
        first = host.attest()
    own_tpm.reboot()
    with own_tpm.open() as chip:
        host.tpm = chip
        host.attester = type(host.attester)(chip, host.log.parent, host.log)
        host.boot()
        second = host.attest()
        host.measure(LAUNCH)
        third = host.attest()
    assert [r.verdict for r in (first, second, third)] == [Verdict.TRUSTED] * 3
    assert second.reset_count == first.reset_count + 1


@pytest.mark.parametrize("kind", EkKind)
def test_both_kinds_of_endorsement_key_enrol(
    shared_tpm: SoftwareTpm, tmp_path: Path, kind: EkKind
) -> None:
    world = World(tmp_path / "verifier")
    with shared_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        world.verifier.admit("xen1", "xen-hosts", endorsement_key(chip.ek(kind)).id)
        challenge = world.verifier.enrol(host.attester.request("xen1", kind))
        assert world.verifier.complete(host.attester.answer(challenge, kind)).state == "enrolled"


def test_another_tpm_cannot_answer_for_the_admitted_one(
    shared_tpm: SoftwareTpm, own_tpm: SoftwareTpm, tmp_path: Path
) -> None:
    world = World(tmp_path / "verifier")
    with shared_tpm.open() as chip, own_tpm.open() as other:
        good, bad = Machine(world, "xen1", chip), Machine(world, "evil", other)
        world.verifier.admit("xen1", "xen-hosts", endorsement_key(chip.ek()).id)
        with pytest.raises(BadInput) as caught:
            world.verifier.enrol(bad.attester.request("xen1"))
        assert caught.value.id == "enrolment.other-tpm"
        # and it cannot read what was meant for the good one
        challenge = world.verifier.enrol(good.attester.request("xen1"))
        with pytest.raises(Unavailable) as refused:
            bad.attester.answer(challenge)
        assert refused.value.id == "tpm.failed"


def test_a_key_outside_of_the_tpm_cannot_be_enrolled(
    shared_tpm: SoftwareTpm, tmp_path: Path
) -> None:
    from shype.attest import enrolment
    from tests.attest.paper_tpm import PaperTpm

    world = World(tmp_path / "verifier")
    with shared_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        ek = chip.ek()
        world.verifier.admit("xen1", "xen-hosts", endorsement_key(ek).id)
        # a forged key that looks right, beside the true TPM's identity
        forged = PaperTpm().new_ak()
        request = enrolment.dumps(enrolment.Request("xen1", ek, forged.public, b""))
        challenge = enrolment.loads(world.verifier.enrol(request), enrolment.Challenge)
        host.attester.request("xen1")
        with pytest.raises(Unavailable) as caught:
            host.attester.answer(enrolment.dumps(challenge))
        assert caught.value.id == "tpm.failed"
        answer = enrolment.Answer("xen1", ek, forged.public, challenge.token, bytes(32))
        with pytest.raises(BadInput) as refused:
            world.verifier.complete(enrolment.dumps(answer))
        assert refused.value.id == "enrolment.proof"
    assert world.verifier.registry.get("xen1").state == "admitted"


def test_a_key_is_rotated_and_the_old_one_is_worth_nothing(
    own_tpm: SoftwareTpm, tmp_path: Path
) -> None:
    world = World(tmp_path / "verifier")
    with own_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        host.enrol()
        host.boot()
        old_evidence = host.evidence()
        old = host.attester.key()
        challenge = world.verifier.enrol(host.attester.request("xen1", new_key=True))
        answer = host.attester.answer(challenge)
        assert host.attest().verdict is Verdict.TRUSTED, "the old key holds until the new one does"
        world.verifier.complete(answer)
        host.attester.keep()
        assert host.attester.key() != old
        assert host.attest().verdict is Verdict.TRUSTED
        result = world.verifier.appraise(old_evidence)[0]
        assert result.verdict is Verdict.FAILED
        assert result.reasons[0].id == "evidence.former-key"
        # nor can it come back
        (host.log.parent / "ak.json").unlink()
        from shype.attest import enrolment

        request = enrolment.dumps(enrolment.Request("xen1", chip.ek(), old.public, b""))
        with pytest.raises(BadInput) as caught:
            world.verifier.enrol(request)
        assert caught.value.id == "enrolment.former-key"


def test_without_a_tpm_or_a_key_the_errors_have_names(
    own_tpm: SoftwareTpm, tmp_path: Path
) -> None:
    world = World(tmp_path / "verifier")
    with own_tpm.open() as chip:
        host = Machine(world, "xen1", chip)
        with pytest.raises(Unavailable) as caught:
            host.attester.quote(bytes(32), [0])
        assert caught.value.id == "attest.no-key"
        host.enrol()
        host.boot()
        challenge = world.verifier.challenge(host.attester.id)
        own_tpm.stop()
        with pytest.raises(Unavailable) as gone:
            host.attester.quote(challenge.nonce, challenge.pcrs)
        assert gone.value.id == "tpm.gone"
        own_tpm.start()

"""Reference values: nothing is accepted because a list is empty, a name wrong or a rule lax."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from shype.attest import reference, reference_values
from shype.attest.host_events import Kind
from shype.attest.reference import Boot, References, Rule, Window
from shype.attest.reference_values import PolicyWindow
from shype.base.errors import BadInput
from shype.host.attest_result import AttestedPolicy, Verdict
from shype.policy import envelope
from tests.attest.logs import AGENT_CODE, LAUNCH
from tests.attest.world import NOW, POLICY, REFERENCES, World
from tests.host.builders import BANKS, bundle
from tests.signing import AUTHOR, STRANGER, TRUSTED

DATA = reference.seal(REFERENCES, [AUTHOR])


def _refused(data: bytes, id: str, name: str = "xen-hosts") -> None:
    with pytest.raises(BadInput) as caught:
        reference.loads(data, name, TRUSTED)
    assert caught.value.id == id


def test_what_is_signed_is_read() -> None:
    assert reference.loads(DATA, "xen-hosts", TRUSTED) == REFERENCES
    windows = replace(
        REFERENCES, boots=(replace(REFERENCES.boots[0], window=Window(NOW, None)),),
        rules=(*REFERENCES.rules, Rule(Kind.LAUNCH, LAUNCH.values, Verdict.FAILED,
                                       Window(None, NOW))))
    assert reference.loads(
        reference.seal(windows, [AUTHOR, STRANGER]), "xen-hosts", TRUSTED) == windows


def test_only_who_is_trusted_for_it_signs() -> None:
    _refused(reference.seal(REFERENCES, []), "reference.unsigned")
    _refused(reference.seal(REFERENCES, [STRANGER]), "reference.unsigned")
    found = envelope.loads(DATA, reference.PAYLOAD_TYPE)
    forged = envelope.dumps(replace(
        found, payload=found.payload.replace(b'"serial":1', b'"serial":9')),
        reference.PAYLOAD_TYPE)
    _refused(forged, "reference.altered")
    other = envelope.pae(found.payload)  # signed, as a bundle
    signature = envelope.Signature(AUTHOR.public.id, AUTHOR.sign(other))
    _refused(envelope.dumps(envelope.Envelope(found.payload, (signature,)),
                            reference.PAYLOAD_TYPE), "reference.altered")


def test_a_missing_or_misnamed_document_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        reference.read(tmp_path / "xen-hosts.ref", TRUSTED)
    assert caught.value.id == "reference.missing"
    (tmp_path / "other.ref").write_bytes(DATA)
    with pytest.raises(BadInput) as caught:
        reference.read(tmp_path / "other.ref", TRUSTED)
    assert caught.value.id == "reference.misnamed"


def test_a_host_with_a_reference_that_is_not_there_gets_no_challenge(tmp_path: Path) -> None:
    from tests.attest.world import paper_machine

    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    data = host.evidence()
    path = tmp_path / "verifier" / "references" / "xen-hosts.ref"
    for content in (None, b"", b"{}", reference.seal(REFERENCES, [STRANGER])):
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        for call in (host.evidence, lambda: world.verifier.appraise(data)):
            with pytest.raises(BadInput) as caught:
                call()
            assert caught.value.id.startswith("reference.")
    assert world.verifier.last("xen1") is None


def _without(kind: Kind) -> References:
    return replace(REFERENCES, rules=tuple(r for r in REFERENCES.rules if r.kind is not kind))


def _pcrs(boot: Boot, *without: int, **more: bytes) -> Boot:
    values = {pcr: value for pcr, value in boot.pcrs.items() if pcr not in without}
    return replace(boot, pcrs={**values, **{int(k[1:]): v for k, v in more.items()}})


BOOT, FIRMWARE = REFERENCES.boots[0], REFERENCES.firmware[0]
INCOMPLETE: list[tuple[References, str]] = [
    (replace(REFERENCES, boots=()), "reference.empty"),
    (replace(REFERENCES, firmware=()), "reference.empty"),
    (replace(REFERENCES, rules=()), "reference.empty"),
    (_without(Kind.AGENT), "reference.empty"), (_without(Kind.POLICY), "reference.empty"),
    (_without(Kind.ENFORCEMENT), "reference.empty"),
    (replace(REFERENCES, boots=(Boot("x", {}),)), "reference.empty"),
    (replace(REFERENCES, boots=(_pcrs(BOOT, 8),)), "reference.empty"),
    (replace(REFERENCES, firmware=(_pcrs(FIRMWARE, 7),)), "reference.empty"),
    (replace(REFERENCES, boots=(BOOT, _pcrs(BOOT, p5=bytes(32)))), "reference.empty"),
    (replace(REFERENCES, boots=(_pcrs(BOOT, p13=bytes(32)),)), "reference.empty"),
    (replace(REFERENCES, boots=(_pcrs(BOOT, p0=bytes(32)),)), "reference.empty"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.ENFORCEMENT, {"mode": "permissive"})
                                )), "reference.lax"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.ENFORCEMENT, {"mode": "*"}))),
     "reference.lax"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.AGENT, {"agent": "*"}))),
     "reference.lax"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.POLICY, {
        **REFERENCES.rules[1].values, "bundle": "*"}))), "reference.lax"),
    (replace(REFERENCES, name=""), "reference.corrupt"),
    (replace(REFERENCES, serial=-1), "reference.corrupt"),
    (replace(REFERENCES, boots=(replace(BOOT, what=""),)), "reference.corrupt"),
    (replace(REFERENCES, boots=(_pcrs(BOOT, p24=bytes(32)),)), "reference.corrupt"),
    (replace(REFERENCES, boots=(_pcrs(BOOT, p8=b"short"),)), "reference.corrupt"),
    (replace(REFERENCES, boots=(replace(BOOT, window=Window(5, 5)),)), "reference.corrupt"),
    (replace(REFERENCES, boots=(replace(BOOT, window=Window(-5, 5)),)), "reference.corrupt"),
    (replace(REFERENCES, boots=(replace(BOOT, policy=replace(POLICY, bundle="")),)),
     "reference.corrupt"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.AGENT, {}))), "reference.corrupt"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.AGENT, {"agent": ""}))),
     "reference.corrupt"),
    (replace(REFERENCES, rules=(*REFERENCES.rules, Rule(Kind.LAUNCH, LAUNCH.values,
                                                        rollback=True))), "reference.corrupt"),
]


@pytest.mark.parametrize(("references", "id"), INCOMPLETE)
def test_what_would_accept_too_much_is_neither_signed_nor_read(
    references: References, id: str
) -> None:
    with pytest.raises(BadInput) as caught:
        reference.seal(references, [AUTHOR])
    assert caught.value.id == id
    from shype.base import canonical

    payload = canonical.dumps(reference._to_json(references))
    message = envelope.pae(payload, reference.PAYLOAD_TYPE)
    signature = envelope.Signature(AUTHOR.public.id, AUTHOR.sign(message))
    _refused(envelope.dumps(envelope.Envelope(payload, (signature,)), reference.PAYLOAD_TYPE), id,
             references.name)


def test_mutations_are_refused() -> None:
    rng = random.Random(9)
    for _ in range(1500):
        at = rng.randrange(len(DATA))
        data = DATA[:at] + rng.choice((b"", bytes([rng.randrange(256)]))) + DATA[at + 1:]
        if data != DATA:
            with pytest.raises(BadInput):
                reference.loads(data, "xen-hosts", TRUSTED)


def _signed(payload: bytes) -> bytes:
    message = envelope.pae(payload, reference.PAYLOAD_TYPE)
    signature = envelope.Signature(AUTHOR.public.id, AUTHOR.sign(message))
    return envelope.dumps(envelope.Envelope(payload, (signature,)), reference.PAYLOAD_TYPE)


@pytest.mark.parametrize("change", [
    lambda p: b"", lambda p: b"[]", lambda p: b"[" * 4000, lambda p: b"\xff",
    lambda p: p.replace(b'"format":1', b'"format":2'),
    lambda p: p.replace(b'"boots":[', b'"boots":["x",'),
    lambda p: p.replace(b'"rules":[', b'"rules":[{},'),
    lambda p: p.replace(b'"event":"agent.start"', b'"event":"agent.sleep"'),
    lambda p: p.replace(b'"severity":"trusted"', b'"severity":"fine"'),
    lambda p: p.replace(b'"from":null', b'"from":"now"'),
    lambda p: p.replace(b'"rollback":false', b'"rollback":0'),
    lambda p: p + b" ",
])
def test_a_signature_does_not_make_sense_of_nonsense(change: Callable[[bytes], bytes]) -> None:
    payload = envelope.loads(DATA, reference.PAYLOAD_TYPE).payload
    assert change(payload) != payload
    _refused(_signed(change(payload)), "reference.corrupt")


def test_an_older_document_is_not_published_over_a_newer_one(tmp_path: Path) -> None:
    world = World(tmp_path / "verifier", replace(REFERENCES, serial=5))
    world.publish(replace(REFERENCES, serial=5))  # the same again
    world.publish(replace(REFERENCES, serial=6))
    for serial in (5, 6):
        with pytest.raises(BadInput) as caught:
            world.publish(replace(REFERENCES, serial=serial, boots=(replace(BOOT, what="y"),)))
        assert caught.value.id == "reference.superseded"


def test_a_signer_who_is_no_longer_trusted_takes_the_values_along(tmp_path: Path) -> None:
    from tests.attest.world import paper_machine

    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    assert host.attest().verdict is Verdict.TRUSTED
    signers = tmp_path / "verifier" / "signers"
    (signers / "0.pub").unlink()
    (signers / "1.pub").write_bytes(STRANGER.public.pem())
    with pytest.raises(BadInput) as caught:
        host.attest()
    assert caught.value.id == "reference.unsigned"


def test_values_are_computed_from_a_bundle(tmp_path: Path) -> None:
    made = bundle(tmp_path, BANKS.replace("market-data: {", "market-data: {vtpm: true, "))
    manifest = made.manifest
    built = reference_values.build(
        "xen-hosts", policies=[PolicyWindow(made, Window(NOW)), PolicyWindow(made, Window(NOW))],
        boots=[replace(BOOT, policy=AttestedPolicy("banks", "1.0", manifest.digest))],
        firmware=[FIRMWARE], agents=[AGENT_CODE, AGENT_CODE],
        maintenance=[Window(NOW, NOW + 1)])
    assert reference.loads(reference.seal(built, [AUTHOR]), "xen-hosts", TRUSTED) == built
    loads = [rule for rule in built.rules if rule.kind is Kind.POLICY]
    assert [rule.values for rule in loads] == [{
        "name": "banks", "version": "1.0", "bundle": manifest.digest,
        "module": manifest.files["policy.bin"]}]
    assert loads[0].window == Window(NOW)
    launched = {rule.values["label"] for rule in built.rules if rule.kind is Kind.LAUNCH}
    assert launched == set(manifest.labels)
    assert [rule.values for rule in built.rules if rule.kind is Kind.TPM] == [
        {"vm": "*", "uuid": "*", "label": "market-data", "ek": "*"}]
    assert [rule.severity for rule in built.rules if rule.values.get("mode") == "permissive"] == [
        Verdict.MAINTENANCE]
    again = reference_values.build("xen-hosts", policies=[], boots=[], firmware=[], agents=[])
    assert again.serial > built.serial


@pytest.mark.parametrize("data", [b"", b"[]", b'{"firmware":"x"}', b"[" * 4000, b"\xff",
                                  b'{"firmware":"x","pcrs":{"0":"zz"}}'])
def test_what_is_no_observed_firmware_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        reference_values.read_firmware(data, "file")
    assert caught.value.id == "reference.no-firmware"

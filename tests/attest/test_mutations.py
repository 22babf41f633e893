"""Evidence and keys with bytes changed at random: never accepted, never a traceback."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from shype.attest import evidence
from shype.attest.evidence import Evidence
from shype.attest.tpm import Quote
from shype.attest.verdict import appraise
from shype.base.errors import BadInput, ShypeError
from shype.host.attest_result import Verdict, attester_id
from tests.attest.logs import LAUNCH
from tests.attest.world import (
    NOW,
    REFERENCES,
    Machine,
    judged,
)


def _mutated(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(5):
            case 0 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at:at + rng.choice((1, 2, 4, 32, 400))]
            case 2:
                out[at:at] = rng.randbytes(rng.choice((1, 2, 8)))
            case 3 if out:
                out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5B, 0x7B))
            case _:
                out[at:at] = out[max(0, at - 40):at]
    return bytes(out)


def _mutants(good: Evidence, rng: random.Random) -> Iterator[bytes]:
    """Of the document, and of each part of it in a document that is well made."""
    whole = evidence.dumps(good)
    while True:
        yield _mutated(whole, rng)
        yield evidence.dumps(replace(good, quote=Quote(
            _mutated(good.quote.attest, rng), good.quote.signature)))
        yield evidence.dumps(replace(good, quote=Quote(
            good.quote.attest, _mutated(good.quote.signature, rng))))
        yield evidence.dumps(replace(good, log=_mutated(good.log, rng)))
        pcr = rng.choice(list(good.pcrs))
        yield evidence.dumps(replace(good, pcrs={
            **good.pcrs, pcr: _mutated(good.pcrs[pcr], rng)}))


def test_ten_thousand_mutations_are_never_accepted_and_never_a_traceback(host: Machine) -> None:
    from shype.attest.public import attestation_key

    host.measure(LAUNCH)
    good = evidence.loads(host.evidence())
    key = attestation_key(host.attester.key().public)
    whole, mutants, rng = evidence.dumps(good), 0, random.Random(30)

    def verdict(data: bytes) -> Verdict:
        return appraise(data, ak=key, nonce=good.nonce, references=REFERENCES, now=NOW).verdict

    assert verdict(whole) is Verdict.TRUSTED
    for data in _mutants(good, rng):
        if data != whole:
            assert verdict(data) is Verdict.FAILED
            mutants += 1
        if mutants == 10_000:
            break


def test_mutations_get_through_the_verifier_with_a_reason_or_an_error(host: Machine) -> None:
    rng = random.Random(31)
    data = host.evidence()
    good = evidence.loads(data)
    for _, mutant in zip(range(300), _mutants(good, rng), strict=False):
        if mutant == data:
            continue
        try:
            result, sealed, _ = host.world.verifier.appraise(mutant)
        except ShypeError as error:
            assert isinstance(error, BadInput)  # noqa: PT017 - most of them are no exceptions
            continue
        assert result.verdict is Verdict.FAILED
        assert result.reasons
        assert sealed
    assert judged(host)[0] is Verdict.TRUSTED, "the next challenge is answered as always"


def test_a_key_of_another_kind_is_none(host: Machine) -> None:
    from shype.attest.public import attestation_key, endorsement_key

    rng = random.Random(32)
    public = host.attester.key().public
    assert attester_id(attestation_key(public).public) == host.attester.id
    for reader, id in ((attestation_key, "tpm-key.ak"), (endorsement_key, "tpm-key.ek")):
        for _ in range(1000):
            data = _mutated(public, rng)
            if data == public:
                continue
            try:
                reader(data)
            except BadInput as error:
                assert error.id == id  # noqa: PT017 - another point of the curve is a key

"""The attestation result: what is signed is what is read, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from shype.base.errors import BadInput
from shype.host import attest_result
from shype.host.attest_result import AttestedPolicy, Reason, Result, Verdict
from shype.policy import envelope
from tests.signing import AUTHOR, STRANGER, TRUSTED

NOW = 1_800_000_000
BUNDLE = "5a" * 32
RESULT = Result(
    host="xen1.example", ak=b"\0\x23\0\x0b" + bytes(range(80)), verdict=Verdict.TRUSTED,
    reasons=(), policy=AttestedPolicy("banks", "1.0", BUNDLE), reset_count=7, restart_count=0,
    nonce="00" * 32, issued=NOW, expires=NOW + 600, verifier=AUTHOR.public.id,
)
FAILED = dataclasses.replace(
    RESULT, verdict=Verdict.FAILED, reasons=(Reason("quote.nonce", "the nonce is another"),))


@pytest.mark.parametrize("result", [
    RESULT, FAILED, dataclasses.replace(RESULT, policy=None),
    dataclasses.replace(FAILED, verdict=Verdict.UNKNOWN),
    dataclasses.replace(FAILED, verdict=Verdict.MAINTENANCE),
])
def test_what_is_written_is_read(result: Result) -> None:
    data = attest_result.dumps(result, AUTHOR)
    assert attest_result.loads(data, TRUSTED) == result
    assert attest_result.dumps(result, AUTHOR) == data


def test_the_id_follows_from_the_key() -> None:
    other = dataclasses.replace(RESULT, ak=RESULT.ak + b"x")
    assert other.attester != RESULT.attester


def test_each_verdict_has_a_word_of_ar4si() -> None:
    assert {v: v.status for v in Verdict} == {
        Verdict.TRUSTED: "affirming", Verdict.MAINTENANCE: "warning", Verdict.UNKNOWN: "none",
        Verdict.FAILED: "contraindicated",
    }


@pytest.mark.parametrize(("now", "id"), [
    (NOW - attest_result.SKEW - 1, "result.not-yet"), (NOW - attest_result.SKEW, None),
    (NOW, None), (NOW + 599.9, None), (NOW + 600, "result.expired"),
    (NOW + 10**9, "result.expired"),
])
def test_it_holds_from_when_it_was_issued_until_it_expires(now: float, id: str | None) -> None:
    late, objection = RESULT.stale(now), RESULT.objection(now)
    assert late == objection
    assert (late.id if late else None) == id


@pytest.mark.parametrize(("result", "bundle", "id"), [
    (RESULT, None, None), (RESULT, BUNDLE, None), (RESULT, "00" * 32, "result.other-policy"),
    (dataclasses.replace(RESULT, policy=None), BUNDLE, "result.other-policy"),
    (dataclasses.replace(RESULT, policy=None), None, None),
    (FAILED, BUNDLE, "result.not-trusted"),
    (dataclasses.replace(FAILED, verdict=Verdict.UNKNOWN), BUNDLE, "result.not-trusted"),
    (dataclasses.replace(FAILED, verdict=Verdict.MAINTENANCE), BUNDLE, "result.not-trusted"),
])
def test_only_a_trusted_host_with_the_policy_is_attested(
    result: Result, bundle: str | None, id: str | None
) -> None:
    objection = result.objection(NOW, bundle=bundle)
    assert (objection.id if objection else None) == id


CHANGES: list[dict[str, object]] = [
    {"host": ""}, {"host": "a b"}, {"host": "../x"}, {"ak": b""}, {"ak": bytes(2000)},
    {"reset_count": -1}, {"reset_count": 1 << 32}, {"restart_count": True},
    {"issued": NOW + 600}, {"issued": -1}, {"expires": NOW + attest_result.MAX_LIFE + 1},
    {"expires": 1 << 62}, {"nonce": ""}, {"nonce": "00"}, {"nonce": "zz" * 32},
    {"verifier": STRANGER.public.id}, {"verifier": "x"},
    {"policy": AttestedPolicy("Banks", "1.0", BUNDLE)},
    {"policy": AttestedPolicy("banks", "one", BUNDLE)},
    {"policy": AttestedPolicy("banks", "1.0", "")},
    {"reasons": (Reason("Bad Id", "x"),)}, {"reasons": (Reason("a.b", ""),)},
    {"reasons": (Reason("a.b", "x\x1b[2J"),)}, {"reasons": (Reason("a.b", "x"),) * 65},
    {"verdict": Verdict.FAILED},  # without a reason
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_result_that_may_not_be_is_neither_written_nor_read(change: dict[str, object]) -> None:
    wrong = dataclasses.replace(RESULT, **change)  # type: ignore[arg-type]
    with pytest.raises(BadInput) as caught:
        attest_result.dumps(wrong, AUTHOR)
    assert caught.value.id == "result.corrupt"
    if "ak" not in change or wrong.ak:
        from shype.base import canonical

        payload = canonical.dumps({"format": 1, **wrong.to_json()})
        _refused(_signed(payload), "result.corrupt")


def _signed(payload: bytes, kind: str = attest_result.PAYLOAD_TYPE) -> bytes:
    message = envelope.pae(payload, kind)
    signature = envelope.Signature(AUTHOR.public.id, AUTHOR.sign(message))
    return envelope.dumps(envelope.Envelope(payload, (signature,)), kind)


def _refused(data: bytes, id: str) -> None:
    with pytest.raises(BadInput) as caught:
        attest_result.loads(data, TRUSTED)
    assert caught.value.id == id


@pytest.mark.parametrize("payload", [
    b"", b"{}", b"[]", b"null", b"\xff", b"[" * 5000, b'{"format":1}',
    envelope.loads(attest_result.dumps(RESULT, AUTHOR), attest_result.PAYLOAD_TYPE).payload + b" ",
    envelope.loads(attest_result.dumps(RESULT, AUTHOR), attest_result.PAYLOAD_TYPE
                   ).payload.replace(b'"status":"affirming"', b'"status":"none"'),
    envelope.loads(attest_result.dumps(RESULT, AUTHOR), attest_result.PAYLOAD_TYPE
                   ).payload.replace(b'"format":1', b'"format":2'),
])
def test_a_payload_that_is_none_is_refused(payload: bytes) -> None:
    _refused(_signed(payload), "result.corrupt")


def test_another_kind_of_envelope_is_refused() -> None:
    payload = envelope.loads(
        attest_result.dumps(RESULT, AUTHOR), attest_result.PAYLOAD_TYPE).payload
    _refused(_signed(payload, envelope.PAYLOAD_TYPE), "result.corrupt")


def test_only_a_verifier_s_word_counts() -> None:
    theirs = dataclasses.replace(RESULT, verifier=STRANGER.public.id)
    _refused(attest_result.dumps(theirs, STRANGER), "result.unsigned")


def _flip(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1:]


def _cut(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at]


def _double(data: bytes, at: int, rng: random.Random) -> bytes:
    return data[:at] + data[rng.randrange(at + 1):]


@pytest.mark.parametrize("mutate", [_flip, _cut, _double])
def test_no_changed_byte_is_accepted(
    mutate: Callable[[bytes, int, random.Random], bytes]
) -> None:
    rng = random.Random(29)
    data = attest_result.dumps(RESULT, AUTHOR)
    for _ in range(700):
        changed = mutate(data, rng.randrange(len(data)), rng)
        if changed == data:
            continue
        with pytest.raises(BadInput) as caught:
            attest_result.loads(changed, TRUSTED)
        assert caught.value.id.startswith("result.")


def test_a_file_without_end_is_not_read() -> None:
    _refused(bytes(attest_result.MAX_RESULT + 1), "result.corrupt")

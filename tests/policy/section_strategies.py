"""Random sections of a policy that stand by themselves: attestation, quotas, vectors."""

from __future__ import annotations

from hypothesis import strategies as st

from shype.policy.model import (
    Attestation,
    Lost,
    Vector,
    Verifier,
)
from shype.policy.names import (
    CoalitionName,
    LabelName,
    VectorName,
    VerifierName,
)
from shype.policy.quotas import Amount, Each, Quota, Quotas
from shype.policy.source import Span
from tests.policy.draws import SOURCE, distinct, some


@st.composite
def attestation_sections(draw: st.DrawFn) -> Attestation:
    """One to three verifiers with keys of their own, and what they mean."""
    nowhere = Span(SOURCE, 1, 1)
    chosen = draw(distinct(1, 3))
    keys = draw(st.lists(st.binary(min_size=32, max_size=32), min_size=len(chosen),
                         max_size=len(chosen), unique=True))
    lost = draw(st.sampled_from(Lost))
    hosts = st.lists(st.sampled_from(["host-b", "10.0.0.2", "c.example"]), min_size=1, unique=True)
    return Attestation(
        {VerifierName(name): Verifier(VerifierName(name), key.hex(), nowhere)
         for name, key in zip(chosen, keys, strict=True)},
        nowhere, draw(st.integers(1, 99_999)), lost,
        tuple(draw(hosts)) if lost is Lost.EVACUATE else (),
    )


@st.composite
def quota_sections(
    draw: st.DrawFn, labels: list[LabelName], coalitions: list[CoalitionName]
) -> Quotas:
    """Quotas that hold together: every label has a rate, and what is reserved can be had."""
    nowhere = Span(SOURCE, 1, 1)
    counts = {Amount.VMS: st.integers(1, 99), Amount.VCPUS: st.integers(1, 999),
              Amount.MEMORY: st.integers(1, 999_999),
              Amount.BANDWIDTH: st.integers(1000, 999_999).map(lambda n: n * 1000)}

    def amounts(least: int) -> dict[Amount, int]:
        chosen = draw(some(list(Amount)))
        return {a: draw(counts[a]) for a in Amount if a in chosen or least}

    def reserved(most: dict[Amount, int]) -> dict[Amount, int]:
        chosen = draw(some(sorted(most)))
        return {a: 1000 if a is Amount.BANDWIDTH else 1 for a in most if a in chosen}

    def each() -> Each:
        return Each(draw(st.none() | st.integers(1, 99_999)), draw(st.none() | st.integers(1, 999)),
                    draw(st.integers(1, 1000)) * 1000)

    host = Quota(nowhere, {a: n + 99 for a, n in amounts(1).items()} | {Amount.VCPUS: 1100}
                 | {Amount.BANDWIDTH: 900_000_000})
    shared = {}
    for coalition in draw(some(coalitions)):
        most = amounts(0)
        kept = reserved(most)
        if most:
            shared[coalition] = Quota(nowhere, most, kept)
    owned = {}
    for label in labels:
        most = amounts(0)
        owned[label] = Quota(nowhere, most, reserved(most), each())
    return Quotas(nowhere, host, shared, owned)


@st.composite
def vector_sections(draw: st.DrawFn, labels: list[LabelName]) -> dict[VectorName, Vector]:
    """Up to five configuration vectors of some of ``labels``."""
    return {
        VectorName(name): Vector(
            VectorName(name), frozenset(draw(some(sorted(labels)))), Span(SOURCE, 1, 1))
        for name in draw(distinct(0, 5))
    }

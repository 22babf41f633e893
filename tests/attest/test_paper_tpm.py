"""The TPM on paper makes what a real one makes, so what is shown with it holds for both."""

from __future__ import annotations

from shype.attest import quote
from shype.attest.public import attestation_key
from tests.attest.paper_tpm import PaperTpm
from tests.attest.software_tpm import SoftwareTpm


def test_it_quotes_as_a_real_one_does(own_tpm: SoftwareTpm) -> None:
    paper = PaperTpm()
    with own_tpm.open() as chip:
        said = []
        for tpm in (chip, paper):
            tpm.pcr_extend(13, b"\7" * 32)
            key = tpm.new_ak()
            made = tpm.quote(key, b"n" * 32, [0, 8, 13])
            parsed = quote.parse(made.attest)
            assert quote.problem(
                made, parsed, ak=attestation_key(key.public), nonce=b"n" * 32,
                pcrs=tpm.pcr_read([0, 8, 13])) is None
            said.append((made, parsed, key))
    (real, a, real_key), (fake, b, fake_key) = said
    assert (a.nonce, a.pcrs, a.digest) == (b.nonce, b.pcrs, b.digest)
    assert (len(real.attest), len(real_key.public)) == (len(fake.attest), len(fake_key.public))
    assert real.signature[:6] == fake.signature[:6]
    assert real_key.public[:-68] == fake_key.public[:-68]

"""Reads a quote and checks it: who signed it, for which challenge, over which registers.

TPMS_ATTEST and TPMT_SIGNATURE as in the TPM 2.0 Library, part 2, 10.12 and 11.3.4, byte by byte;
nothing is skipped and nothing may be left over. For the verifier; uses `cryptography`.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from shype.attest.event_log import PCRS
from shype.attest.octets import Reader
from shype.attest.public import AttestationKey
from shype.attest.tpm import Clock, Quote
from shype.base.errors import BadInput
from shype.host.attest_result import Reason

_MAGIC = 0xFF544347  # TPM_GENERATED_VALUE: nothing else signed by a restricted key begins so
_QUOTE = 0x8018  # TPM_ST_ATTEST_QUOTE
_SHA256 = 0x000B
_ECDSA = 0x0018
#: Largest TPMS_ATTEST and TPMT_SIGNATURE read, bytes.
MAX_ATTEST = 512
MAX_SIGNATURE = 256
#: Sizes of a challenge, bytes: guessed by nobody, and no more than a TPM takes.
NONCE = range(16, 65)


@dataclass(frozen=True, slots=True)
class Attested:
    """What a quote says; none of it is believed before `problem` is None.

    ``signer``: the key's qualified name. ``digest``: SHA-256 of the registers ``pcrs``, in order.
    """

    signer: bytes
    nonce: bytes
    clock: Clock
    firmware: int
    pcrs: tuple[int, ...]
    digest: bytes


def parse(attest: bytes) -> Attested:
    """What the TPMS_ATTEST says. Raises BadInput (``quote.corrupt``)."""
    if len(attest) > MAX_ATTEST:
        raise _corrupt(f"it is larger than {MAX_ATTEST} bytes")
    reader = _reader(attest)
    if reader.number(4) != _MAGIC:
        raise _corrupt("no TPM has made it")
    if reader.number(2) != _QUOTE:
        raise _corrupt("it is another kind of statement")
    signer, nonce = reader.buffer(), reader.buffer()
    milliseconds, resets, restarts, safe = (reader.number(size) for size in (8, 4, 4, 1))
    if safe > 1:
        raise _corrupt("its clock is neither safe nor unsafe")
    firmware = reader.number(8)
    if reader.number(4) != 1 or reader.number(2) != _SHA256 or reader.number(1) != PCRS // 8:
        raise _corrupt("it is not of the registers for SHA-256, and of these only")
    chosen = int.from_bytes(reader.take(PCRS // 8), "little")
    digest = reader.buffer()
    if reader.left or len(digest) != 32:
        raise _corrupt("it does not end with a digest of the registers")
    return Attested(
        signer, nonce, Clock(milliseconds, resets, restarts, bool(safe)), firmware,
        tuple(pcr for pcr in range(PCRS) if chosen >> pcr & 1), digest)


def problem(
    quote: Quote, said: Attested, *, ak: AttestationKey, nonce: bytes, pcrs: Mapping[int, bytes]
) -> Reason | None:
    """Why ``said``, what ``quote`` says, proves nothing about registers with the values ``pcrs``.

    None if the key ``ak`` signed it as the answer to ``nonce``, over exactly these registers.
    Raises BadInput (``quote.corrupt``) for what is no signature.
    """
    if not _signed(quote, ak):
        return Reason("quote.signature", "the quote is not signed by the host's attestation key")
    if not hmac.compare_digest(said.nonce, nonce):
        return Reason("quote.nonce", "the quote answers another challenge: it is an old one, or "
                      "was made for somebody else")
    if said.pcrs != tuple(sorted(pcrs)):
        return Reason("quote.registers",
                      f"the quote is of the registers {_listed(said.pcrs)}, and the evidence "
                      f"shows {_listed(tuple(sorted(pcrs)))}")
    shown = hashlib.sha256(b"".join(pcrs[pcr] for pcr in said.pcrs)).digest()
    if not hmac.compare_digest(said.digest, shown):
        return Reason("quote.digest", "the registers were not what the evidence says they were")
    return None


def _signed(quote: Quote, ak: AttestationKey) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    if len(quote.signature) > MAX_SIGNATURE:
        raise _corrupt("its signature is too long")
    reader = _reader(quote.signature)
    if reader.number(2) != _ECDSA or reader.number(2) != _SHA256:
        raise _corrupt("it is signed in another way than with ECDSA and SHA-256")
    numbers = [reader.buffer(), reader.buffer()]
    if reader.left or any(not 0 < len(number) <= 32 for number in numbers):
        raise _corrupt("its signature is none")
    r, s = (int.from_bytes(number, "big") for number in numbers)
    try:
        ak.key.verify(utils.encode_dss_signature(r, s), quote.attest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _reader(data: bytes) -> Reader:
    return Reader(data, "big", lambda: _corrupt("it ends too early"))


def _listed(pcrs: tuple[int, ...]) -> str:
    return ", ".join(str(pcr) for pcr in pcrs) or "none"


def _corrupt(problem: str) -> BadInput:
    return BadInput(
        "quote.corrupt", f"the quote is damaged: {problem}",
        "get the evidence from the host again; if that does not help, somebody changed it",
    )

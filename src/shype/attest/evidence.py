"""Evidence (RFC 9334, 8.1): what a host sends to answer a challenge. One JSON document.

The quote, the registers' values that it is over, and the log that explains the one of them that
shype extends. It proves nothing before `shype.attest.verdict` has appraised it. Standard library
only: a host writes it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from shype.attest.event_log import MAX_LOG, PCRS, SIZE
from shype.attest.tpm import Quote
from shype.base import canonical
from shype.base.errors import BadInput

#: What the document is, over HTTP.
MEDIA_TYPE = "application/vnd.shype.evidence+json"
#: Largest evidence read, bytes.
MAX_EVIDENCE = 2 * MAX_LOG
_FORMAT = 1
_KEYS = {"format", "attester", "eat_nonce", "attest", "signature", "pcrs", "log"}
_ID = re.compile(r"[0-9a-f]{64}")
_NONCE = re.compile(r"(?:[0-9a-f]{2}){16,64}")


@dataclass(frozen=True, slots=True)
class Evidence:
    """``attester``: who says that it is the host (its key's digest, 64 hex digits). ``nonce``: the
    challenge, bytes. ``pcrs``: the registers' values. ``log``: the event log as bytes.
    """

    attester: str
    nonce: bytes
    quote: Quote
    pcrs: Mapping[int, bytes]
    log: bytes


def dumps(evidence: Evidence) -> bytes:
    """The document, canonical JSON."""
    return canonical.dumps({
        "format": _FORMAT, "attester": evidence.attester, "eat_nonce": evidence.nonce.hex(),
        "attest": _text(evidence.quote.attest), "signature": _text(evidence.quote.signature),
        "pcrs": {str(pcr): value.hex() for pcr, value in evidence.pcrs.items()},
        "log": _text(evidence.log),
    })


def loads(data: bytes) -> Evidence:
    """The inverse of `dumps`; no other spelling is read. Raises BadInput (``evidence.corrupt``)."""
    if len(data) > MAX_EVIDENCE:
        raise _corrupt(f"it is larger than {MAX_EVIDENCE} bytes")
    try:
        value = json.loads(data.decode())
        if not isinstance(value, dict) or value.keys() != _KEYS:
            raise _corrupt("it has not the members that `shype attest quote` writes")
        evidence = Evidence(
            value["attester"], bytes.fromhex(value["eat_nonce"]),
            Quote(_bytes(value["attest"]), _bytes(value["signature"])),
            {int(pcr): bytes.fromhex(found) for pcr, found in value["pcrs"].items()},
            _bytes(value["log"]),
        )
        sane = (
            _ID.fullmatch(evidence.attester) and _NONCE.fullmatch(value["eat_nonce"])
            and all(pcr in range(PCRS) and len(found) == SIZE
                    for pcr, found in evidence.pcrs.items())
            and dumps(evidence) == data
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt("it is not what `shype attest quote` writes") from error
    if not sane:
        raise _corrupt("it is not spelled as `shype attest quote` does")
    return evidence


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True) if text else b""


def _corrupt(problem: str) -> BadInput:
    return BadInput(
        "evidence.corrupt", f"the evidence is damaged: {problem}",
        "get it from the host again: `shype attest quote` there",
    )

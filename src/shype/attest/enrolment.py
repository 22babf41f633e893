"""Enrolment: a host proves that its attestation key is in the TPM that was admitted.

Three documents between host and verifier, by whatever way, a file or HTTP: the host's *request*
(its public keys), the verifier's *challenge* (a secret that only a TPM with both keys can read,
TPM2_MakeCredential), the host's *answer* (the secret). Standard library only: a host writes two.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from shype.base import canonical
from shype.base.errors import BadInput

#: Largest of these documents read, bytes.
MAX_DOCUMENT = 32 * 1024
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Request:
    """Who the host is, as it says: two TPMT_PUBLIC, and the EK's certificate (empty: none)."""

    host: str
    ek: bytes
    ak: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """``blob`` and ``secret`` for TPM2_ActivateCredential; ``token`` is the verifier's own."""

    host: str
    blob: bytes
    secret: bytes
    token: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """The request once more, the verifier's token, and what the TPM has read: ``proof``."""

    host: str
    ek: bytes
    ak: bytes
    token: bytes
    proof: bytes


_D = TypeVar("_D", Request, Challenge, Answer)


def dumps(document: Request | Challenge | Answer) -> bytes:
    """The document, canonical JSON; bytes are base64."""
    return canonical.dumps({
        "format": _FORMAT, "kind": type(document).__name__.lower(),
        **{key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
           for key, value in asdict(document).items()},
    })


def loads(data: bytes, kind: type[_D]) -> _D:
    """The inverse of `dumps`. Raises BadInput (``enrolment.corrupt``)."""
    try:
        if len(data) > MAX_DOCUMENT:
            raise ValueError
        value = json.loads(data.decode())
        names: list[str] = [field.name for field in fields(kind)]
        if value.keys() != {"format", "kind", *names}:
            raise ValueError
        parts: list[Any] = [
            value[name] if name == "host" else binascii.a2b_base64(value[name], strict_mode=True)
            if value[name] else b"" for name in names]
        found = kind(*parts)
        if not isinstance(found.host, str) or dumps(found) != data:
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadInput(
            "enrolment.corrupt", f"this is no {kind.__name__.lower()} of an enrolment",
            "`shype attest enrol` has the steps; each document is the next step's input",
        ) from error
    return found

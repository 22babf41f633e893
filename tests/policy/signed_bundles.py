"""What a host does with the bytes of a bundle, and what anyone can sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.policy import envelope, signed
from shype.policy.ed25519 import PrivateKey
from shype.policy.envelope import Envelope, Signature
from shype.policy.manifest import Bundle
from tests.signing import TRUSTED

NAME = Path("policy.shype")


def load(data: bytes) -> Bundle:
    """What a host does with the bytes of a bundle."""
    found = envelope.loads(data)
    signed.require_signed(found, NAME, TRUSTED)
    return signed.opened(found, NAME)[0]


def refusal(data: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        load(data)
    assert caught.value.fix
    return caught.value.id


def sign(payload: bytes, *keys: PrivateKey) -> bytes:
    """Any payload, signed."""
    message = envelope.pae(payload)
    return envelope.dumps(Envelope(
        payload, tuple(Signature(k.public.id, k.sign(message)) for k in keys)))

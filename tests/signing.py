"""Keys of the tests. They are known to everybody, so only tests may trust them."""

from __future__ import annotations

from pathlib import Path

from shype.policy.ed25519 import KeyId, PrivateKey, PublicKey
from shype.policy.manifest import read_directory
from shype.policy.signed import seal

#: The author, whom the tests' hosts trust, and somebody else.
AUTHOR = PrivateKey(bytes(range(32)))
STRANGER = PrivateKey(bytes(range(32, 64)))
TRUSTED: dict[KeyId, PublicKey] = {AUTHOR.public.id: AUTHOR.public}


def keys(directory: Path, *trusted: PrivateKey) -> Path:
    """A directory of trusted keys."""
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for number, key in enumerate(trusted or (AUTHOR,)):
        file = directory / f"{number}.pub"
        file.write_bytes(key.public.pem())
        file.chmod(0o644)
    return directory


def sealed(unpacked: Path, *by: PrivateKey) -> bytes:
    """The file of an unpacked bundle, signed."""
    return seal(read_directory(unpacked), by)

"""A bundle in memory as it was read, once: what is checked is what is loaded and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shype.host.trust import require_trusted
from shype.policy import envelope, signed
from shype.policy.manifest import Bundle


@dataclass(frozen=True, slots=True)
class Staged:
    """``binary`` is what the hypervisor loads, ``sealed`` the whole signed file."""

    bundle: Bundle
    binary: bytes
    sealed: bytes


def read(path: Path, keys: Path) -> Staged:
    """The bundle at ``path``, if a key in ``keys`` has signed it. Raises as `load_trusted`."""
    found = signed.read(path)
    require_trusted(found, path, keys)
    bundle, contents = signed.opened(found, path)
    return Staged(bundle, contents.files["policy.bin"], envelope.dumps(found))

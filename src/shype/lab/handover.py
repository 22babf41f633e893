"""How dom0 gets the policy: as a host would, in a bundle signed by a key that it trusts.

The key is made for one lab.  Whatever the caller's bundle is signed with, dom0 trusts this
key alone; it stays in the lab's directory, to sign further bundles for this dom0 with.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from shype.base.errors import BadInput
from shype.policy import signed
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.manifest import Bundle, assemble, read_directory

#: The default of `shype run --bundle`, in dom0.
POLICY = "/etc/shype/policy.shype"
#: In the default of `shype run --keys`, in dom0.
TRUSTED = "/etc/shype/keys/lab.pub"


def read(path: Path) -> tuple[Bundle, Contents]:
    """A bundle, from its file or unpacked in a directory; signatures are not looked at.

    Raises BadInput (``bundle.missing``, ``bundle.corrupt``).
    """
    if path.is_dir():
        contents = read_directory(path)
        return assemble(contents, path), contents
    return signed.opened(signed.read(path), path)


@dataclass(frozen=True, slots=True)
class Enforced:
    """What a lab is to enforce; ``title`` and ``digest`` are for `status`, empty without one.

    ``dom0``: dom0's security context under it.
    """

    title: str = ""
    digest: str = ""
    dom0: str = ""
    contents: Contents | None = None

    @classmethod
    def read(cls, bundle: Path | None) -> Self:
        """The policy of a bundle, or that of none. Raises as `read`."""
        if bundle is None:
            return cls()
        found, contents = read(bundle)
        ref = found.manifest.policy
        return cls(f"{ref.name} {ref.version}", found.manifest.digest,
                   found.manifest.dom0.context, contents)

    def module(self, file: Path | None = None) -> bytes | None:
        """Xen's boot module, ``file`` in its place. Raises BadInput (``lab.no-module``)."""
        if file is None:
            return None if self.contents is None else self.contents.files["policy.bin"]
        try:
            return file.read_bytes()
        except OSError as error:
            raise BadInput(
                "lab.no-module", f"the policy module cannot be read: {error}") from error


class Reader(Protocol):
    """Reads a file in dom0 (`shype.lab.host.Lab`)."""

    def get(self, path: str) -> bytes: ...


def fetched(lab: Reader) -> tuple[Bundle, Contents]:
    """The bundle that a running lab's dom0 has. Raises as `read`."""
    with tempfile.TemporaryDirectory(prefix="shype-bundle-") as work:
        path = Path(work) / "policy.shype"
        path.write_bytes(lab.get(POLICY))
        return read(path)


def files(contents: Contents, key: PrivateKey) -> dict[str, bytes]:
    """The files of dom0, by path, that make it load ``contents``."""
    return {POLICY: signed.seal(contents, [key]), TRUSTED: key.public.pem()}

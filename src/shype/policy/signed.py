"""The bundle as one signed file, and who vouches for it.

Three steps, so that nothing is believed too early: `read` (an envelope),
`require_signed` (by a key that is trusted), `opened` (what it says).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.policy import contents, envelope
from shype.policy.contents import Contents
from shype.policy.ed25519 import KeyId, PrivateKey, PublicKey
from shype.policy.envelope import Envelope, corrupt
from shype.policy.manifest import Bundle, assemble

#: How the file of a bundle is named.
SUFFIX = ".shype"
#: By which a policy in YAML is known, and in how many of its first bytes.
_SOURCE = re.compile(rb"^shype[ \t]*:", re.MULTILINE)
_LOOK = 64 * 1024


def seal(parts: Contents, keys: Sequence[PrivateKey]) -> bytes:
    """The bundle's file, signed with every one of ``keys`` (none: an unsigned one).

    The same parts and keys always give the same bytes.
    """
    return envelope.dumps(envelope.sign(contents.pack(parts), keys))


def read(path: Path) -> Envelope:
    """The envelope at ``path``, nothing of it checked.

    Raises BadInput: ``bundle.missing``, ``bundle.unsigned`` (a directory), ``bundle.source`` (in
    YAML), ``bundle.corrupt``.
    """
    try:
        data = read_regular(path, envelope.MAX_BUNDLE)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadInput(
            "bundle.missing", f"there is no compiled policy at {path}",
            "on the author's machine: shype build POLICY --target xen-4.17 --key NAME.key -o "
            f"POLICY.shype; then copy POLICY.shype to {path}",
        ) from error
    except OSError as error:
        if path.is_dir():
            raise unsigned(path, "is a directory, which carries no signature") from error
        raise corrupt(f"{path} cannot be read: {error.strerror}") from error
    try:
        return envelope.loads(data)
    except BadInput as error:
        if _SOURCE.search(data[:_LOOK]):
            raise BadInput(
                "bundle.source", f"{path} is a policy's source, which is not compiled yet",
                f"shype build {path} --target xen-4.17 --key NAME.key -o POLICY.shype, and give "
                "POLICY.shype",
            ) from error
        raise BadInput(error.id, f"{path}: {error.message}", error.fix) from error


def require_signed(
    envelope_: Envelope, path: Path, trusted: Mapping[KeyId, PublicKey]
) -> tuple[KeyId, ...]:
    """The trusted keys that have signed it: at least one, and none whose signature is wrong.

    Signatures by other keys count for nothing and harm nothing.

    Raises BadInput: ``bundle.unsigned``, ``bundle.unknown-key``, ``bundle.altered``;
    Unavailable (``tool.missing``).
    """
    if not envelope_.signatures:
        raise unsigned(path, "carries no signature")
    known = [s for s in envelope_.signatures if s.keyid in trusted]
    if not known:
        signers = ", ".join(s.keyid[:16] for s in envelope_.signatures)
        raise BadInput(
            "bundle.unknown-key",
            f"{path} is signed by no key that is trusted here, but by {signers}; trusted: "
            + (", ".join(keyid[:16] for keyid in trusted) or "none"),
            "have it signed by a trusted key; or, if its author shall decide what runs here, copy "
            "the author's NAME.pub to the directory of trusted keys (compare `shype keys show "
            "NAME.pub` over another channel)",
        )
    message = envelope.pae(envelope_.payload)
    for signature in known:
        if not trusted[signature.keyid].verifies(message, signature.sig):
            raise BadInput(
                "bundle.altered",
                f"{path} is not what the key {signature.keyid[:16]} signed: it was altered",
                "copy it again from its author; if that does not help, find out who changed it",
            )
    return tuple(s.keyid for s in known)


def opened(envelope_: Envelope, path: Path) -> tuple[Bundle, Contents]:
    """What the envelope holds, checked whole but for the signatures.

    Raises BadInput (``bundle.corrupt``).
    """
    try:
        parts = contents.unpack(envelope_.payload)
        return assemble(parts, path), parts
    except BadInput as error:
        if str(path) in error.message:
            raise
        raise BadInput(error.id, f"{path}: {error.message}", error.fix) from error


def unsigned(path: Path, what: str) -> BadInput:
    """The error for a bundle that nobody vouches for."""
    return BadInput(
        "bundle.unsigned", f"{path} {what}: anybody could have written it",
        "on the author's machine: shype keys new NAME; shype build POLICY --target xen-4.17 "
        "--key NAME.key -o POLICY.shype; a host trusts NAME.pub in /etc/shype/keys",
    )

"""Whose signatures this host believes: the ``.pub`` files of one directory.

Whoever can write there decides what the host enforces.  So all in it must belong to root (or
to who runs the command) and be writable for nobody else.  A file that is no key is an error
and not skipped: why a key is not trusted would be looked for elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shype.base.errors import BadInput
from shype.policy import signed
from shype.policy.ed25519 import MAX_KEY_FILE, KeyId, PublicKey
from shype.policy.envelope import Envelope
from shype.policy.manifest import Bundle

#: Where a host keeps the keys that it trusts.
KEYS = Path("/etc/shype/keys")
#: Most keys in the directory.
MAX_KEYS = 64

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def load_trusted(path: Path, keys: Path) -> Bundle:
    """The bundle at ``path``, if a key in the directory ``keys`` has signed it.

    Raises BadInput: ``bundle.*`` and ``key.*``.
    """
    envelope = signed.read(path)
    require_trusted(envelope, path, keys)
    return signed.opened(envelope, path)[0]


def require_trusted(envelope: Envelope, path: Path, keys: Path) -> None:
    """Raises what `load_trusted` raises, unless a key in ``keys`` has signed the envelope."""
    # An unsigned bundle is called that even on a host that trusts no key yet.
    trusted = trusted_keys(keys) if envelope.signatures else {}
    signed.require_signed(envelope, path, trusted)


def trusted_keys(place: Path) -> dict[KeyId, PublicKey]:
    """The keys in the directory ``place``, or the one in the file ``place``, by id.

    No symbolic link is followed, neither to the directory nor in it.  The same key in two files
    is one key.  Raises BadInput: ``key.none``, ``key.unsafe``, ``key.invalid``.
    """
    with _opened(place, None, place) as handle:
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            keys = [_key(handle, place)]
        else:
            names = sorted(n for n in os.listdir(handle) if n.endswith(".pub"))  # noqa: PTH208
            if len(names) > MAX_KEYS:
                raise _unsafe(place, f"holds more than {MAX_KEYS} keys")
            keys = []
            for name in names:
                with _opened(Path(name), handle, place / name) as file:
                    keys.append(_key(file, place / name))
    if not keys:
        raise _none(f"this host trusts no key: {place} has no .pub file")
    return {key.id: key for key in keys}


@contextlib.contextmanager
def _opened(path: Path, directory: int | None, shown: Path) -> Iterator[int]:
    try:
        handle = os.open(path, _FLAGS, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _none(f"this host trusts no key: there is no {shown}") from error
    except OSError as error:
        why = "is a symbolic link" if shown.is_symlink() else f"cannot be read ({error.strerror})"
        raise _unsafe(shown, why) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise _unsafe(shown, "is neither a file nor a directory")
        if status.st_uid not in (0, os.geteuid()):
            raise _unsafe(shown, f"belongs to the user with the id {status.st_uid}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _unsafe(shown, "may be written by others than its owner")
        yield handle
    finally:
        os.close(handle)


def _key(handle: int, path: Path) -> PublicKey:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise _unsafe(path, "is not a file")
    data = b""
    while len(data) <= MAX_KEY_FILE and (part := os.read(handle, MAX_KEY_FILE + 1)):
        data += part
    return PublicKey.from_pem(data, str(path))


def _none(problem: str) -> BadInput:
    return BadInput(
        "key.none", problem,
        f"copy the policy author's NAME.pub (from `shype keys new NAME`) to {KEYS}/, or name "
        "another place with --keys",
    )


def _unsafe(path: Path, problem: str) -> BadInput:
    return BadInput(
        "key.unsafe", f"{path} {problem}, so the keys in it are not trusted",
        f"chown -R root: {KEYS}; chmod -R go-w {KEYS}; keep plain files in it, no links",
    )

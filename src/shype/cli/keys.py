"""`shype keys`: the keys that sign bundles, and the ones that a host trusts."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.policy.ed25519 import PrivateKey, PublicKey

_EPILOG = """\
example:
  shype keys new author                    # writes author.key and author.pub
  shype build examples/banks.yaml --target xen-4.17 --key author.key -o b.shype
  scp author.pub root@host:/etc/shype/keys/

author.key signs: keep it off the host, and keep a copy in a safe place.
author.pub is for every host that shall trust the author. To change keys, sign
with both (--key twice) until every host has the new one, then remove the old
one from the hosts.
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def add(commands: Commands) -> None:
    """Register the commands."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "keys", help="make and show keys that sign bundles", epilog=_EPILOG, formatter_class=raw,
        description="Make and show the Ed25519 keys that sign bundles.",
    )
    verbs = group.add_subparsers(metavar="VERB", required=True)
    new = verbs.add_parser(
        "new", help="make a key", formatter_class=raw,
        description="Make NAME.key (signs; readable for you alone) and NAME.pub (is trusted). "
        "Files that exist are never overwritten.",
        epilog="example: shype keys new author -o ~/keys",
    )
    new.add_argument("name", metavar="NAME", help="how the two files are named")
    new.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path(),
                     help="where they are written (default: here)")
    new.add_argument("--json", action="store_true", help="print JSON")
    new.set_defaults(run=_new)
    show = verbs.add_parser(
        "show", help="the id of a key", formatter_class=raw,
        description="Show the id of a key, as bundles name it.",
        epilog="example: shype keys show author.pub",
    )
    show.add_argument("file", metavar="FILE", type=Path, help="NAME.key or NAME.pub")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=_show)


def read_private(path: Path) -> PrivateKey:
    """The key that signs, from its file.

    Raises BadInput: ``key.missing``, ``key.unreadable``, ``key.exposed``, ``key.invalid``.
    """
    from shype.base.errors import BadInput
    from shype.policy.ed25519 import PrivateKey

    data = _read(path)
    key = PrivateKey.from_pem(data, str(path))
    mode = path.stat().st_mode
    if mode & 0o077:
        raise BadInput(
            "key.exposed", f"others may read or write {path} (mode {mode & 0o777:04o}), and could "
            "sign in your name", f"chmod 600 {path}; if others did have access, make a new key",
        )
    return key


def _read(path: Path) -> bytes:
    from shype.base.errors import BadInput
    from shype.base.files import read_regular
    from shype.policy.ed25519 import MAX_KEY_FILE

    try:
        return read_regular(path, MAX_KEY_FILE)
    except PermissionError as error:
        raise BadInput(
            "key.unreadable", f"the key {path} may not be read: {error.strerror}",
            "run this as the user whose key it is (a key that signs is for its owner alone)",
        ) from error
    except OSError as error:
        raise BadInput(
            "key.missing", f"the key {path} cannot be read: {error.strerror}",
            "shype keys new NAME makes NAME.key and NAME.pub",
        ) from error


def _new(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput
    from shype.policy.ed25519 import PrivateKey

    # Whoever writes `author.key` means that file, and not author.key.key.
    name = args.name.removesuffix(".key").removesuffix(".pub")
    if not _NAME.fullmatch(name):
        raise BadInput(
            "key.bad-name", f"{args.name!r} cannot name a key",
            "use letters, digits, '.', '_' and '-', at most 64; another directory: -o DIR",
        )
    private, public = (args.output / f"{name}.{end}" for end in ("key", "pub"))
    for path in (private, public):
        if path.exists() or path.is_symlink():
            raise _exists(path)
    key = PrivateKey.generate()
    args.output.mkdir(parents=True, exist_ok=True)
    _create(private, key.pem(), 0o600)
    try:
        _create(public, key.public.pem(), 0o644)
    except BaseException:
        private.unlink()
        raise
    if args.json:
        output.print_json({"keyid": key.public.id, "private": str(private), "public": str(public)})
        return 0
    print(f"{private} signs (keep it secret), {public} is for the hosts that shall trust it")
    print(f"key id {key.public.id}")
    return 0


def _create(path: Path, data: bytes, mode: int) -> None:
    """A new file, never one that somebody put there meanwhile."""
    import os

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise _exists(path) from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise


def _exists(path: Path) -> Exception:
    from shype.base.errors import BadInput

    return BadInput(
        "key.exists", f"{path} exists and is not overwritten: a lost key cannot be made again",
        "choose another NAME, or another directory with -o",
    )


def _show(args: argparse.Namespace) -> int:
    from shype.policy.ed25519 import PrivateKey, PublicKey

    data = _read(args.file)
    private = b"PRIVATE KEY-----" in data
    key: PublicKey = (
        PrivateKey.from_pem(data, str(args.file)).public if private
        else PublicKey.from_pem(data, str(args.file))
    )
    kind = "private" if private else "public"
    if args.json:
        output.print_json({"file": str(args.file), "kind": kind, "keyid": key.id})
    else:
        output.table("", ["key", ""], [["file", str(args.file)], ["kind", kind], ["id", key.id]])
    return 0

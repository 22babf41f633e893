"""From a policy to a bundle: all or nothing, and the same input gives the same bytes.

`make` gives its parts, which `shype.policy.signed.seal` makes the file of; `build`
writes them unpacked and unsigned to a directory, which no host loads.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import date
from pathlib import Path

from shype.base import canonical, child
from shype.base.errors import BadInput, Internal
from shype.compile.flask import cil, encoding
from shype.compile.flask import tables as flask_tables
from shype.compile.flask.ordering import in_order
from shype.compile.flask.tables import Tables
from shype.policy.bundle import policy_to_json
from shype.policy.contents import FILES, MAX_FILE, Contents
from shype.policy.manifest import (
    Manifest,
    PolicyRef,
    Validation,
    digest_line,
    policy_digest,
    read_directory,
)
from shype.policy.model import Policy

#: POLICYDB_VERSION_MAX of Xen 4.17 to 4.22 (xen/xsm/flask/include/security.h).
POLICY_VERSION = 30
#: How a binary policy for Xen starts: magic number, then the length of a name, then the name.
_MAGIC = b"\x8c\xff\x7c\xf9\x08\x00\x00\x00XenFlask" + POLICY_VERSION.to_bytes(4, "little")


def make(
    policy: Policy, *, target: str, validate: bool = True, tables: Tables | None = None,
    today: date | None = None,
) -> tuple[Manifest, Contents]:
    """Compile ``policy`` for ``target`` (``xen-4.17``).

    ``tables`` replaces the shipped ones (they must be ``target``'s).  ``today``
    (None: the day it is) is when no guard may have expired.

    Raises `BadInput` (``target.*``, ``compile.*``, ``guard.expired``), `Unavailable`
    (``tool.missing``, ``validate.no-reader``), `Internal` (``compile.secilc``,
    ``validate.mismatch``), OSError.
    """
    _check_guards(policy, today)
    with tempfile.TemporaryDirectory(prefix="shype-build-") as name:
        work = Path(name)
        return _make(policy, target, validate, tables, work), read_directory(work)


def build(
    policy: Policy, *, target: str, out: Path, validate: bool = True,
    tables: Tables | None = None, today: date | None = None,
) -> Manifest:
    """The same as `make`, into the directory ``out``.

    The bundle is built and validated beside ``out`` and then takes its place;
    until then an existing bundle stays as it is.

    Raises what `make` raises, and `BadInput` (``build.out``).
    """
    _check_guards(policy, today)
    _check_out(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new."))
    try:
        manifest = _make(policy, target, validate, tables, work)
        _publish(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


def _make(
    policy: Policy, target: str, validate: bool, tables: Tables | None, work: Path
) -> Manifest:
    """Write the four files into ``work``."""
    chosen = tables or flask_tables.load(target)
    if chosen.target != target:
        raise BadInput(
            "target.other-tables", f"the tables are for {chosen.target}, not for {target}",
            f"use --target {chosen.target}",
        )
    text = cil.generate(policy, chosen).encode()
    source = canonical.dumps(policy_to_json(policy))
    digest = policy_digest(source, target, text)
    (work / "policy.json").write_bytes(source)
    (work / "policy.cil").write_bytes(text + digest_line(digest))
    compile_cil(work / "policy.cil", work / "policy.bin")
    result = _validate(policy, chosen, work / "policy.bin", digest) if validate else None
    manifest = Manifest(
        target=target,
        digest=digest,
        policy=PolicyRef(policy.name, policy.version, policy.source),
        files={name: canonical.digest((work / name).read_bytes()) for name in FILES},
        labels=encoding.label_entries(policy),
        dom0=encoding.dom0_entry(policy),
        booleans=encoding.booleans(policy, digest),
        validation=result,
        retired=encoding.retired_types(policy),
    )
    (work / "manifest.json").write_bytes(canonical.dumps(manifest.to_json()))
    return manifest


def compile_cil(source: Path, binary: Path) -> None:
    """Run secilc. Raises `Internal` (``compile.secilc``) with its text, `Unavailable`.

    secilc can fail and still leave a file, with which the hypervisor would
    panic at boot, so both its exit code and the file are checked.
    """
    done = child.run(
        ["secilc", "-t", "xen", "-M", "true", "-c", str(POLICY_VERSION), "-f", "/dev/null",
         "-o", binary.name, source.name],
        cwd=source.parent, check=False, timeout=600,
    )
    said = (done.err.strip() or done.out.strip() or "(it printed nothing)")[-4000:]
    if done.code != 0:
        binary.unlink(missing_ok=True)
        raise Internal("compile.secilc", f"secilc failed with code {done.code}: {said}")
    try:
        check_binary(binary)
        if any(word in source.read_bytes() for word in (b"(ioportcon", b"(iomemcon")):
            binary.write_bytes(in_order(binary.read_bytes()))
    except ValueError as error:
        raise Internal("compile.secilc", f"{error} in what secilc wrote") from error
    except Internal as error:
        raise Internal(error.id, f"{error.message}; secilc said: {said}") from error


def check_binary(binary: Path) -> None:
    """The file begins as the hypervisor expects and is not too large for it.

    Raises `Internal` (``compile.secilc``), `BadInput` (``compile.too-large``).
    """
    try:
        size = binary.stat().st_size
        with binary.open("rb") as file:
            start = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        raise Internal("compile.secilc", "secilc reported success and wrote no file") from error
    if start != _MAGIC:
        raise Internal(
            "compile.secilc",
            f"secilc wrote a file that is not a Xen policy of version {POLICY_VERSION}",
        )
    if size > MAX_FILE:
        raise BadInput(
            "compile.too-large",
            f"the compiled policy has {size} bytes; the hypervisor takes {MAX_FILE}",
            "split the policy: a host needs only the labels of the VMs that it may run",
        )


def _validate(policy: Policy, tables: Tables, binary: Path, digest: str) -> Validation:
    from shype.compile.flask import reader, verify

    return verify.verify(policy, tables, reader.read(binary), digest)


def _check_guards(policy: Policy, today: date | None) -> None:
    """What a guard lets pass is compiled in, so its last day is checked here as well."""
    day = today or date.today()
    expired = [guard for guard in policy.guards.values() if guard.expired(day)]
    if expired:
        raise BadInput(
            "guard.expired",
            f"the guard {expired[0].name} ({expired[0].span}) expired on {expired[0].expires}",
            "remove it, or give it a new `expires` after a review",
        )


def _check_out(out: Path) -> None:
    """Only an earlier bundle or an empty directory is replaced."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise BadInput("build.out", f"{out} is there and is not a directory", "choose another -o")
    if out.is_dir() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise BadInput(
            "build.out", f"{out} has files in it and is not a compiled policy",
            "choose another -o, or empty it",
        )


def _publish(work: Path, out: Path) -> None:
    """Put the finished directory in the place of ``out``, durably."""
    work.chmod(0o755)
    for path in (*work.iterdir(), work):
        if path.is_file():
            path.chmod(0o644)
        _sync(path)
    if not out.exists():
        work.rename(out)
    else:
        old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old."))
        out.rename(old)
        try:
            work.rename(out)
        except OSError:
            old.rename(out)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(out.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

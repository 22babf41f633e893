"""Makes the Debian package of what a host needs: ``python scripts/deb.py OUTPUT_DIRECTORY``.

By dpkg-deb and not by pybuild: Debian 12's setuptools does not understand pyproject.toml's
metadata, and a host needs neither the compiler nor the lab. The same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/shype"
#: What runs on a host: the standard library is all that it needs.
PARTS = ("base", "policy", "decision", "analysis", "host", "attest", "meter", "cli")
EPOCH = 1_700_000_000

_WRAPPER = """\
#!/usr/bin/python3 -I
import sys

sys.path.insert(0, "/usr/share/shype")
from shype.cli.main import console  # noqa: E402

console()
"""
_CONTROL = """\
Package: shype
Version: {version}
Section: admin
Priority: optional
Architecture: all
Maintainer: The shype project <shype@shype.invalid>
Installed-Size: {size}
Depends: python3 (>= 3.11), libssl3
Recommends: xen-utils-4.17, nftables, grub2-common, initramfs-tools
Suggests: swtpm, python3-tpm2-pytss, python3-cryptography
Description: mandatory access control for virtual machines, enforced by Xen
 The agent for a Xen host (dom0): it starts VMs under a compiled, signed policy
 that the hypervisor's FLASK module enforces, keeps a sealed audit trail, and
 checks the host (shype doctor).
 .
 Installing the package changes nothing about how this host boots:
 "shype host install" does, and "shype host uninstall" undoes it.
 Policies are written and compiled on another machine, from shype's sources.
"""
_POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ] && command -v py3compile >/dev/null; then
    py3compile -p shype /usr/share/shype
fi
"""
_PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    deb-systemd-invoke stop shype-watch.service shype-attest.service >/dev/null 2>&1 || true
fi
if [ "$1" = remove ] && [ -e /var/lib/shype/install.json ]; then
    # The boot entry and the units would need a program that is not there any more.
    shype host uninstall || echo "shype: some files were left, see above" >&2
fi
if command -v py3clean >/dev/null; then
    py3clean -p shype
fi
"""
_COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: shype

Files: *
Copyright: 2026 the shype authors
License: Apache-2.0
 On Debian systems, the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
"""
_CHANGELOG = """\
shype ({version}) bookworm; urgency=medium

  * Built from shype's sources by `make deb`.

 -- The shype project <shype@shype.invalid>  Tue, 14 Nov 2023 22:13:20 +0000
"""


def main() -> int:
    """Build it and say where it is."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    out = arguments.parse_args().output
    out.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / "src"))
    from shype import __version__

    version = __version__
    with tempfile.TemporaryDirectory(prefix="shype-deb-") as work:
        tree = Path(work) / "tree"
        _program(tree)
        _documents(tree, version)
        _units(tree)
        _debian(tree, version)
        for path in (tree, *tree.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
            os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
        target = out / f"shype_{version}_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", tree, target],
                       check=True, stdout=subprocess.DEVNULL,
                       env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})
    sys.stdout.write(f"{target}\n")
    return 0


def _put(path: Path, data: str | bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    path.chmod(mode)


def _program(tree: Path) -> None:
    place = tree / "usr/share/shype/shype"
    for name in ("__init__.py", "__main__.py"):
        _put(place / name, (PACKAGE / name).read_bytes())
    for part in PARTS:
        for path in sorted((PACKAGE / part).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                _put(place / path.relative_to(PACKAGE), path.read_bytes())
    _put(tree / "usr/bin/shype", _WRAPPER, 0o755)


def _documents(tree: Path, version: str) -> None:
    import shtab

    from shype.cli.main import parser

    top = parser()
    _put(tree / "usr/share/bash-completion/completions/shype", shtab.complete(top, shell="bash"))
    _packed(tree / "usr/share/man/man1/shype.1.gz", "\n".join(_manual(top, version)) + "\n")
    _put(tree / "usr/share/doc/shype/copyright", _COPYRIGHT)
    _packed(tree / "usr/share/doc/shype/changelog.gz", _CHANGELOG.format(version=version))


def _packed(path: Path, text: str) -> None:
    _put(path, gzip.compress(text.encode(), 9, mtime=0))


def _manual(top: argparse.ArgumentParser, version: str) -> Iterator[str]:
    """The manual page, from the parser: one section per command."""
    os.environ["COLUMNS"] = "78"
    yield f'.TH SHYPE 1 "2023-11-14" "shype {version}" "shype"'
    yield ".SH NAME"
    yield r"shype \- mandatory access control for virtual machines, enforced by Xen"
    yield ".SH SYNOPSIS"
    yield r".B shype"
    yield r".I COMMAND"
    yield "[options]"
    yield ".SH DESCRIPTION"
    yield from _verbatim(top.format_help())
    yield ".SH COMMANDS"
    commands = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        yield f'.SS "shype {name}"'
        yield from _verbatim(command.format_help())


def _verbatim(text: str) -> Iterator[str]:
    yield ".nf"
    for line in text.rstrip().splitlines():
        safe = line.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
        yield f"\\&{safe}" if safe.startswith((".", "\\(aq")) else safe
    yield ".fi"


def _units(tree: Path) -> None:
    from shype.host.install import assets

    for name, text in assets.units("/usr/bin/shype").items():
        _put(tree / "lib/systemd/system" / name, text)


def _debian(tree: Path, version: str) -> None:
    files = [path for path in sorted(tree.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files) // 1024
    import hashlib

    sums = "".join(f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
                   f"{path.relative_to(tree)}\n" for path in files)
    _put(tree / "DEBIAN/control", _CONTROL.format(version=version, size=size))
    _put(tree / "DEBIAN/md5sums", sums)
    _put(tree / "DEBIAN/postinst", _POSTINST, 0o755)
    _put(tree / "DEBIAN/prerm", _PRERM, 0o755)


if __name__ == "__main__":
    raise SystemExit(main())

"""Stage: Xen's own xenstored with the patch of `xenstored/`, which closes two storage channels.

Tests replace the running daemon by it; what it is for: docs/adr/0022-xenstore.md.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from shype.base import canonical, child
from shype.lab import recipe
from shype.lab.apt import PrivateApt
from shype.lab.stages import Store

TOOLS = ("dpkg-source", "dpkg-deb", "gcc", "patch")
#: Has the headers and static libraries that Xen's tools link.
LIBRARIES = "libxen-dev"

_PATCH = Path(__file__).parent / "xenstored" / "storage-channels.patch"
#: As tools/xenstore/Makefile.common lists them for Linux.
_SOURCES = (
    "xenstored_core.c", "xenstored_watch.c", "xenstored_domain.c", "xenstored_transaction.c",
    "xenstored_control.c", "xenstored_posix.c", "xs_lib.c", "talloc.c", "utils.c", "tdb.c",
    "hashtable.c",
)
_FLAGS = (
    "-static", "-O2", "-std=gnu99", "-fno-strict-aliasing", "-D_DEFAULT_SOURCE",
    "-D_LARGEFILE64_SOURCE", "-D__XEN_TOOLS__", "-DINCLUDE_ENDIAN_H=<endian.h>",
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
    '-DXEN_RUN_STORED="/run/xenstored"',
)
#: Each before those that it needs.
_LINKED = (
    "xenctrl", "xengnttab", "xenevtchn", "xenforeignmemory", "xencall", "xendevicemodel",
    "xentoollog", "xentoolcore", "rt", "pthread", "dl",
)


def stage(store: Store, apt: PrivateApt) -> Path:
    """The stage's directory, which holds the program ``xenstored``."""
    with tempfile.TemporaryDirectory(prefix="xenstored-", dir=apt.root) as name:
        for version in apt.source_versions(recipe.SOURCE_PACKAGE):
            path = store.path("xenstored", _inputs(version))  # already built: nothing to fetch
            if path.is_dir():
                return path
        work = Path(name)
        version, dsc = apt.fetch_source(recipe.SOURCE_PACKAGE, work)
        package = apt.fetch_binary(LIBRARIES, work)
        return store.ensure(
            "xenstored", _inputs(version), lambda out: build(dsc, package, work, out))


def _inputs(version: str) -> dict[str, object]:
    patch = canonical.digest(_PATCH.read_bytes())
    return {"version": version, "patch": patch, "flags": _FLAGS, "layout": 1}


def build(dsc: Path, libraries: Path, work: Path, out: Path) -> None:
    """Unpack, patch and compile in ``work``; the program goes to ``out``."""
    tree, log = work / "tree", out / "build.log"
    child.run(["dpkg-source", "--no-check", "-x", dsc, tree], log=log)
    child.run(["patch", "-d", tree, "-p1", "-i", _PATCH], log=log)
    child.run(["dpkg-deb", "-x", libraries, work / "libraries"], log=log)
    usr, here = work / "libraries" / "usr", tree / "tools" / "xenstore"
    library = next(usr.rglob("libxenctrl.a")).parent
    child.run(
        ["gcc", *_FLAGS, f"-I{here}", f"-I{here / 'include'}", f"-I{tree / 'tools' / 'include'}",
         f"-I{usr / 'include'}", "-o", out / "xenstored",
         *(here / source for source in _SOURCES),
         f"-L{library}", *(f"-l{one}" for one in _LINKED)],
        log=log,
    )

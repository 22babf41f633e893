"""The probe that runs inside lab guests, and the guests' first process.

`sources` are compiled together, ``gcc -static -O2 -o probe SOURCES``, into one
program with no dependencies; it is ``/bin/probe`` in a guest and can be used
in dom0 as well.  `init_script` becomes ``/init`` of the guests' initial file
system, which must have ``/bin/busybox``, the `MODULES` with all they depend on
in ``/mod``, and their file names in loading order in ``/mod/order``.
"""

from __future__ import annotations

from pathlib import Path

#: C files of the probe, to be compiled together.
SOURCES = (
    "main.c", "json.c", "hypercall.c", "event.c", "grant.c", "argo.c", "flask.c", "domain.c",
    "bench.c", "bulk.c", "own.c", "leak.c", "store.c", "frame.c", "meter.c",
)

#: Headers beside them.
HEADERS = ("probe.h",)

#: Compiler options, without the output.
CFLAGS = ("-static", "-O2", "-Wall", "-Wextra", "-Werror")

#: Linux modules that a guest needs.
MODULES = (
    "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-blkfront", "xen-netfront", "xen-privcmd",
)

_HERE = Path(__file__).resolve().parent


def sources() -> tuple[Path, ...]:
    """The probe's C files."""
    return tuple(_HERE / name for name in SOURCES)


def headers() -> tuple[Path, ...]:
    """What the C files include, for digests of the whole source."""
    return tuple(_HERE / name for name in HEADERS)


def init_script() -> Path:
    """The guests' /init (busybox shell)."""
    return _HERE / "init"

"""Stages: dom0's and the guests' initial RAM disks, made anew when their sources change."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shype.base import child, cpio
from shype.base.errors import Unavailable
from shype.lab.stages import Store

PROBE_FLAGS = ("-static", "-O2", "-Wall", "-o")


def dom0(store: Store, user: Path, linux: Path) -> Path:
    """dom0's RAM disk: modules, `dom0/initrd.sh`, and `init.sh` and `labd.py` for later."""
    here = Path(__file__).parent / "dom0"
    files = {name: (here / name).read_bytes() for name in ("initrd.sh", "init.sh", "labd.py")}

    def make(out: Path) -> None:
        (out / "initrd").write_bytes(cpio.archive([
            *_base(user), cpio.directory("new"), *_modules(linux, "dom0"),
            cpio.file("init", files["initrd.sh"], 0o755),
            cpio.file("init.sh", files["init.sh"], 0o755), cpio.file("labd.py", files["labd.py"]),
        ]))

    return store.ensure("dom0-initrd", _inputs(user, linux, files), make) / "initrd"


def guest(store: Store, user: Path, linux: Path, source: Path | None = None) -> Path:
    """The guests' RAM disk: busybox, Xen's modules, ``source``/init and the static probe.

    ``source`` (default: `shype.lab.guest`) holds ``init`` and the probe's C files.
    Raises Unavailable (``lab.guest-source``) if they are not there.
    """
    here = source or Path(__file__).parent / "guest"
    sources = sorted(here.glob("*.c"))
    try:
        files = {path.name: path.read_bytes()
                 for path in (here / "init", *sources, *sorted(here.glob("*.h")))}
    except OSError as error:
        raise _no_source(str(error)) from error
    if not sources:
        raise _no_source(f"no C files in {here}")

    def make(out: Path) -> None:
        child.require("gcc")
        child.run(["gcc", *PROBE_FLAGS, out / "probe", *sources])
        (out / "initrd").write_bytes(cpio.archive([
            *_base(user), *_modules(linux, "guest"), *_modules(linux, "guest-spare", "spare"),
            cpio.file("init", files["init"], 0o755),
            cpio.file("bin/probe", (out / "probe").read_bytes(), 0o755),
        ]))

    return store.ensure("guest-initrd", _inputs(user, linux, files), make) / "initrd"


def _no_source(why: str) -> Unavailable:
    return Unavailable("lab.guest-source", f"the guests' sources are incomplete: {why}",
                       "install shype again, with its package data")


def _inputs(user: Path, linux: Path, files: dict[str, bytes]) -> dict[str, object]:
    return {
        "userland": user.name, "linux": linux.name, "layout": 3, "flags": PROBE_FLAGS,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }


def _base(user: Path) -> list[cpio.Entry]:
    return [
        *(cpio.directory(name) for name in ("bin", "dev", "proc", "sys", "tmp", "mod")),
        cpio.console(),
        cpio.file("bin/busybox", (user / "busybox").read_bytes(), 0o755),
        cpio.symlink("bin/sh", "busybox"),
    ]


def _modules(linux: Path, kind: str, order_name: str = "order") -> list[cpio.Entry]:
    order = (linux / f"{kind}.order").read_text()
    return [cpio.file(f"mod/{order_name}", order.encode()),
            *(cpio.file(f"mod/{name}", (linux / "modules" / name).read_bytes())
              for name in order.split())]

"""`shype lab build`: fetch, build and put together everything that a lab runs on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from shype.base import canonical, child, files
from shype.base.errors import ShypeError, Unavailable
from shype.lab import hypervisor, initrds, paths, recipe, rootfs, store_daemon
from shype.lab.apt import PrivateApt
from shype.lab.stages import Progress, Store, locked, silent

TOOLS = tuple(sorted({
    "apt-get", "apt-cache", "apt-config", "gcc", "setpriv", "qemu-system-x86_64", "qemu-img",
    *hypervisor.TOOLS, *rootfs.TOOLS, *store_daemon.TOOLS,
}))


@dataclass(frozen=True, slots=True)
class Built:
    """What a lab needs to boot; all paths are read-only."""

    xen: Path
    tables: Path
    reference: Path  # Xen's own FLASK policy, compiled
    image: Path
    vmlinux: Path
    dom0_initrd: Path
    guest_initrd: Path
    xenstored: Path  # Xen's, with shype's patch
    versions: dict[str, str]


def recipe_digest() -> str:
    """Digest of the recipe: a lab built from another one must be built anew."""
    data = {name: str(value) for name, value in vars(recipe).items() if name.isupper()}
    return canonical.digest(canonical.dumps(data))


def build(*, refresh: bool = False, progress: Progress = silent) -> Built:
    """Build what is missing.  With ``refresh`` look for newer package versions as well.

    Raises Unavailable: ``tool.missing`` (all missing tools at once),
    ``lab.disk-full``, ``lab.no-sources``, ``lab.fetch``.  Nothing half-made
    is left, whatever happens.
    """
    if not refresh:
        with contextlib.suppress(ShypeError):
            return load(progress=progress)
    child.require(*TOOLS, *(() if os.geteuid() == 0 else ("newuidmap",)))
    home = paths.home()
    home.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(home).free // (1 << 20)
    if free < recipe.DISK_MIB:
        raise Unavailable(
            "lab.disk-full", f"building the lab takes {recipe.DISK_MIB} MiB in {home}, "
            f"{free} MiB are free", "free some space, or point XDG_CACHE_HOME to another disk")
    store = Store(home, progress)
    with locked(home / "build.lock"):
        progress("sources", "reading package lists", None)
        apt = PrivateApt.open(home / "apt")
        apt.update()
        with ThreadPoolExecutor(3) as pool:
            xen_job = pool.submit(hypervisor.stage, store, apt)
            user_job = pool.submit(rootfs.userland, store, apt)
            linux_job = pool.submit(rootfs.linux, store, apt)
            linux, kernel_name = linux_job.result()
            user = user_job.result()
            image = rootfs.image(store, user, linux)
            xen, xen_version = xen_job.result()
            xenstored = store_daemon.stage(store, apt)
        check_tables(xen / "tables")
        record = {
            "format": 2, "recipe": recipe_digest(), "xen": xen.name, "userland": user.name,
            "linux": linux.name, "image": image.name, "xenstored": xenstored.name,
            "versions": {"xen": xen_version, "linux": kernel_name},
        }
        files.write_atomic(home / "current.json", canonical.dumps(record))
        return _built(store, record)


def load(*, progress: Progress = silent) -> Built:
    """The lab as built; the RAM disks are made anew if their sources changed.

    Raises Unavailable: ``lab.not-built``, ``lab.outdated``, ``lab.guest-source``.
    """
    home = paths.home()
    try:
        record = json.loads((home / "current.json").read_bytes())
    except (OSError, ValueError) as error:
        raise Unavailable("lab.not-built", "the lab is not built yet", "shype lab build") from error
    if record.get("format") != 2 or record.get("recipe") != recipe_digest():
        raise Unavailable("lab.outdated", "the lab was built by another version of shype",
                          "shype lab build")
    return _built(Store(home, progress), record)


def _built(store: Store, record: dict[str, object]) -> Built:
    stages = store.root / "stages"
    names = ("xen", "userland", "linux", "image", "xenstored")
    found = [stages / str(record.get(name, name)) for name in names]
    missing = [path.name for path in found if not path.is_dir()]
    if missing:
        raise Unavailable("lab.not-built", f"the lab lacks {', '.join(missing)}", "shype lab build")
    xen, user, linux, image, xenstored = found
    source = os.environ.get("SHYPE_LAB_GUEST")
    versions = record["versions"]
    assert isinstance(versions, dict)
    return Built(
        xen / "xen", xen / "tables", xen / "reference.policy",
        image / "dom0.img", linux / "vmlinux",
        initrds.dom0(store, user, linux),
        initrds.guest(store, user, linux, Path(source) if source else None),
        xenstored / "xenstored", versions,
    )


def check_tables(tables: Path) -> None:
    """Compare the built hypervisor's FLASK tables with those the compiler was made for.

    Raises Unavailable (``lab.flask-tables``): a policy compiled for other
    tables would be refused at boot, or worse, mean something else.
    """
    from shype.compile.flask import tables as compiler

    built, shipped = compiler.import_tree(tables), compiler.load(recipe.TARGET)
    if list(built.classes.items()) == list(shipped.classes.items()) and (
        built.initial_sids == shipped.initial_sids
    ):
        return
    differing = [name for name in {**built.classes, **shipped.classes}
                 if built.classes.get(name) != shipped.classes.get(name)]
    raise Unavailable(
        "lab.flask-tables", f"the Xen built here has other FLASK tables than {recipe.TARGET}: "
        f"{', '.join(differing) or 'the order of classes or the initial SIDs'}",
        "report this, with the Xen version")

"""Stage: Xen with XSM/FLASK, built from Debian's source package.

Debian's own binary has no XSM: there a label is ignored and the VM starts
without it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from shype.base import child
from shype.base.errors import Unavailable
from shype.lab import recipe
from shype.lab.apt import PrivateApt
from shype.lab.stages import Store

TOOLS = ("dpkg-source", "make", "gcc", "ld", "flex", "bison", "python3", "xz", "m4", "checkpolicy")


def stage(store: Store, apt: PrivateApt) -> tuple[Path, str]:
    """The stage's directory and the source version.

    It holds ``xen``, ``config``, ``tables/``, and Xen's own reference policy compiled, as
    ``reference.policy``, which benchmarks compare with.
    """
    with tempfile.TemporaryDirectory(prefix="source-", dir=apt.root) as name:
        versions = apt.source_versions(recipe.SOURCE_PACKAGE)
        for version in versions:  # already built: nothing to fetch
            path = store.path("xen", _inputs(version))
            if path.is_dir():
                return path, version
        store.progress("xen-source", "fetching", None)
        version, dsc = apt.fetch_source(recipe.SOURCE_PACKAGE, Path(name))
        store.progress("xen-source", f"{recipe.SOURCE_PACKAGE} {version}", None)
        return store.ensure("xen", _inputs(version), lambda out: build(dsc, out)), version


def _inputs(version: str) -> dict[str, object]:
    return {"version": version, "config": recipe.XEN_CONFIG, "layout": 3}


def build(dsc: Path, out: Path) -> None:
    """Unpack the source package ``dsc`` and build the hypervisor alone into ``out``."""
    tree, log = out / "tree", out / "build.log"
    child.run(["dpkg-source", "--no-check", "-x", dsc, tree], log=log)
    xen = tree / "xen"
    make = ["make", "-C", str(xen), "XEN_TARGET_ARCH=x86_64"]
    child.run([*make, "defconfig"], log=log)
    with (xen / ".config").open("a") as config:
        config.write(recipe.XEN_CONFIG)
    child.run([*make, "olddefconfig"], log=log)
    text = (xen / ".config").read_text()
    lost = [line for line in recipe.XEN_MUST if line not in text.splitlines()]
    if lost:
        raise Unavailable("lab.xen-config", f"this Xen cannot be built with {', '.join(lost)}")
    child.run([*make, f"-j{os.cpu_count() or 1}"], log=log)
    shutil.copy(xen / "xen", out / "xen")
    shutil.copy(xen / ".config", out / "config")
    policy = tree / "tools" / "flask" / "policy"
    child.run(
        ["make", "-C", policy, "-f", "Makefile.common", f"FLASK_BUILD_DIR={out}",
         f"POLICY_FILENAME={out / 'reference.policy'}", "OUTPUT_POLICY=30"],
        log=log,
    )
    (out / "policy.conf").unlink()
    for name in recipe.XEN_TABLES:  # kept as in the source tree, so that the compiler can read it
        kept = out / "tables" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, kept)
    shutil.rmtree(tree)

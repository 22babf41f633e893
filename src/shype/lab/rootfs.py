"""Stages: dom0's user space (by mmdebstrap), the kernel, and the disk image of both."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from shype.base import child
from shype.base.errors import Unavailable
from shype.lab import kernel, recipe
from shype.lab.apt import PrivateApt
from shype.lab.stages import Store

TOOLS = ("mmdebstrap", "mke2fs", "dpkg-deb", "tar", "unshare")


def userland(store: Store, apt: PrivateApt) -> Path:
    """dom0's root file system as ``root.tar``, and ``busybox`` out of it."""
    exact = {name: apt.versions(name)[:1] for name in recipe.VERSIONED}
    inputs: dict[str, object] = {
        "packages": recipe.PACKAGES, "excluded": recipe.EXCLUDED, "release": recipe.RELEASE,
        "versions": exact, "layout": 1,
    }
    return store.ensure("userland", inputs, lambda out: _bootstrap(apt, out))


def _bootstrap(apt: PrivateApt, out: Path) -> None:
    root = os.geteuid() == 0
    tar = out / "root.tar"
    words: list[str | os.PathLike[str]] = [
        "mmdebstrap", f"--mode={'root' if root else 'unshare'}", "--variant=minbase",
        "--format=tar",
        f"--include={','.join(recipe.PACKAGES)}", f"--aptopt={apt.root / 'acquire.conf'}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.EXCLUDED),
        *_credentials(),
        recipe.RELEASE, "-", apt.root / "deb.sources",
    ]
    # In a mount namespace of its own: killed at any moment, it leaves no mount behind.
    wrap = ["unshare", "--mount", "--propagation", "private"] if root else []
    script = 'out="$1"; shift; exec "$@" >"$out"'
    child.run(
        ["sh", "-c", script, "sh", tar, *wrap, *words],
        env={"SOURCE_DATE_EPOCH": str(recipe.EPOCH), "TMPDIR": _scratch(out)},
        log=out / "build.log", die_with_parent=True,
    )
    child.run(["tar", "-C", out, "-xf", tar, "--no-same-owner", "--strip-components=2",
               "./bin/busybox"] if _has(tar, "./bin/busybox") else
              ["tar", "-C", out, "-xf", tar, "--no-same-owner", "--strip-components=3",
               "./usr/bin/busybox"])


def _has(tar: Path, member: str) -> bool:
    return child.run(["tar", "-tf", tar, member], check=False).code == 0


def _scratch(out: Path) -> str:
    """Where mmdebstrap may unpack: its user namespace cannot enter a user's own directories."""
    return str(out) if os.geteuid() == 0 else tempfile.gettempdir()


def _credentials() -> list[str]:
    """Options that lend the machine's apt credentials to the bootstrap and take them back."""
    options: list[str] = []
    for place in (Path("/etc/apt/auth.conf"), *sorted(Path("/etc/apt/auth.conf.d").glob("*.conf"))):
        if place.is_file() and os.access(place, os.R_OK):
            options += [f"--setup-hook=upload {place} {place}",
                        f'--customize-hook=rm -f "$1"{place}']
    return options


def linux(store: Store, apt: PrivateApt) -> tuple[Path, str]:
    """The kernel stage (``vmlinux``, ``vmlinuz``, ``modules/``) and its package name."""
    depends = apt.run("apt-cache", "depends", "--important", recipe.KERNEL_META)
    package = next((line.split()[1] for line in depends.splitlines()
                    if "Depends: linux-image" in line), None)
    if package is None:
        raise Unavailable("lab.no-kernel", f"no package source has {recipe.KERNEL_META}")
    names = [package, *(p for p in _older_kernels(apt) if p != package)]
    failure: Unavailable | None = None
    for name in names:
        inputs: dict[str, object] = {
            "package": name, "version": apt.versions(name)[:1], "layout": 4,
            "modules": sorted({
                *recipe.DOM0_MODULES, *recipe.GUEST_MODULES, *recipe.SPARE_MODULES,
                *recipe.SPARE_GUEST_MODULES}),
        }
        try:
            return store.ensure("linux", inputs, lambda out, n=name: _unpack(apt, n, out)), name  # type: ignore[misc]
        except Unavailable as error:
            if error.id != "lab.fetch":
                raise
            failure = failure or error
    assert failure is not None
    raise failure


def _older_kernels(apt: PrivateApt) -> list[str]:
    """Generic kernels by version, newest first: for when the newest cannot be fetched."""
    names = apt.run("apt-cache", "pkgnames", "linux-image-6.1.0-").split()
    numbered = [n for n in names if n.endswith("-amd64") and n.split("-")[3].isdigit()
                and n.count("-") == 4]
    return sorted(numbered, key=lambda n: -int(n.split("-")[3]))


def _unpack(apt: PrivateApt, package: str, out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="linux-", dir=apt.root) as name:
        work = Path(name)
        deb = apt.fetch_binary(package, work)
        child.run(["dpkg-deb", "-x", deb, work / "tree"])
        image = next((work / "tree" / "boot").glob("vmlinuz-*"))
        (out / "vmlinuz").write_bytes(image.read_bytes())
        (out / "vmlinux").write_bytes(kernel.unpack(image.read_bytes()))
        modules = kernel.find_modules(work / "tree")
        (out / "modules").mkdir()
        for kind, wanted in (("dom0", recipe.DOM0_MODULES), ("guest", recipe.GUEST_MODULES),
                             ("spare", recipe.SPARE_MODULES),
                             ("guest-spare", recipe.SPARE_GUEST_MODULES)):
            order = kernel.loading_order(wanted, modules)
            (out / f"{kind}.order").write_text("".join(f"{path.name}\n" for path in order))
            for path in order:
                shutil.copy(path, out / "modules" / path.name)


def image(store: Store, user: Path, linux_stage: Path) -> Path:
    """dom0's disk, ``dom0.img`` (raw ext4): user space, the guests' kernel in /guest, and modules.

    Those in /opt/modules are loaded by who needs them, in the order of /opt/modules/order.
    """
    inputs: dict[str, object] = {
        "userland": user.name, "linux": linux_stage.name, "mib": recipe.IMAGE_MIB, "layout": 3,
    }
    return store.ensure("image", inputs, lambda out: _image(user, linux_stage, out))


def _image(user: Path, linux_stage: Path, out: Path) -> None:
    tree = out / "tree"
    tree.mkdir()
    root = os.geteuid() == 0
    child.run(["tar", "-C", tree, "-xf", user / "root.tar", "--exclude=./dev/*",
               *([] if root else ["--no-same-owner"])])
    guest = tree / "guest"
    guest.mkdir()
    shutil.copy(linux_stage / "vmlinux", guest / "vmlinux")
    spare = tree / "opt/modules"
    spare.mkdir(parents=True)
    shutil.copy(linux_stage / "spare.order", spare / "order")
    for name in (spare / "order").read_text().split():
        shutil.copy(linux_stage / "modules" / name, spare / name)
    for place in ("opt/shype", "etc/shype", "etc/xen/vms", "var/lib/shype", "proc", "sys", "dev"):
        (tree / place).mkdir(parents=True, exist_ok=True)
    (tree / "etc/hostname").write_text("lab\n")
    # As a user, a namespace in which the user's files are root's.
    wrap = [] if root else ["unshare", "--map-root-user"]
    child.run(
        [*wrap, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0",
         "-U", "5e1f5e1f-0000-4000-8000-000000000001",
         "-E", "hash_seed=5e1f5e1f-0000-4000-8000-000000000002,root_owner=0:0",
         "-d", tree, out / "dom0.img", f"{recipe.IMAGE_MIB}M"],
        env={"SOURCE_DATE_EPOCH": str(recipe.EPOCH)},
    )
    shutil.rmtree(tree)

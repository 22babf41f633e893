"""The points of `shype doctor` about the boot: entry, environment block, modules, watchdog."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from shype.base import canonical
from shype.base.errors import ShypeError
from shype.host.install import changes, grubenv, installing, trial
from shype.host.install.places import Places
from shype.host.points import Point
from shype.policy.manifest import Bundle

#: File systems to which GRUB can write a block in place ("save_env" in its manual).
WRITABLE = ("ext2", "ext3", "ext4", "vfat", "xfs")
#: What GRUB reads through drivers of its own and cannot write: LVM, encryption, RAID.
LAYERED = ("/dev/mapper/", "/dev/dm-", "/dev/md")
_FIX = "shype host install"


def points(places: Places, bundle: Bundle | None, linux: str) -> Iterator[Point]:
    """All of them; ``linux`` is dom0's command line."""
    for check in (_entry, _rights, _device):
        try:
            yield from check(places)
        except (ShypeError, OSError) as error:
            name = check.__name__.strip("_")
            fix = error.fix if isinstance(error, ShypeError) else "run the command as root"
            yield Point(f"boot {name}", False, str(error), fix)
    try:
        yield from _policy(places, bundle, linux)
    except (ShypeError, OSError) as error:
        fix = error.fix if isinstance(error, ShypeError) else "run the command as root"
        yield Point("boot policy", False, str(error), fix)


def _entry(places: Places) -> Iterator[Point]:
    name = "boot files"
    done, options = changes.recorded(places)
    if not done:
        yield Point(name, False, "not installed", _FIX)
        return
    chosen = installing.kept(options, str(options.get("shype", "/usr/bin/shype")))
    differ = [f"/{d.path}" for d in changes.differences(
        places, installing.wanted(places, chosen))]
    yield Point(name, not differ, f"changed: {', '.join(differ)}" if differ else
                f"{len(done)}, as installed", f"{_FIX} --dry-run shows how" if differ else "")
    armed = "etc/initramfs-tools/scripts/init-top/shype" in done
    yield Point("watchdog", armed, f"{chosen.watchdog} s for a boot on trial" if armed else "none",
                "" if armed else f"{_FIX} --watchdog 600: a boot on trial that hangs ends by "
                "itself", demanded=False)


def _rights(places: Places) -> Iterator[Point]:
    """Nobody but root chooses what is booted."""
    bad = []
    chosen = (places.boot, places.custom, places.policies, *places.policies.glob("*"))
    for path in (path for path in chosen if path.exists()):
        status = path.lstat()
        if status.st_uid != os.geteuid() or (
                status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) or path.is_symlink():
            bad.append(str(path))
    yield Point("boot rights", not bad, f"not root's alone: {', '.join(bad)}" if bad
                else "root's alone", f"chown root: {' '.join(bad)}; chmod go-w {' '.join(bad)}"
                if bad else "")


def _device(places: Places) -> Iterator[Point]:
    """Whether GRUB can write its block: if not, no trial is ever booted."""
    kind, source = _mounted(places.boot)
    fits = kind in WRITABLE and not source.startswith(LAYERED)
    yield Point("boot.env", fits, f"{kind} on {source}", "" if fits else "GRUB cannot write there: "
                "a policy on trial is never booted, the good one is. Have /boot on a plain "
                "partition with ext4")


def _mounted(path: Path) -> tuple[str, str]:
    """The type and the device of the file system that ``path`` is on (proc(5), mountinfo)."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        front, _, back = line.partition(" - ")
        if front.split()[2] == wanted:
            kind, source = back.split()[:2]
            return kind, source
    return "unknown", "unknown"


def _policy(places: Places, bundle: Bundle | None, linux: str) -> Iterator[Point]:
    values = grubenv.read(places.env)
    good, waiting, tried = (values.get(name, "") for name in
                            (grubenv.GOOD, grubenv.TRIAL, grubenv.TRIED))
    boot = trial.booted(linux)
    if boot is None:
        yield Point("this boot", False, "not by shype's entry", "reboot" if good or waiting
                    else f"{_FIX}, and reboot")
    elif boot.trial and tried == boot.policy:
        yield Point("this boot", False, f"{boot.policy}, on trial", "shype host commit")
    else:
        yield Point("this boot", True, boot.policy)
    if tried and not (boot and boot.trial):
        yield Point("trial", False, f"{tried} was tried, and given up: the host did not become "
                    "healthy", "see Xen's log (xl dmesg) and journalctl -b -1; "
                    f"{_FIX} --bundle FILE puts a policy on trial again")
    elif waiting:
        yield Point("trial", True, f"{waiting}, at the next boot", "reboot", demanded=False)
    for name, what in ((good, "good"), (waiting, "on trial")):
        if name:
            yield _module(places, name, what)
    if not good and not waiting and not tried:
        yield Point("boot policy", False, "none", f"{_FIX} --bundle FILE")
    if bundle is not None and good and trial.policy_id(bundle) not in (good, waiting):
        yield Point("boot policy", False, f"the next boot is {good}, and the agent's bundle is "
                    f"{trial.policy_id(bundle)}", f"{_FIX} --bundle FILE, or reboot")


def _module(places: Places, name: str, what: str) -> Point:
    """The boot module is, byte for byte, what its signed bundle has."""
    from shype.policy import signed

    title = f"module {name}"
    path = places.policies / f"{name}.shype"
    bundle, contents = signed.opened(signed.read(path), path)
    data = (places.policies / f"{name}.bin").read_bytes()
    same = canonical.digest(data) == canonical.digest(contents.files["policy.bin"])
    whole = same and trial.policy_id(bundle) == name
    return Point(title, whole, f"{what}, {bundle.manifest.policy.version}" if whole else
                 f"{what}: NOT what its bundle has", "" if whole else
                 f"{_FIX} --bundle FILE: the next boot would not be this policy")

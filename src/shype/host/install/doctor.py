"""`shype doctor`: everything that a host's enforcement rests on, from the boot loader up.

Each check is a `Point`. What the agent knows already (XenStore, bridges, veto, devices, trail)
is asked of `shype.host.status` and not checked a second time. Nothing is changed.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import ShypeError
from shype.host.agent import Agent
from shype.host.install import bootcheck
from shype.host.install.installing import xen_version
from shype.host.install.places import Places
from shype.host.points import Point
from shype.host.trust import load_trusted
from shype.policy.manifest import Bundle
from shype.policy.model import Enforcement

#: Programs in dom0 -> the Debian package, for the fix.
TOOLS = {"xl": "xen-utils-4.17", "setpriv": "util-linux", "nft": "nftables"}
#: Bytes that /boot and the state must have left.
ROOM = 32 * 1024 * 1024
#: Xen's ring of messages, KiB, from which on a flood of denials is kept until it is read.
RING = 256


@dataclass(frozen=True, slots=True)
class Host:
    """What is looked at. ``command_line`` is Xen's own, ``linux`` dom0's."""

    places: Places
    bundle: Path
    keys: Path
    agent: Callable[[Bundle], Agent]
    command_line: Callable[[], str]
    linux: str


def examine(host: Host) -> tuple[Point, ...]:
    """All points. One that cannot be found out is wrong, and says why."""
    bundle: Bundle | None = None
    points = [_python(), *_tools(), _rights(host.places.state, 0o022)]
    try:
        bundle = load_trusted(host.bundle, host.keys)
        ref = bundle.manifest.policy
        points.append(Point("bundle", True, f"{ref.name} {ref.version}, signed by a trusted key"))
    except (ShypeError, OSError) as error:
        points.append(_failed("bundle", error))
    points += [*_agent(host, bundle), *_xen_line(host), _versions(host, bundle)]
    points += bootcheck.points(host.places, bundle, host.linux)
    points += [_room(host.places.boot), _room(host.places.state), *_units(host.places)]
    return tuple(points)


def xen_command_line() -> str:
    """Xen's command line, as xl tells it. Raises ShypeError."""
    out = child.run(["xl", "info"], timeout=60).out
    for line in out.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "xen_commandline":
            return value.strip()
    return ""


def _failed(name: str, error: Exception) -> Point:
    if isinstance(error, ShypeError):
        return Point(name, False, f"{error.message} [{error.id}]", error.fix)
    return Point(name, False, str(error), "look at the path and its rights")


def _python() -> Point:
    said = ".".join(map(str, sys.version_info[:3]))
    return Point("python", sys.version_info >= (3, 11), said,
                 "" if sys.version_info >= (3, 11) else "shype needs Python 3.11 or newer")


def _tools() -> Iterator[Point]:
    missing = {name: package for name, package in TOOLS.items() if shutil.which(name) is None}
    if missing:
        yield Point("programs", False, f"missing: {', '.join(sorted(missing))}",
                    f"apt-get install {' '.join(sorted(set(missing.values())))}")
    else:
        yield Point("programs", True, ", ".join(sorted(TOOLS)))


def _rights(path: Path, forbidden: int) -> Point:
    """The state belongs to root, and nobody else writes there."""
    name = f"rights of {path}"
    try:
        status = path.lstat()
    except FileNotFoundError:
        return Point(name, True, "not there yet: made when it is needed")
    except OSError as error:
        return _failed(name, error)
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or mode & forbidden:
        return Point(name, False, f"mode {mode:04o}, user {status.st_uid}",
                     f"chown root: {path}; chmod 0700 {path}")
    return Point(name, True, f"{mode:04o}, root's")


def _agent(host: Host, bundle: Bundle | None) -> Iterator[Point]:
    """Xen, FLASK, the policy in it, and what `shype status` says."""
    from shype.host.status import status

    if bundle is None:
        return
    try:
        agent = host.agent(bundle)
        how = agent.hypervisor.enforcement()
        yield Point("Xen", True, agent.hypervisor.target())
    except (ShypeError, OSError) as error:
        yield _failed("Xen", error)
        return
    fixes = {Enforcement.NONE: "boot a Xen built with CONFIG_XSM_FLASK (Debian's is not): "
             "docs/how-to/install.md", Enforcement.PERMISSIVE: "boot Xen with flask=enforcing"}
    yield Point("FLASK", how is Enforcement.ENFORCING, str(how), fixes.get(how, ""))
    try:
        now = status(agent)
    except (ShypeError, OSError) as error:
        yield _failed("status", error)
        return
    if now.problem is not None:
        yield _failed("loaded policy", now.problem)
    else:
        yield Point("loaded policy", True, f"the bundle's ({agent.manifest.digest[:16]})")
    yield from now.points
    if now.window is not None and now.window.open:
        yield Point("launch window", False, "OPEN", "shype recover")
    if now.unfinished is not None or now.journal_problem is not None:
        yield Point("journal", False, "a launch is unfinished, or its record is damaged",
                    "shype recover")


def _xen_line(host: Host) -> Iterator[Point]:
    try:
        words = host.command_line().split()
    except (ShypeError, OSError) as error:
        yield _failed("Xen's command line", error)
        return
    given = dict(word.partition("=")[::2] for word in words)
    size = _kib(given.get("conring_size", "16k"))
    yield Point("conring_size", size >= RING, f"{size} KiB", "" if size >= RING else
                "conring_size=1M on Xen's command line keeps more denials until they are on "
                "record", demanded=False)
    transitive = "no-transitive" in given.get("gnttab", "")
    yield Point("gnttab", transitive, given.get("gnttab", "not given"), "" if transitive else
                "gnttab=max-ver:1,no-transitive keeps guests from passing grants on",
                demanded=False)
    fixed = "max:" in given.get("dom0_mem", "")
    yield Point("dom0_mem", fixed, given.get("dom0_mem", "not given"), "" if fixed else
                "dom0_mem=SIZE,max:SIZE: the policy does not let dom0 balloon")


def _kib(text: str) -> int:
    units = {"k": 1, "m": 1024, "g": 1024 * 1024}
    number, unit = text[:-1], text[-1:].lower()
    if unit in units and number.isdigit():
        return int(number) * units[unit]
    return int(text) // 1024 if text.isdigit() else 0


def _versions(host: Host, bundle: Bundle | None) -> Point:
    """Xen's tools and the tables that the policy was compiled with are of one release."""
    tools = xen_version(host.places)
    if tools is None:
        return Point("xen-utils", False, "not installed", "apt-get install xen-utils-4.17")
    wanted = bundle.manifest.target.removeprefix("xen-") if bundle else tools
    return Point("xen-utils", tools == wanted, tools, "" if tools == wanted else
                 f"the policy was built for xen-{wanted}: build it with --target xen-{tools}, or "
                 f"install xen-utils-{wanted}")


def _room(path: Path) -> Point:
    name = f"space in {path}"
    place = next(p for p in (path, *path.parents) if p.is_dir())
    found = os.statvfs(place)
    left = found.f_bavail * found.f_frsize
    return Point(name, left >= ROOM, f"{left >> 20} MiB", "" if left >= ROOM else "make room")


def _units(places: Places) -> Iterator[Point]:
    """The units, where there is systemd."""
    name = "units"
    if not Path("/run/systemd/system").is_dir() or places.root != Path("/"):
        yield Point(name, False, "this system is not run by systemd", "have `shype host commit`, "
                    "`shype recover`, `shype network load` and `shype watch` run at each boot",
                    demanded=False)
        return
    bad = []
    wanted = ["shype-commit.service", "shype-recover.service", "shype-watch.service"]
    if Path("/var/lib/shype/attest/verifier.json").exists():
        wanted.append("shype-attest.service")
    for unit in wanted:
        state = child.run(["systemctl", "is-active", unit], check=False).out.strip()
        if state != "active":
            bad.append(f"{unit} is {state or 'unknown'}")
    yield Point(name, not bad, "; ".join(bad) or "active",
                "journalctl -u " + bad[0].split()[0] if bad else "")

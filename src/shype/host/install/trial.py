"""The policy on trial: put beside the good one, booted once, and kept or given up.

``/boot/shype`` holds, by policy id (the first 16 digits of the bundle's digest), the boot module
``ID.bin`` and the signed bundle ``ID.shype``, and the environment block that GRUB decides by.
The agent's own bundle changes only when the policy that it is for has been booted and found good.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import BadInput, Unavailable
from shype.base.files import write_atomic
from shype.host.install import grubenv
from shype.host.install.places import Places
from shype.host.trust import require_trusted
from shype.policy import signed
from shype.policy.envelope import Envelope, dumps
from shype.policy.manifest import Bundle

_ID = re.compile(r"[0-9a-f]{16}")
WATCHDOG = Path("/dev/watchdog")


@dataclass(frozen=True, slots=True)
class Booted:
    """What this boot was, by dom0's command line."""

    policy: str
    trial: bool


@dataclass(frozen=True, slots=True)
class Settled:
    """How a boot ended up. ``policy`` is good now; ``given_up`` was tried, and is not."""

    policy: str
    committed: bool
    given_up: str | None
    placed: bool


def policy_id(bundle: Bundle) -> str:
    """The name of a policy in /boot/shype and on the command line."""
    return bundle.manifest.digest[:16]


def read_trusted(path: Path, keys: Path) -> tuple[Envelope, Bundle, bytes]:
    """A bundle that a trusted key has signed, and its boot module. Raises BadInput."""
    envelope = signed.read(path)
    require_trusted(envelope, path, keys)
    bundle, contents = signed.opened(envelope, path)
    return envelope, bundle, contents.files["policy.bin"]


def staged(places: Places, bundle: Bundle) -> str | None:
    """``good`` or ``trial``, if the policy is that already."""
    values, name = grubenv.read(places.env), policy_id(bundle)
    if values.get(grubenv.TRIAL) == name:
        return "trial"
    return "good" if values.get(grubenv.GOOD) == name else None


def stage(places: Places, envelope: Envelope, bundle: Bundle, module: bytes) -> str:
    """Have the policy booted once, next time; its id.

    Everything is on the disk before the one block that makes GRUB use it is written.
    Raises BadInput (``boot.env``), OSError.
    """
    name = policy_id(bundle)
    places.policies.mkdir(mode=0o700, parents=True, exist_ok=True)
    places.policies.chmod(0o700)
    write_atomic(places.policies / f"{name}.bin", module, 0o600)
    write_atomic(places.policies / f"{name}.shype", dumps(envelope), 0o600)
    try:
        values = grubenv.read(places.env)
    except BadInput:
        values = {}
    if values.get(grubenv.GOOD) != name:
        grubenv.write(places.env, {**values, grubenv.TRIAL: name, grubenv.TRIED: ""})
    return name


def booted(command_line: str) -> Booted | None:
    """What dom0's command line says; None: this host was not booted by shype's entry."""
    words = command_line.split()
    for word in words:
        key, _, value = word.partition("=")
        if key == "shype.policy" and _ID.fullmatch(value):
            return Booted(value, "shype.trial" in words)
    return None


def running() -> str:
    """dom0's command line; empty if nobody tells it."""
    try:
        return Path("/proc/cmdline").read_text()
    except OSError:
        return ""


def undecided(places: Places | None = None, command_line: str | None = None) -> bool:
    """Whether this boot is a trial that has not been found good (yet)."""
    boot = booted(running() if command_line is None else command_line)
    if boot is None or not boot.trial:
        return False
    try:
        return grubenv.read((places or Places()).env).get(grubenv.GOOD) != boot.policy
    except (BadInput, OSError):
        return True


def settle(
    places: Places, boot: Booted, keys: Path, healthy: Callable[[Bundle], None],
) -> Settled:
    """Make the policy of this boot the good one, if ``healthy`` (of its bundle) does not raise.

    Raises what ``healthy`` raises, BadInput (``bundle.*``, ``key.*``, ``boot.env``,
    ``boot.other-bundle``), Unavailable (``boot.no-bundle``).
    """
    path = places.policies / f"{boot.policy}.shype"
    if not path.exists():
        raise Unavailable("boot.no-bundle", f"this host booted the policy {boot.policy}, and there "
                          f"is no {path}", "shype host install --bundle FILE, and reboot")
    envelope, bundle, _ = read_trusted(path, keys)
    if policy_id(bundle) != boot.policy:
        raise BadInput("boot.other-bundle", f"{path} is the bundle of another policy "
                       f"({policy_id(bundle)})", "shype host install --bundle FILE, and reboot")
    healthy(bundle)
    values = grubenv.read(places.env)
    tried = values.get(grubenv.TRIED) or None
    placed = _place(places, envelope)
    if boot.trial and values.get(grubenv.GOOD) != boot.policy:
        grubenv.write(places.env, {**values, grubenv.GOOD: boot.policy, grubenv.TRIED: "",
                                   grubenv.TRIAL: values.get(grubenv.TRIAL, "")})
    if boot.trial:
        disarm()
        _tidy(places)
    return Settled(boot.policy, boot.trial, None if boot.trial else tried, placed)


def _place(places: Places, envelope: Envelope) -> bool:
    """The agent acts by the bundle of what was booted."""
    data = dumps(envelope)
    with contextlib.suppress(OSError):
        if places.bundle.read_bytes() == data:
            return False
    write_atomic(places.bundle, data)
    return True


def disarm(device: Path = WATCHDOG) -> bool:
    """Stop the watchdog; False if there is none. Raises Unavailable (``boot.watchdog``)."""
    try:
        handle = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unavailable(
            "boot.watchdog", f"the watchdog cannot be stopped: {error.strerror}; it reboots this "
            "host, with this policy, which is good", "keep other programs off /dev/watchdog") \
            from error
    try:
        os.write(handle, b"V")  # the character that stops it when the file is closed
    finally:
        os.close(handle)
    return True


def _tidy(places: Places) -> None:
    """Remove policies that are neither good nor on trial."""
    values = grubenv.read(places.env)
    needed = {values.get(name) for name in (grubenv.GOOD, grubenv.TRIAL)}
    for path in places.policies.iterdir():
        if _ID.fullmatch(path.stem) and path.stem not in needed:
            with contextlib.suppress(OSError):
                path.unlink()


def reboot() -> None:
    """End this boot, at once if there is no service manager."""
    if Path("/run/systemd/system").is_dir():
        child.run(["systemctl", "reboot"], timeout=60)
        return
    import ctypes

    os.sync()
    ctypes.CDLL(None).reboot(0x01234567)  # reboot(2): RB_AUTOBOOT


def health(places: Places) -> Callable[[Bundle], None]:
    """The check of a boot on this machine: the hypervisor enforces this very policy.

    And it is no older than what was good before (``bundle.older``). No command of the agent is
    used for it: a version counts as run only once it is good.
    """
    from shype.host.admission import accepted
    from shype.host.agent import Agent
    from shype.host.drivers.xen.driver import XenHypervisor, require_xen
    from shype.host.hostcheck import require_enforcing, require_policy
    from shype.host.versions import advanced

    def check(bundle: Bundle) -> None:
        require_xen()
        advanced(accepted(places.state).read(), bundle)
        agent = Agent(bundle, XenHypervisor(), places.state)
        require_policy(agent)
        require_enforcing(agent)

    return check


def remove(places: Places) -> None:
    """Take all policies out of /boot."""
    if not places.policies.is_dir():
        return
    for path in places.policies.iterdir():
        if path == places.env or _ID.fullmatch(path.stem):
            path.unlink()
    with contextlib.suppress(OSError):
        places.policies.rmdir()



"""Start the manager, find it, and say how it stands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shype.base import child, cpio
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.drivers.config import new_uuid
from shype.host.hypervisor import Domain, Hypervisor
from shype.host.lock import unwritable
from shype.host.manager.incoming import require_size
from shype.host.manager.link import Link
from shype.host.manager.serve import CURRENT
from shype.policy.manifest import BOOT_MANAGER, Manifest
from shype.policy.names import LabelName

NAME = "shype-manager"
#: MiB: the image is unpacked in it.
MEMORY = 256
#: Seconds until it has to answer for the first time.
BOOT = 300.0
_CONSOLE = "/local/domain/{}/console/tty"


@dataclass(frozen=True, slots=True)
class Standing:
    """How the manager stands. ``boot``: dom0 may still build one, so nothing holds yet."""

    domid: int | None
    boot: bool
    answer: Mapping[str, Any] | None
    problem: str = ""


def label_of(agent: Agent) -> LabelName:
    """The manager's label. Raises BadInput (``manager.none``)."""
    found = agent.policy.host.manager
    if found is None:
        raise BadInput(
            "manager.none", f"the policy {agent.manifest.policy.name} has no manager",
            "write `manager: LABEL` under `host:`, and boot the host with that policy")
    return found


def terminal(domains: tuple[Domain, ...], manifest: Manifest, label: LabelName) -> Path:
    """The console of the one domain that carries the manager's label.

    Raises Unavailable (``manager.absent``, ``manager.silent``).
    """
    context = manifest.labels[label].context
    found = [domain for domain in domains if domain.context == context and not domain.dying]
    if len(found) != 1:
        raise Unavailable(
            "manager.absent", f"{len(found)} domains carry the manager's label {label}: no window "
            "opens without one", "shype manager start; if there was one, reboot the host first")
    try:
        done = child.run(["xenstore-read", _CONSOLE.format(found[0].domid)], timeout=30)
    except child.ChildFailed as error:
        raise Unavailable("manager.silent", "the manager's console is not in XenStore",
                          "is xenconsoled running?") from error
    return Path(done.out.strip())


def link(hypervisor: Hypervisor, manifest: Manifest, label: LabelName, state: Path) -> Link:
    """How to ask this host's manager, which has ``label``."""
    return Link(lambda: terminal(hypervisor.domains(), manifest, label), state)


def _link(agent: Agent) -> Link:
    return link(agent.hypervisor, agent.manifest, label_of(agent), agent.state)


def start(agent: Agent, kernel: Path, ramdisk: Path, *, lock_timeout: float = 30) -> int:
    """Start the manager from its image; its domain id.

    Raises BadInput (``manager.none``), Unavailable (``manager.*``), CreateFailed.
    """
    label = label_of(agent)
    with agent.lock.hold(lock_timeout):
        if not agent.hypervisor.boolean(BOOT_MANAGER):
            raise Unavailable(
                "manager.over", "this host has started its manager already, or has another policy "
                "loaded: dom0 may not build one any more", "shype manager status; else reboot")
        context = agent.manifest.labels[label].context
        before = {domain.domid for domain in agent.hypervisor.domains()}
        agent.record(Event(kind="manager.start", result=Result.PERMITTED, vm=NAME, subject=label,
                           object=f"file:{ramdisk}"))
        config, whole = agent.state / "manager.cfg", agent.state / "manager.ramdisk"
        try:
            write_atomic(whole, _with_bundle(ramdisk, agent.bundle.path), 0o600)
            write_atomic(config, _config(kernel, whole, context).encode(), 0o600)
        except OSError as error:
            raise unwritable(agent.state, error) from error
        agent.hypervisor.create_paused(config)
        made = [d for d in agent.hypervisor.domains() if d.domid not in before]
        if len(made) != 1 or made[0].context != context:
            raise Unavailable("manager.absent", f"xl has made {len(made)} domains, and none that "
                              f"carries {label}", "xl list -Z")
        agent.hypervisor.unpause(made[0].domid)
    _await(agent, made[0].domid)
    return made[0].domid


def _with_bundle(image: Path, bundle: Path) -> bytes:
    """The RAM disk: the image, and the host's bundle as it is now, in a second archive.

    Raises Unavailable (``manager.image``, ``manager.too-large``).
    """
    try:
        made, sealed = image.read_bytes(), bundle.read_bytes()
    except OSError as error:
        raise Unavailable(
            "manager.image", f"{error.filename} cannot be read: {error.strerror}",
            "make the image: shype manager image") from error
    require_size(len(sealed))
    name = str(CURRENT).lstrip("/")
    return made + cpio.archive([cpio.file(name, sealed, 0o600)])


def standing(agent: Agent) -> Standing:
    """How it stands now."""
    label = label_of(agent)
    context, boot = agent.manifest.labels[label].context, agent.hypervisor.boolean(BOOT_MANAGER)
    domid = next((d.domid for d in agent.hypervisor.domains() if d.context == context), None)
    try:
        return Standing(domid, bool(boot), _link(agent).ask(op="status"))
    except ShypeError as error:
        return Standing(domid, bool(boot), None, f"{error.message} [{error.id}]")


def _await(agent: Agent, domid: int) -> None:
    """It has taken its right, and answers."""
    deadline = time.monotonic() + BOOT
    while agent.hypervisor.boolean(BOOT_MANAGER):
        gone = not any(d.domid == domid and d.ended is None for d in agent.hypervisor.domains())
        if gone or time.monotonic() > deadline:
            raise Unavailable("manager.silent", "the manager has ended at once" if gone
                              else f"the manager has not begun in {BOOT:g} s",
                              f"look at its console: xl console {NAME}")
        time.sleep(1)
    while True:
        with contextlib.suppress(Unavailable):
            _link(agent).ask(op="status")
            return
        if time.monotonic() > deadline:
            raise Unavailable("manager.silent", "the manager runs and does not answer",
                              f"look at its console: xl console {NAME}")


def _config(kernel: Path, ramdisk: Path, context: str) -> str:
    return (
        f'name = "{NAME}"\nuuid = "{new_uuid()}"\ntype = "pv"\nkernel = "{kernel}"\n'
        f'ramdisk = "{ramdisk}"\nextra = "console=hvc0 quiet loglevel=1"\n'
        f'memory = {MEMORY}\nvcpus = 1\nseclabel = "{context}"\n'
        + "".join(f'on_{event} = "preserve"\n' for event in ("poweroff", "reboot", "crash"))
    )

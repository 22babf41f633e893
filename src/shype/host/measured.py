"""What an agent has measured, and what follows if that fails.

Where the policy has labels for attested hosts only, what concerns them does not happen
unmeasured; anything else goes on, and the audit trail says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from shype.base import canonical
from shype.base.errors import BadInput, ShypeError
from shype.host.admission import enforced
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.hypervisor import VmConfig
from shype.host.resources.device import BootFile
from shype.policy.manifest import Manifest
from shype.policy.model import Policy
from shype.policy.names import LabelName

_BLOCK = 1 << 20


def observe(agent: Agent) -> ShypeError | None:
    """Measure the agent, the loaded policy and the mode, if one of them is new.

    Why it could not be measured, or None: whoever only looks may go on.
    """
    if not agent.measurer.active:
        return None
    try:
        mode = str(agent.hypervisor.enforcement()) if enforced(agent) else "disabled"
        agent.measurer.observe(agent.manifest, mode)
    except ShypeError as error:
        return error
    return None


def load(agent: Agent, manifest: Manifest, policy: Policy, *, back: bool) -> None:
    """Before a policy is loaded in place of the agent's. Raises Unavailable (``tpm.*``, ...).

    The way ``back`` from a policy that did not stand its test is never barred: what was not
    measured is at the next command.
    """
    _try(agent, lambda: agent.measurer.load(manifest), "policy",
         demanded=_demanding(policy) and not back)


def vector(agent: Agent, name: str) -> None:
    """Before another vector is in force. Raises Unavailable (``tpm.*``, ...)."""
    _try(agent, lambda: agent.measurer.vector(name), "vector", demanded=_demanding(agent.policy))


def launch(agent: Agent, vm: VmConfig, label: LabelName) -> None:
    """Before a VM is built. Raises Unavailable if the label is for attested hosts only."""
    if agent.measurer.active:
        _try(agent, lambda: agent.measurer.launch(label, image(vm)), vm.name,
             demanded=agent.policy.labels[label].attested)


def tpm(agent: Agent, vm: VmConfig, label: LabelName, ek: str) -> None:
    """Before a VM gets its TPM. Raises Unavailable if the label is for attested hosts only."""
    if agent.measurer.active:
        _try(agent, lambda: agent.measurer.vtpm(vm.name, vm.uuid, label, ek), vm.name,
             demanded=agent.policy.labels[label].attested)


def image(vm: VmConfig) -> str:
    """The digest of what a VM boots, in hexadecimal.

    Of canonical JSON: the kernel's command line; the digest of each file that the toolstack
    itself loads (kernel, RAM disk, firmware); each disk, with its digest if it is a file that
    the VM cannot write, else its name. Raises BadInput (``vm.image``) for a file that cannot
    be read.
    """
    boot, disks = [], []
    for device in vm.devices.all:
        if isinstance(device, BootFile):
            boot.append([device.what, _digest(Path(device.path))])
    for disk in vm.devices.disks:
        path = Path(disk.target)
        fixed = not disk.write and path.is_file()
        disks.append([disk.vdev, disk.format, disk.write, _digest(path) if fixed else disk.target])
    value = {"boot": sorted(boot), "disks": sorted(disks), "cmdline": vm.cmdline}
    return canonical.digest(canonical.dumps(value))


def _demanding(policy: Policy) -> bool:
    return any(label.attested for label in policy.labels.values())


def _digest(path: Path) -> str:
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError as error:
        raise BadInput("vm.image", f"what the VM boots cannot be measured: {path}: "
                       f"{error.strerror}", "correct the path in its configuration") from error
    return found.hexdigest()


def _try(agent: Agent, act: Callable[[], None], about: str, *, demanded: bool) -> None:
    try:
        act()
    except ShypeError as error:
        if demanded:
            raise
        agent.record(Event(kind="measure", result=Result.FAILED, object=f"measure:{about}",
                           error=error.id, message=error.message, deferrable=True))

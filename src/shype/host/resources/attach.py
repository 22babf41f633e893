"""Disks, networks and CDs that come and go while a VM runs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.census import residents
from shype.host.hostcheck import require_enforcing
from shype.host.hypervisor import Backend, Domain
from shype.host.launch import catch_up
from shype.host.lock import unwritable
from shype.host.network import mediation
from shype.host.resources import leftover
from shype.host.resources.backend import DISKS, interface, require
from shype.host.resources.device import BootFile, Device, Disk
from shype.host.resources.grant import Granted, grant
from shype.host.stop import find
from shype.host.store import audit as store_audit
from shype.policy.names import LabelName


class Kind(StrEnum):
    """What is attached."""

    DISK = "disk"
    NETWORK = "network"
    CD = "cd"


#: The keyword of a configuration that has what `xl` takes for each.
_KEYWORD = {Kind.DISK: "disk", Kind.NETWORK: "vif", Kind.CD: "disk"}


@dataclass(frozen=True, slots=True)
class Attached:
    """What was decided, and the backends that then came. Refused: none came."""

    domain: Domain
    label: LabelName
    decision: Decision
    backends: tuple[Backend, ...] = ()


def attach(
    agent: Agent, vm: str, kind: Kind, spec: str, *, lock_timeout: float = 30
) -> Attached:
    """Give the running VM ``vm`` what ``spec`` says, in xl's own words, if the policy lets it.

    ``spec``: as in a configuration (``phy:/dev/vg0/a,xvdb,w``, ``bridge=br-web``); of a CD
    ``VDEV=PATH`` (``hdc=/srv/a.iso``).  Nothing that is refused, or fails, stays.

    Raises BadInput (``attach.spec``, ``vm.unknown``, ``disk.*``), `Exchanged`, Unavailable
    (``attach.failed``, ...).
    """
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        require_enforcing(agent)
        domain, label = _subject(agent, vm)
        device, words = _device(agent, kind, spec)
        granted = grant(
            agent, domain.name, label, (device,), domid=domain.domid, paths_matter=True)
        if granted.refusal is not None:
            return Attached(domain, label, granted.refusal)
        before = _backends(agent, domain, kind)
        try:
            agent.hypervisor.attach(domain.domid, kind, words)
            old = {_given(backend) for backend in before}
            new = tuple(b for b in _backends(agent, domain, kind) if _given(b) not in old)
            if not new:
                raise Unavailable("attach.failed", f"xl attached nothing to {domain.name}",
                                  "look at xl's log in /var/log/xen")
            require(new, domain.domid, granted.judged)
            for backend in new if kind is Kind.NETWORK else ():
                mediation.port_up(agent, interface(backend))
            store_audit.admit(agent)
        except BaseException as error:
            _undo(agent, domain, kind, before, granted, error)
            raise
        return Attached(domain, label, granted.judged[0].decision, new)


def detach(
    agent: Agent, vm: str, kind: Kind, device: str, *, lock_timeout: float = 30
) -> Domain:
    """Take a disk (``xvdb``), an interface (its number) or a CD (``hdc``) away from ``vm``."""
    with agent.lock.hold(lock_timeout):
        catch_up(agent)
        domain, label = _subject(agent, vm)
        agent.hypervisor.detach(domain.domid, kind, _plain(device))
        if kind is Kind.NETWORK:
            mediation.tidy(agent)
        agent.record(Event(
            kind=f"{'network' if kind is Kind.NETWORK else 'disk'}.detach", result=Result.DONE,
            vm=domain.name, domid=domain.domid, subject=label, object=f"device:{device}",
        ))
    return domain


def _subject(agent: Agent, vm: str) -> tuple[Domain, LabelName]:
    domain = find(agent, vm)
    label = next((r.label for r in residents(agent) if r.domain.domid == domain.domid), None)
    if label is None:
        raise Unavailable(
            "vm.no-label", f"{domain.name} carries {domain.context}, no label of the policy",
            "nothing is decided for it; stop it")
    return domain, label


def _device(agent: Agent, kind: Kind, spec: str) -> tuple[Device, tuple[str, ...]]:
    """The device, as xl reads ``spec`` in a configuration; and the words for xl's command."""
    spec = _plain(spec)
    words: tuple[str, ...] = (spec,)
    if kind is Kind.CD:
        vdev, equals, path = spec.partition("=")
        if not equals or not path.startswith("/") or "," in spec:
            raise BadInput("attach.spec", f"{spec!r} is not DRIVE=PATH", "hdc=/srv/cd.iso")
        words, spec = (vdev, path), f"format=raw,vdev={vdev},access=ro,devtype=cdrom,target={path}"
    text = f'name = "attach"\ntype = "pvh"\nkernel = "/"\n{_KEYWORD[kind]} = ["{spec}"]\n'
    try:
        write_atomic(agent.prepared, text.encode(), 0o600)
        read = agent.hypervisor.read_config(agent.prepared)
    except OSError as error:
        raise unwritable(agent.state, error) from error
    finally:
        agent.discard_prepared()
    asked = [one for one in read.devices.all if not isinstance(one, BootFile)]
    if len(asked) != 1:
        raise BadInput("attach.spec", f"xl reads {len(asked)} devices in {spec!r}",
                       "give one, as in a configuration: 'phy:/dev/vg0/a,xvdb,w', 'bridge=br-web'")
    return asked[0], words


def _plain(text: str) -> str:
    """``text``, which goes between quotes into a configuration and must stay between them."""
    if not text or not text.isprintable() or any(char in text for char in "\"'\\") \
            or text.startswith("-"):
        raise BadInput("attach.spec", f"{text!r} has characters that xl's configurations quote",
                       "name the file without quotes, backslashes and control characters")
    return text


def _backends(agent: Agent, domain: Domain, kind: Kind) -> tuple[Backend, ...]:
    kinds = ("vif",) if kind is Kind.NETWORK else DISKS
    return tuple(b for b in agent.hypervisor.backends()
                 if b.domid == domain.domid and b.kind in kinds)


def _given(backend: Backend) -> tuple[str, ...]:
    """Which device it is and what it was given; its state changes as the guest boots."""
    values = backend.values
    return (backend.kind, backend.number, values.get("params", ""), values.get("bridge", ""))


def _undo(
    agent: Agent, domain: Domain, kind: Kind, before: tuple[Backend, ...], granted: Granted,
    error: BaseException,
) -> None:
    """Remove whatever appeared, and tell the trail."""
    old = {(b.kind, b.number) for b in before}
    for backend in _backends(agent, domain, kind):
        if (backend.kind, backend.number) not in old:
            leftover.remove(agent.hypervisor, backend)
    if kind is Kind.NETWORK:
        mediation.tidy(agent)
    if kind is Kind.CD:  # the drive was there before: only its medium is taken out
        _eject(agent, domain, granted)
    agent.record(Event(
        kind=f"{'network' if kind is Kind.NETWORK else 'disk'}.attach", result=Result.FAILED,
        vm=domain.name, domid=domain.domid, object=granted.judged[0].object,
        error=error.id if isinstance(error, ShypeError) else "interrupted",
    ))


def _eject(agent: Agent, domain: Domain, granted: Granted) -> None:
    for one in granted.judged:
        if isinstance(one.device, Disk):
            agent.hypervisor.detach(domain.domid, Kind.CD, one.device.vdev)



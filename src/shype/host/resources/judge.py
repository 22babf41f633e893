"""May this VM have these devices? Every one is decided, and what was decided on is kept.

The rules are the security server's. Here is found what a device *is*, so that the right
question is asked; and what cannot be known is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.decision.frames import Frames
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.host.ids import HostId
from shype.host.resources import identity, paths, qcow2
from shype.host.resources.device import (
    BootFile,
    Device,
    Disk,
    Forbidden,
    Nic,
    Other,
    Part,
    Peer,
)
from shype.host.resources.identity import Identity, Thing
from shype.host.resources.labels import Labels
from shype.host.resources.registry import Registry, Used, text_of
from shype.policy.model import Resource, ResourceKind
from shype.policy.names import LabelName
from shype.policy.source import Span


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision about one device (or one file behind it).

    ``things`` are the things that a disk's backend may have; ``remember`` is what the registry
    must hold before it is used; ``object`` and ``object_label`` are for the record.
    """

    device: Device
    decision: Decision
    object: str
    object_label: str | None = None
    things: frozenset[Identity] = frozenset()
    remember: Mapping[str, Used] = field(default_factory=dict)


#: The label of the running VM or domain of that name or domid, None if there is none.
PeerLabel = Callable[[str], LabelName | None]


@dataclass(frozen=True, slots=True)
class Judge:
    """Decides for one VM. ``running`` finds the labels of backend domains.

    ``paths_matter``: nobody will look again at what a backend got, so a path that others than
    root could exchange is refused.
    """

    server: SecurityServer
    labels: Labels
    known: Mapping[str, Used]
    running: PeerLabel
    vm: str
    label: LabelName
    paths_matter: bool = False

    def judge(self, devices: Sequence[Device]) -> tuple[Judged, ...]:
        """All decisions, in the order of ``devices``.

        Raises BadInput (``disk.*``, ``resource.name``, ``resource.mixed``) for what is not
        there or not understood.
        """
        return tuple(one for device in devices for one in self._one(device))

    def _one(self, device: Device) -> Iterator[Judged]:
        match device:
            case Disk():
                yield from self._disk(device)
            case Nic():
                yield self._nic(device)
            case Part(kind, name):
                yield Judged(device, self.server.use(self.label, kind, name), f"{kind}:{name}")
            case BootFile():
                yield from self._boot_file(device)
            case Other(scheme, name):
                yield from self._other(device, scheme, name)
            case Peer(_, backend):
                yield Judged(device, self._peer(device, backend), f"vm:{backend}")
            case Forbidden(what, why):
                yield Judged(device, self._no(HostId.DEVICE_FORBIDDEN, f"{what}: {why}"), what)

    # -- disks --------------------------------------------------------------------------------

    def _disk(self, disk: Disk) -> Iterator[Judged]:
        said = f"disk:{disk.target}"
        if disk.script is not None:
            yield Judged(disk, self._script(disk.about, disk.script), said)
            return
        access = Access.READ_WRITE if disk.write and not disk.cdrom else Access.READ
        if disk.format == "raw":
            thing = _data(identity.look(disk.target))
            yield self._thing(disk, thing, access)
            if self.paths_matter or disk.by_name:
                yield from self._exchangeable(disk, disk.target)
        elif disk.format == "qcow2":
            for member in qcow2.chain(disk.target):
                thing = _data(member.thing)
                yield self._thing(disk, thing, access if member.top else Access.READ)
                # QEMU opens what the names lead to then, and nobody can look at all of it again.
                yield from self._exchangeable(disk, member.path, header=member.format != "raw")
        else:
            yield Judged(disk, self._no(
                HostId.DEVICE_FORBIDDEN,
                f"{disk.about} has the format {disk.format}: only raw and qcow2 images can be "
                "followed to all the files behind them",
            ), said)

    def held(self, thing: Thing, *, write: bool) -> Judged:
        """May the VM have what a backend of it has already?"""
        disk = Disk(thing.path, "", write=write)
        return self._thing(disk, thing, Access.READ_WRITE if write else Access.READ)

    def _exchangeable(
        self, device: Device, path: str, *, header: bool = False
    ) -> Iterator[Judged]:
        """A denial if others than root could make ``path`` lead elsewhere.

        ``header``: by what is in the file, too.
        """
        who = paths.exchangeable(path) or (paths.rewritable(path) if header else None)
        if who is not None:
            yield Judged(device, self._no(
                HostId.DISK_EXCHANGEABLE,
                f"others than root could exchange {path} between this look and its use: {who}",
            ), f"disk:{path}")

    def _thing(self, device: Device, thing: Thing, access: Access) -> Judged:
        """The decision about a file or block device that is read or written as a disk."""
        named = self.labels.named(thing)
        said = f"disk:{thing.path}"
        things = frozenset({thing.identity, identity.behind(thing.identity)})
        if named.labels > 1:
            spans = tuple(entry.span for entry in named.entries)
            patterns = " and ".join(entry.pattern for entry in named.entries)
            return Judged(device, Decision(
                False, HostId.DISK_TWO_LABELS,
                f"{self.vm} may not use {thing.path}: entries of the policy name it by several "
                f"names and give it different labels ({patterns}).", spans,
            ), said)
        own: list[Resource | None] = list(named.entries[:1])
        # A part has its whole's label unless it has one of its own; a whole has its parts inside.
        entries = own or list(self._around(thing, up=False)) or [None]
        entries += self._around(thing, up=True)
        decisions = [
            self.server.use_entry(
                self.label, ResourceKind.DISK, entry, access, shown=thing.path)
            for entry in entries
        ]
        decision = next((d for d in decisions if not d.permitted), decisions[0])
        entry = entries[0]
        label = self.server.policy.unlabeled_resources if entry is None else entry.label
        text = text_of(self.server.policy, label)
        key = identity.durable(thing)
        if decision.permitted:
            decision = self._history(thing, key, text, decision, entry)
        remember = {key: Used(text, thing.path, self.vm)} if decision.permitted else {}
        return Judged(device, decision, said, text, things, remember)

    def _around(self, thing: Thing, *, up: bool) -> Iterator[Resource]:
        """Labels of the devices that a block device is made of, or that are made of it."""
        for one in identity.selves(thing.identity):
            for neighbour in identity.closure(one, up=up):
                name = identity.node_name(neighbour) or ""
                yield from self.labels.named(Thing(neighbour, name)).entries

    def _history(
        self, thing: Thing, key: str, text: str, decision: Decision, entry: Resource | None
    ) -> Decision:
        """Refuse a disk that was last used with another label, or is being wiped."""
        used = self.known.get(key)
        span = self._spans() if entry is None else (entry.span, *self._spans())
        if used is None:
            return decision
        if used.wiping:
            return Decision(
                False, HostId.DISK_WIPING,
                f"{self.vm} may not use {thing.path}: it is being wiped, and that is not finished "
                f"(`shype disk wipe {thing.path}`).", span)
        if used.label != text:
            return Decision(
                False, HostId.DISK_RELABELLED,
                f"{self.vm} may not use {thing.path}: it was last used with the label "
                f"({used.label}), by {used.vm}, and is now labelled ({text}); what was written to "
                f"it is still there. `shype disk wipe {thing.path}` makes it anybody's.", span)
        return decision

    def _boot_file(self, file: BootFile) -> Iterator[Judged]:
        """What the toolstack reads into the VM is read by the VM.

        A kernel that no entry names is dom0's own and its choice; a device never is one.  The
        toolstack opens it later and by name, so only root may be able to exchange it.
        """
        if "/" not in file.path:
            return  # the toolstack looks for it in its own directory
        yield from self._exchangeable(file, file.path)
        try:
            thing = identity.look(file.path)
        except BadInput as error:
            if error.id != "disk.missing":
                raise
            return  # the toolstack will say so
        if thing.identity.kind != "file" or self.labels.named(thing).entries:
            yield self._thing(file, _data(thing), Access.READ)

    # -- everything else ----------------------------------------------------------------------

    def _nic(self, nic: Nic) -> Judged:
        said = f"network:{nic.bridge}"
        if nic.script is not None:
            return Judged(nic, self._script(nic.about, nic.script), said)
        decision = Frames(self.server, nic.bridge).joins(self.label)
        entry = self.labels.table.match(ResourceKind.NETWORK, nic.bridge)
        label = self.server.policy.unlabeled_resources if entry is None else entry.label
        return Judged(nic, decision, said, text_of(self.server.policy, label))

    def _other(self, other: Other, scheme: str, name: str) -> Iterator[Judged]:
        """A shared directory, a USB device, a socket: as a disk named ``SCHEME:NAME``."""
        if scheme == "p9":
            thing = identity.look(name)
            name = thing.path
            yield from self._inside(other, name)
        said = f"{scheme}:{name}"
        try:
            yield Judged(other, self.server.use(self.label, ResourceKind.DISK, said), said)
        except BadInput as error:
            if error.id != "resource.name":
                raise
            yield Judged(other, self._no(
                HostId.DEVICE_FORBIDDEN, f"{said} is nothing that a policy can name"), said)

    def _inside(self, other: Other, directory: str) -> Iterator[Judged]:
        """Labelled disks below a shared directory are shared with it."""
        below = directory.rstrip("/") + "/"
        for path, entry in self.labels.places():
            if path.startswith(below):
                yield Judged(other, self.server.use_entry(
                    self.label, ResourceKind.DISK, entry, shown=path), f"disk:{path}")

    def _peer(self, peer: Peer, backend: str) -> Decision:
        """A backend in another domain: the two must be allowed to share memory."""
        label = self.running(backend)
        if label is None:
            return self._no(
                HostId.DEVICE_BACKEND,
                f"{peer.about}: no domain of that name runs with a label of the policy")
        return self.server.decide(label, self.label, Operation.MAP_WRITE)

    def _script(self, about: str, script: str) -> Decision:
        return self._no(
            HostId.DEVICE_SCRIPT,
            f"{about} has a hotplug script of its own ({script}): nobody can tell what it attaches",
        )

    def _no(self, id: HostId, why: str) -> Decision:
        return Decision(False, id, f"{self.vm} may not start or have this: {why}.", self._spans())

    def _spans(self) -> tuple[Span, ...]:
        policy = self.server.policy
        own = policy.labels.get(self.label)
        return (policy.host.span,) if own is None else (own.span,)


def registry_of(judged: Sequence[Judged]) -> dict[str, Used]:
    """What the registry must remember of all of them."""
    return {key: used for one in judged for key, used in one.remember.items()}


def judge_for(
    server: SecurityServer, registry: Registry, running: PeerLabel, vm: str, label: LabelName,
    *, paths_matter: bool = False,
) -> Judge:
    """A judge with the labels and the record as they are now."""
    labels = Labels.of(server.policy)
    return Judge(server, labels, registry.read(), running, vm, label, paths_matter)


def _data(thing: Thing) -> Thing:
    if thing.identity.kind == "directory":
        raise BadInput("disk.kind", f"{thing.path} is a directory",
                       "a disk is a file or a block device")
    return thing

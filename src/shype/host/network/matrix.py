"""What the policy says of the frames between the ports that there are.

Ports are told apart by bridge and label: that is a *class*, numbered from 1. A pair of
classes is in the matrix iff the security server permits frames from the one to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.decision.frames import Frames
from shype.decision.security_server import SecurityServer
from shype.host.network.vif import Uplink, Vif
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True, order=True)
class PortClass:
    """The ports of one label on one bridge; or an uplink, if ``label`` is empty."""

    bridge: str
    label: LabelName
    uplink: str = ""

    @property
    def shown(self) -> str:
        """Its name for people."""
        return self.label or f"outside ({self.uplink})"


@dataclass(frozen=True, slots=True)
class Port:
    """A vif and its class. ``number`` is None, and nothing passes, for the reason ``why``."""

    vif: Vif
    label: LabelName | None
    number: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """``pairs`` of classes (sender, receiver) between which frames pass; those that may send to
    dom0's own interface, and get frames from it; ``uplinks`` with their classes (None: closed)."""

    ports: tuple[Port, ...]
    classes: Mapping[int, PortClass]
    pairs: frozenset[tuple[int, int]]
    to_dom0: frozenset[int]
    from_dom0: frozenset[int]
    uplinks: tuple[tuple[Uplink, int | None], ...] = ()


def matrix(
    server: SecurityServer, found: Iterable[tuple[Vif, LabelName | None]],
    uplinks: Iterable[Uplink] = (),
) -> Matrix:
    """The matrix of the vifs ``found``, each with the label of its domain (None: unknown).

    A port that cannot be told apart from another, or of which the assignment is not known,
    gets no class: it may neither send nor receive.  Of the ``uplinks``, those count that an entry
    of the policy labels: what is behind them is a network of its own.
    """
    vifs = sorted(found, key=lambda item: (item[0].domid, item[0].handle, item[0].name))
    fit = _Fitness(server, [vif for vif, _ in vifs])
    reasons = [fit.against(vif, label) for vif, label in vifs]
    outside = [link for link in uplinks if _labelled(server, link)]
    wanted = sorted({
        PortClass(vif.bridge, label)
        for (vif, label), why in zip(vifs, reasons, strict=True)
        if not why and vif.bridge is not None and label is not None
    } | {PortClass(up.bridge, _NOBODY, up.name) for up in outside if not up.misnamed})
    numbers = {name: number for number, name in enumerate(wanted, 1)}
    ports = tuple(
        Port(vif, label, None if why or vif.bridge is None or label is None
             else numbers[PortClass(vif.bridge, label)], why)
        for (vif, label), why in zip(vifs, reasons, strict=True)
    )
    rights = _Rights(server, numbers)
    return Matrix(
        ports, {number: name for name, number in numbers.items()}, frozenset(rights.pairs()),
        frozenset(rights.with_dom0(inward=True)), frozenset(rights.with_dom0(inward=False)),
        tuple((up, numbers.get(PortClass(up.bridge, _NOBODY, up.name))) for up in outside),
    )


_NOBODY = LabelName("")


class _Rights:
    """Asks the security server, bridge by bridge."""

    def __init__(self, server: SecurityServer, numbers: Mapping[PortClass, int]) -> None:
        self._dom0 = server.policy.host.dom0
        self._here = {
            Frames(server, bridge): [(n, c) for c, n in numbers.items() if c.bridge == bridge]
            for bridge in dict.fromkeys(name.bridge for name in numbers)
        }
        self._outside = {c.uplink: Frames(server, c.uplink) for c in numbers if c.uplink}

    def pairs(self) -> Iterator[tuple[int, int]]:
        for frames, classes in self._here.items():
            yield from ((a, b) for a, x in classes for b, y in classes if self._pass(frames, x, y))

    def _pass(self, frames: Frames, source: PortClass, sink: PortClass) -> bool:
        if source.label and sink.label:
            return frames.permits(source.label, sink.label)
        if source.label:  # out: the VM writes to the bridge and to what is behind the uplink
            beyond = self._outside[sink.uplink].sends(source.label)
            return frames.sends(source.label).permitted and beyond.permitted
        if sink.label:
            beyond = self._outside[source.uplink].receives(sink.label)
            return frames.receives(sink.label).permitted and beyond.permitted
        return False  # no frame goes from one uplink to another

    def with_dom0(self, *, inward: bool) -> Iterator[int]:
        for frames, classes in self._here.items():
            for number, name in classes:
                ends = (name.label, self._dom0) if inward else (self._dom0, name.label)
                if name.label and frames.permits(*ends):
                    yield number


def _labelled(server: SecurityServer, link: Uplink) -> bool:
    """Whether an entry of the policy names the uplink (the label of what no entry names is not
    enough: an interface of dom0 must not lead outside by default)."""
    try:
        Frames(server, link.bridge)
        return server.labelled(ResourceKind.NETWORK, link.name)
    except BadInput:
        return False


class _Fitness:
    """Which vifs can be told apart; ``vifs`` are in order of age."""

    def __init__(self, server: SecurityServer, vifs: Sequence[Vif]) -> None:
        self._server = server
        self._bridges: dict[str, str] = {}
        # The older one keeps the address: whoever comes later must not take it away.
        self._owners = {(v.bridge, v.mac): v.name for v in reversed(vifs)}

    def against(self, vif: Vif, label: LabelName | None) -> str:
        """Why ``vif`` gets no class, empty if it does."""
        if label is None:
            return f"the policy does not know the label of domain {vif.domid}"
        if vif.bridge is None:
            return "it is a port of no Linux bridge"
        if vif.mac is None:
            return "the toolstack has assigned no usable MAC and IP"
        owner = self._owners[vif.bridge, vif.mac]
        if owner != vif.name:
            return f"its MAC {vif.mac} is {owner}'s on {vif.bridge}"
        if vif.bridge not in self._bridges:
            self._bridges[vif.bridge] = self._name_fault(vif.bridge)
        return self._bridges[vif.bridge]

    def _name_fault(self, bridge: str) -> str:
        try:
            Frames(self._server, bridge)
        except BadInput as error:
            return error.message
        return ""

"""What all guests have now, by the backends' own word, and whether the policy lets them.

This finds what was attached without asking: by a toolstack whose disks QEMU serves, or by root.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.census import residents
from shype.host.resources import identity
from shype.host.resources.backend import DISKS, Holding, empty, holding
from shype.host.resources.device import Disk, Nic
from shype.host.resources.grant import peers
from shype.host.resources.identity import Identity, Thing
from shype.host.resources.judge import Judge, judge_for
from shype.host.resources.registry import Registry
from shype.policy.names import LabelName

#: libxl's words for QEMU (libxl_internal.c), and ours.
_FORMATS = {"aio": "raw"}


@dataclass(frozen=True, slots=True)
class Held:
    """A device that a guest has. ``decision`` is None if what it is cannot be found out."""

    vm: str
    label: LabelName | None
    holding: Holding
    what: str
    decision: Decision | None

    @property
    def sound(self) -> bool:
        """Known and permitted."""
        return self.decision is not None and self.decision.permitted


def inventory(agent: Agent) -> tuple[Held, ...]:
    """All disks and interfaces of guests, by domid. Changes nothing."""
    return tuple(_all(agent))


def _all(agent: Agent) -> Iterator[Held]:
    registry, of = Registry(agent.state), peers(agent)
    known = {r.domain.domid: r for r in residents(agent)}
    judges: dict[int, Judge] = {}
    for backend in agent.hypervisor.backends():
        if backend.kind not in (*DISKS, "vif") or empty(backend):
            continue
        held = holding(backend)
        resident = known.get(backend.domid)
        vm = resident.domain.name if resident else f"domain {backend.domid}"
        label = resident.label if resident else None
        if label is None:
            yield Held(vm, None, held, _what(held), None)
            continue
        if backend.domid not in judges:
            judges[backend.domid] = judge_for(agent.server, registry, of, vm, label)
        yield Held(vm, label, held, _what(held), _decision(judges[backend.domid], held))


def _decision(judge: Judge, held: Holding) -> Decision | None:
    if held.bridge is not None:
        return judge.judge([Nic(held.bridge)])[0].decision
    if held.thing is None:
        return None
    if held.backend.kind == "qdisk":  # with all the files behind it
        form, _, path = held.backend.values.get("params", "").partition(":")
        image = Disk(path, held.backend.number, _FORMATS.get(form, form), held.write)
        return _first(judge, image)
    return judge.held(Thing(held.thing, path_of(held.thing, held)), write=held.write).decision


def _first(judge: Judge, image: Disk) -> Decision | None:
    """The first denial, or the first permission; None if the image cannot be judged."""
    try:
        found = judge.judge([image])
    except BadInput:
        return None
    return next((one.decision for one in found if not one.decision.permitted), found[0].decision)


def _what(held: Holding) -> str:
    if held.backend.kind == "vif":
        return f"network {held.bridge or '(none)'}"
    return f"disk {path_of(held.thing, held)}" if held.thing else "disk (none)"


def path_of(thing: Identity, held: Holding) -> str:
    """A path for people: the one that the backend was given, if it leads there still."""
    given = held.backend.values.get("params", "")
    for path in (given, given.partition(":")[2]):
        try:
            found = identity.look(path)
        except Exception as error:
            if getattr(error, "id", "").startswith("disk."):
                continue
            raise
        if thing in (found.identity, identity.behind(found.identity)):
            return found.path
    return identity.node_name(thing) or str(thing)

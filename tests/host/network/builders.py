"""A switch in memory, on the model of a host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.network.switch import Listing, Refused
from shype.host.network.vif import Uplink, Vif
from shype.policy.names import LabelName
from tests.host import builders

#: Two coalitions, a level above, a bridge at the lower level, one that nobody may use.
TEXT = """\
shype: 1
policy: {name: nets, version: "1.0"}
coalitions: {red: {write-up: true}, blue: {}, quiet: {mechanisms: [event]}}
levels: {order: [low, high]}
labels:
  boss: {coalitions: all}
  red-vm: {coalitions: [red], level: low}
  blue-vm: {coalitions: [blue], level: low}
  both-vm: {coalitions: [red, blue], level: low}
  red-top: {coalitions: [red], level: high}
  quiet-vm: {coalitions: [quiet], level: low}
host: {dom0: boss}
resources:
  - {network: br0, coalitions: [red, blue, quiet], level: low}
  - {network: br-red, coalitions: [red], level: low}
  - {network: eth1.10, coalitions: [red], level: low}
  - {network: eth1.20, coalitions: [blue], level: low}
"""


def vif(domid: int, bridge: str | None = "br0", *, handle: int = 0, name: str | None = None,
        mac: str | None = None) -> Vif:
    """Interface ``handle`` of a domain, with a MAC of its own."""
    return Vif(name or f"vif{domid}.{handle}", domid, handle, bridge,
               mac or f"00:16:3e:00:{handle:02x}:{domid:02x}")


@dataclass
class MemorySwitch:
    """Implements `shype.host.network.switch.Switch`; ``broken`` makes loading fail."""

    present: list[Vif] = field(default_factory=list)
    outside: list[Uplink] = field(default_factory=list)
    loaded: str | None = None
    fastened: set[str] = field(default_factory=set)
    loads: int = 0
    broken: bool = False
    frames: dict[tuple[str, str, int], int] = field(default_factory=dict)

    def vifs(self) -> tuple[Vif, ...]:
        return tuple(self.present)

    def uplinks(self) -> tuple[Uplink, ...]:
        return tuple(self.outside)

    def load(self, ruleset: str) -> None:
        if self.broken:
            raise Unavailable("network.filter", "nft does not work")
        self.loaded, self.loads = ruleset, self.loads + 1
        self.frames.clear()

    def listing(self) -> Listing | None:
        return None if self.loaded is None else self.rendered(self.loaded)

    def rendered(self, ruleset: str) -> Listing:
        # An object of the name "all" whose body is the text.
        return ({"chain": {"name": "all", "text": ruleset}},)

    def refused(self) -> Refused:
        return Refused(self.loads or None, dict(self.frames))

    def fasten(self, vif: Vif) -> None:
        self.fastened.add(vif.name)

    def loose(self, vifs: Sequence[Vif]) -> Mapping[str, str]:
        return {v.name: "learning" for v in vifs if v.name not in self.fastened}


def host(directory: Path) -> tuple[Agent, MemorySwitch]:
    """A host of `TEXT` with a switch."""
    agent, switch = builders.host(directory, TEXT), MemorySwitch()
    builders.model(agent).bridges = switch
    return agent, switch


def start(agent: Agent, label: str, name: str) -> int:
    """A domain with ``label``, past the agent; its domid."""
    manifest, on = agent.manifest, builders.model(agent)
    on.set_booleans(manifest.window_values(LabelName(label)))
    domid = on.create(name, manifest.labels[LabelName(label)].context)
    on.set_booleans(manifest.window_values(None))
    return domid

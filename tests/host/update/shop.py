"""Two policies of one shop, and a modelled host that runs the first with three VMs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from shype.host.agent import Agent
from shype.host.census import residents, window
from shype.host.drivers.model import ModelHypervisor
from shype.host.launch import launch
from shype.host.update import staged
from shype.host.update.journal import UpdateJournal
from shype.host.update.update import Step, Update
from shype.policy.manifest import Bundle
from tests.host.builders import bundle, config, host, model
from tests.signing import AUTHOR, keys, sealed

OLD = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [back, pay]
walls: {rivals: [red, blue]}
labels:
  host: {coalitions: all}
  web:  {coalitions: [back], wall: [red]}
  db:   {coalitions: [back]}
  till: {coalitions: [pay]}
host: {dom0: host, updates: live}
vms: {web-1: web, db-1: db, till-1: till}
"""
#: web may not reach db any more, db is called store, and the wall has another name for red.
NEW = """\
shype: 1
policy: {name: shop, version: "1.1", from: "1.0"}
coalitions: [back, pay]
walls: {rivals: [crimson, blue]}
labels:
  host:  {coalitions: all}
  web:   {coalitions: [pay], wall: [crimson]}
  store: {coalitions: [back], was: db}
  till:  {coalitions: [pay]}
host: {dom0: host, updates: live, revocation: pause}
vms: {web-1: web, db-1: store, till-1: till}
"""
VMS = ("web-1", "db-1", "till-1")


class Shop:
    """A host below ``place`` with OLD loaded, its VMs running, and NEW beside it, signed."""

    def __init__(self, place: Path, new: str = NEW, old: str = OLD) -> None:
        self.place = place
        self.agent = host(place, old)
        self.file, self.new = place / "policy.shype", place / "new.shype"
        self.file.write_bytes(sealed(place / "bundle", AUTHOR))
        keys(place / "keys")
        for vm in VMS:
            assert launch(self.agent, config(place, vm)).domid is not None
        self.offer(new)

    def offer(self, new: str, binary: bytes = b"bin") -> None:
        """Build and sign another policy as NEW."""
        away = self.place / "next"
        away.mkdir(exist_ok=True)
        bundle(away, new)
        if binary != b"bin":
            self._exchange(away / "bundle", binary)
        self.new.write_bytes(sealed(away / "bundle", AUTHOR))

    def _exchange(self, unpacked: Path, binary: bytes) -> None:
        import json

        from shype.base import canonical

        (unpacked / "policy.bin").write_bytes(binary)
        manifest = json.loads((unpacked / "manifest.json").read_bytes())
        manifest["files"]["policy.bin"] = canonical.digest(binary)
        (unpacked / "manifest.json").write_bytes(canonical.dumps(manifest))

    def driver(self, of: Bundle) -> ModelHypervisor:
        """The model's driver."""
        return ModelHypervisor(of, self.place / "model.json")

    def update(self, observer: Callable[[Step], None] = lambda step: None) -> Update:
        """As `shype apply` makes one."""
        trusted = self.place / "keys"
        return Update(
            staged.read(self.file, trusted), staged.read(self.new, trusted), self.file,
            self.agent.state, self.driver, observer)

    def apply(self, observer: Callable[[Step], None] = lambda step: None) -> Update:
        """Apply NEW; the update that did it."""
        made = self.update(observer)
        with made.before.lock.hold(5):
            made.apply()
        return made

    def domid(self, vm: str) -> int:
        """Of a VM."""
        return next(d.domid for d in self.agent.hypervisor.domains() if d.name == vm)

    def share(self, by: str, of: str) -> None:
        """``by`` maps a page of ``of``."""
        model(self.agent).share(self.domid(by), self.domid(of))

    def states(self) -> Mapping[str, bool]:
        """VM -> paused."""
        return {d.name: d.paused for d in self.agent.hypervisor.domains() if d.domid}

    def current(self) -> Agent:
        """The agent by the host's bundle as it is now."""
        found = staged.read(self.file, self.place / "keys").bundle
        return Agent(found, self.driver(found), self.agent.state)

    def assert_whole(self) -> str:
        """The host has one policy wholly, and nothing is unfinished; its version."""
        agent = self.current()
        names = agent.manifest.booleans
        assert agent.hypervisor.boolean(names.digest) is not None, "the loaded one is the host's"
        assert agent.hypervisor.boolean("load_open") is False
        assert not window(agent).open
        held = {
            member for r in residents(agent) if r.label and r.label in agent.policy.labels
            for member in agent.policy.labels[r.label].members
        }
        for member, boolean in names.running.items():
            assert agent.hypervisor.boolean(boolean) is (member in held), boolean
        assert all(r.label is not None for r in residents(agent))
        journal = UpdateJournal(agent.state)
        assert not [file for file in (journal.path, journal.old, journal.new) if file.exists()]
        return agent.policy.version

"""Any sequence of launches, ends, stops, kills and root's own xl, against a small reference."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shype.host import ended, guardian
from shype.host.agent import Agent
from shype.host.census import held, residents, window
from shype.host.drivers.model import ModelHypervisor
from shype.host.hypervisor import CreateFailed, Ending
from shype.host.launch import Step, catch_up, launch
from shype.host.recovery import recover
from shype.host.restoring import restore
from shype.host.saving import save
from shype.host.stop import stop
from tests.host.builders import bundle, config, context

#: The reference: label -> the side of the wall it is on.
SIDES = {
    "bank-a-db": "a", "bank-a-desk": "a", "bank-b-db": "b", "bank-b-desk": "b", "market-data": "",
}
LABELS = st.sampled_from(sorted(SIDES))


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the agent runs after it (see `Host.killed_launch`)."""


class Host(RuleBasedStateMachine):
    """One host. ``running`` is what the reference says: domid -> label."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        made = bundle(self.directory)
        self.model = ModelHypervisor(made)
        self.agent = Agent(made, self.model, self.directory / "state")
        self.running: dict[int, str] = {}
        self.zombies: set[int] = set()
        self.count = 0
        self.settled = True

    def teardown(self) -> None:
        shutil.rmtree(self.directory)

    def fresh(self) -> str:
        self.count += 1
        return f"vm{self.count}"

    def free(self, label: str) -> bool:
        others = {SIDES[runner] for runner in self.running.values()} - {""}
        return not SIDES[label] or others <= {SIDES[label]}

    @rule(label=LABELS)
    def run(self, label: str) -> None:
        cfg = config(self.directory, self.fresh(), f'seclabel = "{label}"')
        outcome = launch(self.agent, cfg)
        assert (outcome.domid is not None) == self.free(label)
        if outcome.domid is not None:
            self.running[outcome.domid] = label
        else:
            sides = {SIDES[label]}
            expected = {d for d, x in self.running.items() if SIDES[x] and SIDES[x] not in sides}
            assert {h.domid for h in outcome.decision.holders} == expected
        self.settled = True

    @rule(label=LABELS, step=st.sampled_from(list(Step)))
    def killed_launch(self, label: str, step: Step) -> None:
        """The agent and its guardian die at ``step``: no code of theirs cleans up."""
        cfg = config(self.directory, self.fresh(), f'seclabel = "{label}"')
        before = {d.domid for d in self.model.domains()}

        def kill(now: Step) -> None:
            if now is step:
                self.frozen()
                raise Killed

        refused = False
        try:
            refused = launch(self.agent, cfg, observer=kill).domid is None
        except Killed:
            self.thaw()
        assert not refused or not self.free(label)
        if step is Step.DONE and self.free(label):
            new = [d.domid for d in self.model.domains() if d.domid not in before]
            self.running[new[0]] = label
        self.settled = False

    def frozen(self) -> None:
        """From here on, what the dying agent's cleanup does must have no effect."""
        self.snapshot = (
            dict(self.model._memory.booleans), list(self.model._memory.domains),
            self.agent.journal.path.read_bytes() if self.agent.journal.path.exists() else None,
        )

    def thaw(self) -> None:
        booleans, domains, journal = self.snapshot
        self.model._memory.booleans = booleans
        self.model._memory.domains = domains
        if journal is None:
            self.agent.journal.path.unlink(missing_ok=True)
        else:
            self.agent.journal.path.write_bytes(journal)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        domid = data.draw(st.sampled_from(sorted(self.running)))
        if domid in self.zombies:
            self.model.exit(domid)  # the backend lets go of it at last
            self.zombies.remove(domid)
        else:
            stop(self.agent, str(domid), force=True, timeout=0)
            self.settled = True
        del self.running[domid]

    @precondition(lambda self: set(self.running) - self.zombies)
    @rule(data=st.data(), zombie=st.booleans())
    def guest_ends(self, data: st.DataObject, zombie: bool) -> None:
        domid = data.draw(st.sampled_from(sorted(set(self.running) - self.zombies)))
        self.model.exit(domid, zombie=zombie)
        if zombie:
            self.zombies.add(domid)
        else:
            del self.running[domid]

    @precondition(lambda self: set(self.running) - self.zombies)
    @rule(data=st.data())
    def guest_reboots(self, data: st.DataObject) -> None:
        domid = data.draw(st.sampled_from(sorted(set(self.running) - self.zombies)))
        uuid = self.uuid(domid)
        self.model.end(domid, Ending.REBOOT)
        assert self.uuid(domid) == uuid  # it is still there, and so is its place
        self.the_hypervisor_knows_every_holder()
        with self.agent.lock.hold(1):
            catch_up(self.agent)
        new, = (d.domid for d in self.model.domains() if d.uuid == uuid)
        assert new != domid
        self.running[new] = self.running.pop(domid)
        self.settled = True

    @precondition(lambda self: set(self.running) - self.zombies)
    @rule(data=st.data())
    def root_renames(self, data: st.DataObject) -> None:
        domid = data.draw(st.sampled_from(sorted(set(self.running) - self.zombies)))
        self.model.rename(domid, self.fresh())

    @precondition(lambda self: set(self.running) - self.zombies)
    @rule(data=st.data(), other=st.one_of(st.none(), LABELS))
    def saved_and_restored(self, data: st.DataObject, other: str | None) -> None:
        """Perhaps with another VM's launch in between, which may take its place."""
        domid = data.draw(st.sampled_from(sorted(set(self.running) - self.zombies)))
        label, file = self.running[domid], self.directory / f"{self.fresh()}.img"
        save(self.agent, str(domid), file)
        del self.running[domid]
        if other is not None:
            self.run(other)
        outcome = restore(self.agent, file)
        assert (outcome.domid is not None) == self.free(label)
        if outcome.domid is not None:
            self.running[outcome.domid] = label
        self.settled = True

    def uuid(self, domid: int) -> str:
        return next(d.uuid for d in self.model.domains() if d.domid == domid)

    @rule(label=st.one_of(st.none(), LABELS))
    def root_creates(self, label: str | None) -> None:
        """Behind the agent's back. Only a killed agent's window may be open, for its own label."""
        now = window(self.agent)
        usable = now.open and label is not None and now.label == label and self.free(label)
        seclabel = context(f"l_{label.replace('-', '_')}_t") if label else None
        before = len(self.model.domains())
        try:
            self.model.create(self.fresh(), seclabel)
        except CreateFailed:
            assert len(self.model.domains()) == before
        else:
            assert usable
            self.settled = False

    @rule()
    def recover(self) -> None:
        with self.agent.lock.hold(1):
            recover(self.agent)
        self.settled = True

    @invariant()
    def the_wall_holds(self) -> None:
        sides = {SIDES[r.label] for r in residents(self.agent) if r.label in SIDES} - {""}
        assert len(sides) <= 1

    @invariant()
    def the_hypervisor_knows_every_holder(self) -> None:
        for member in held(self.agent, residents(self.agent)):
            assert self.model.boolean(self.agent.manifest.booleans.running[member])

    @invariant()
    def after_a_command_nothing_is_left_over(self) -> None:
        if self.settled:
            assert not window(self.agent).open
            assert not self.agent.journal.path.exists()
            guests = {r.domain.domid: r.label for r in residents(self.agent) if r.domain.domid}
            assert guests == self.running


# The guardian is another process, and this model lives in memory: it would act on a copy.
# tests/host/test_kill.py has the real one.
class Unguarded(Host):
    """The machine with the guardian switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.post, guardian.post = guardian.post, lambda agent, *then: None
        # How often a guest reboots is a matter of time, and of tests/host/test_ended.py.
        self.most, ended.MOST = ended.MOST, 10**9

    def teardown(self) -> None:
        guardian.post, ended.MOST = self.post, self.most
        super().teardown()


TestHost = Unguarded.TestCase
TestHost.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

"""The steps of an update, forwards and backwards, so that it is safe to die at every one.

The hypervisor knows which policy it has (its digest boolean); the journal knows where the update
was going and whom it paused.  From the two, `resume` goes on: forward, or back.
docs/adr/0024-live-updates.md has the order of the steps and why it is this one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.host import guardian, measured
from shype.host.admission import accepted, admit, enforced
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.hostcheck import require_enforcing
from shype.host.hypervisor import Hypervisor
from shype.host.journal import boot_id
from shype.host.launch import catch_up
from shype.host.loads import record_load
from shype.host.lock import unwritable
from shype.host.manager.incoming import require_size
from shype.host.manager.succession import renamed, require_continues
from shype.host.measurer import NOBODY, Measurer
from shype.host.network import mediation
from shype.host.store import audit as store_audit
from shype.host.update import health, revoking
from shype.host.update.flows import Look, expected, look, settled
from shype.host.update.journal import Phase, Unfinished, UpdateJournal, here
from shype.host.update.sequel import sequels
from shype.host.update.staged import Staged
from shype.host.versions import advanced
from shype.policy.manifest import Bundle
from shype.policy.model import Revocation, Updates
from shype.policy.names import LabelName


class Step(StrEnum):
    """What has just been completed."""

    PLANNED = "planned"
    RECORDED = "recorded"
    PAUSED = "paused"
    OPENED = "opened"
    LOADED = "loaded"
    SETTLED = "settled"
    FOLLOWED = "followed"
    TESTED = "tested"
    COMMITTING = "committing"
    CONFIRMED = "confirmed"
    COMMITTED = "committed"
    REVOKED = "revoked"
    DONE = "done"
    RETURNED = "returned"


Observer = Callable[[Step], None]
#: Makes the driver of a hypervisor that has the policy of a bundle.
Driver = Callable[[Bundle], Hypervisor]


class RolledBack(ShypeError):
    """The new policy did not stand its test; the old one is in force as before."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How it ended. ``refused`` says why nothing was done; ``left`` is what still flows."""

    look: Look
    refused: str | None = None
    paused: tuple[str, ...] = ()
    destroyed: tuple[str, ...] = ()
    detached: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


class Update:
    """One update of a host from ``old`` to ``new``, with the launch lock held throughout."""

    def __init__(
        self, old: Staged, new: Staged, bundle: Path, state: Path, driver: Driver,
        observer: Observer = lambda step: None, *, boot: Path | None = None,
        measurer: Measurer = NOBODY,
    ) -> None:
        self._old, self._new = old, new
        self.before, self.after = (
            Agent(replace(one.bundle, path=bundle), driver(one.bundle), state, measurer=measurer)
            for one in (old, new)
        )
        self.journal = UpdateJournal(state)
        self._observer = observer
        self._boot = boot.absolute() if boot else None
        #: By domain id, what each VM is to carry afterwards, once it has been planned.
        self._expected: Mapping[int, LabelName] = {}

    # -- what would happen ---------------------------------------------------------------------

    def plan(self) -> Look:
        """What it would do now; nothing changes, but that the host is brought up to date.

        Raises BadInput (``apply.not-live``, ``bundle.*``), Unavailable.
        """
        old, new = self.before, self.after
        for agent in (old, new):
            policy = agent.policy
            if policy.host.updates is not Updates.LIVE:
                raise BadInput(
                    "apply.not-live",
                    f"{policy.name} {policy.version} is not updated on a running host",
                    "boot the host with the new policy; to change that from then on, write "
                    "`updates: live` under `host:`",
                )
        if old.manifest.digest == new.manifest.digest:
            raise BadInput("apply.same", "the host has this very policy already",
                           "nothing has to be done")
        if new.manifest.target != old.hypervisor.target():
            raise BadInput(
                "bundle.wrong-target",
                f"the new bundle was built for {new.manifest.target}, and this hypervisor is "
                f"{old.hypervisor.target()}",
                f"build it again with --target {old.hypervisor.target()}")
        if old.policy.host.manager is not None or new.policy.host.manager is not None:
            require_continues(old.bundle, new.bundle)
            require_size(len(self._new.sealed))
        advanced(accepted(old.state).read(), self._new.bundle)
        catch_up(old)
        require_enforcing(old)
        self._expected = expected(old, new)
        found = replace(look(old, new, loaded=old),
                        sequels=sequels(old, new, dict(self._expected)))
        self._observer(Step.PLANNED)
        return found

    def refusal(self, found: Look) -> str | None:
        """Why the update may not be applied now; None if it may."""
        chosen = self.after.policy.host.revocation
        if not found.possible:
            return "the new policy cannot be loaded while these VMs run"
        if chosen is Revocation.REFUSE and found.plan.verdict != "clean":
            return "the new policy forbids what VMs hold, and says `revocation: refuse`"
        if chosen is Revocation.DETACH and found.mappers:
            return ("VMs that the new policy keeps apart have mapped each other's memory, which "
                    "only they can undo, and it says `revocation: detach`")
        return None

    # -- doing it ------------------------------------------------------------------------------

    def apply(self, *, confirmed: Look | None = None) -> Applied:
        """Do it, or refuse. ``confirmed``: what somebody has agreed to; more is not done.

        Raises `RolledBack`, BadInput (``apply.changed``, ...), Unavailable.
        """
        found = self.plan()
        refused = self.refusal(found)
        if refused is not None:
            self._record(Result.REFUSED, refused)
            return Applied(found, refused)
        if confirmed is not None and not found.holders.keys() <= confirmed.holders.keys():
            raise BadInput("apply.changed", "what the update would do has changed since it was "
                           "shown", "look at the plan again")
        guardian.post(self.before, self._rescue(os.getpid()))
        record = here(self._old, self._new, self.before.bundle.path, self._boot)
        self._record(Result.PERMITTED)
        record = self.journal.begin(record, self._old, self._new)
        try:
            self._observer(Step.RECORDED)
            if self._pauses:
                record = revoking.pause(self.before, self.journal, record, found.holders)
            self._observer(Step.PAUSED)
            self._load(self.before, self._new)
        except Exception as error:
            self._back(record, error)
            raise
        return self._forward(record, found)

    def resume(self) -> None:
        """Go on from where a killed update stopped: forward, or back. Raises `RolledBack`, ..."""
        record = self.journal.read()
        if record is None:
            return
        if record.boot != boot_id():
            record = replace(record, paused={})  # domains of another boot
        if enforced(self.after):
            if record.phase is Phase.BACK:
                self._back(record, None)
            elif record.phase is Phase.COMMIT:
                self._commit(record, None)
            else:
                self._forward(record, None)
        elif record.phase is Phase.COMMIT and record.boot != boot_id():
            self.journal.finish()  # the host was booted with another policy: that is told
        elif enforced(self.before):  # not loaded yet, or taken back by the manager
            self._back(record, None)
        else:
            raise Unavailable(
                "apply.stray", f"an update from {record.old} to {record.new} is unfinished, and "
                "the hypervisor has neither policy",
                f"boot the host with one of them; then remove {self.journal.path}")

    def _rescue(self, pid: int) -> Callable[[], None]:
        def rescue() -> None:
            self._observer = lambda step: None
            record = self.journal.read()
            if record is not None and record.pid == pid:  # this very one
                self.resume()
        return rescue

    @property
    def _pauses(self) -> bool:
        return self.after.policy.host.revocation in (Revocation.PAUSE, Revocation.DESTROY)

    def _load(
        self, loaded: Agent, what: Staged, also: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Load ``what`` in place of the policy of ``loaded``; ``also`` as the hypervisor's."""
        measured.load(loaded, what.bundle.manifest, what.bundle.policy, back=what is self._old)
        closed = settled(loaded)
        loaded.hypervisor.set_booleans(
            closed | dict.fromkeys(loaded.manifest.booleans.flags, True))
        self._observer(Step.OPENED)
        try:
            loaded.hypervisor.load(what, also)
        except Exception:
            loaded.hypervisor.set_booleans(closed)
            raise
        self._observer(Step.LOADED)

    def _forward(self, record: Unfinished, found: Look | None) -> Applied:
        """From the load to the end; back again if the new policy does not stand its test."""
        new = self.after
        try:
            new.hypervisor.set_booleans(settled(new))
            self._observer(Step.SETTLED)
            # Pages that were mapped since the plan was made: no more can come.
            now = look(self.before, new, loaded=new)
            if not self._pauses and now.mappers:
                raise Unavailable("apply.changed", "VMs have mapped each other's memory meanwhile")
            if self._pauses:
                record = revoking.pause(new, self.journal, record, now.holders)
            self._follow(new)
            self._observer(Step.FOLLOWED)
            wrong = health.problems(new, self._new.binary, self._expected)
            if wrong:
                raise Unavailable("apply.unhealthy", "; ".join(wrong))
            self._observer(Step.TESTED)
            record = self.journal.write(replace(record, phase=Phase.COMMIT))
            self._observer(Step.COMMITTING)
        except Exception as error:
            self._back(record, error)
            raise RolledBack(
                "apply.rolled-back",
                f"{record.new} did not stand its test, and {record.old} is in force again: {error}",
                "find out why (shype lab up NEW; shype verify --lab); VMs run on as before",
            ) from error
        return self._commit(record, found or now)

    def _commit(self, record: Unfinished, found: Look | None) -> Applied:
        new = self.after
        new.hypervisor.confirm()
        self._observer(Step.CONFIRMED)
        try:
            write_atomic(Path(record.bundle), self._new.sealed)
            if record.module:
                write_atomic(Path(record.module), self._new.binary)
        except OSError as error:
            raise unwritable(Path(record.bundle).parent, error) from error
        self._observer(Step.COMMITTED)
        admit(new)
        record_load(new)
        self._rename()
        now = look(self.before, new, loaded=new)
        done = revoking.revoke(new, record, now)
        self._observer(Step.REVOKED)
        self._follow(new)
        done = replace(done, left=(*done.left, *revoking.flowing(
            new, look(self.before, new, loaded=new))))
        self._record(Result.DONE, details={
            "paused": list(done.paused), "destroyed": list(done.destroyed),
            "detached": list(done.detached), "left": list(done.left)})
        self.journal.finish()
        self._observer(Step.DONE)
        return Applied(found or now, None, done.paused, done.destroyed, done.detached, done.left)

    def _back(self, record: Unfinished, error: Exception | None) -> None:
        """To the old policy, wholly, whichever is loaded now."""
        old, new = self.before, self.after
        with contextlib.suppress(Unavailable):  # a full disk: back all the same
            record = self.journal.write(replace(record, phase=Phase.BACK))
        if not enforced(old):
            self._load(new, self._old, renamed(old.bundle, new.bundle))
        old.hypervisor.set_booleans(settled(old))
        self._follow(old)
        revoking.release(old, record)
        self._observer(Step.RETURNED)
        self._record(
            Result.FAILED,
            str(error) if error else "the command was killed; the old policy is in force",
            error=getattr(error, "id", "apply.killed"))
        self.journal.finish()

    def _rename(self) -> None:
        """VMs go on under their labels' new names when they are started again."""
        renamed = {lb.was: lb.name for lb in self.after.policy.guests if lb.was is not None}
        for kept in self.after.kept.all():
            if kept.label in renamed:
                self.after.kept.change(kept, label=renamed[kept.label])

    def _follow(self, agent: Agent) -> None:
        """XenStore and the bridges say what the policy says."""
        if mediation.concerned(agent):
            mediation.settle(agent)
        store_audit.admit(agent)

    def _record(
        self, result: Result, message: str = "", *, error: str | None = None,
        details: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        old, new = self.before.manifest, self.after.manifest
        self.before.record(Event(
            kind="policy.apply", result=result, object=f"policy:{new.policy.name}",
            message=message, error=error, deferrable=result is not Result.PERMITTED,
            details={"before": f"{old.policy.name} {old.policy.version}", "digest": new.digest,
                     "version": new.policy.version, **details}))


def unfinished(
    state: Path, keys: Path, driver: Driver, measurer: Measurer = NOBODY
) -> Update | None:
    """The update that a killed command has left in ``state``, or None. Hold the launch lock."""
    journal = UpdateJournal(state)
    record = journal.read()
    if record is None:
        return None
    old, new = journal.bundles(keys)
    return Update(old, new, Path(record.bundle), state, driver, measurer=measurer)

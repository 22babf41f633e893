"""What the audit trail is told about a launch: asked, decided, window open and closed, ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shype.base.errors import ShypeError
from shype.decision.decision import Decision
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.hypervisor import VmConfig
from shype.policy.names import LabelName


@dataclass
class LaunchEvents:
    """Records one launch, from ``source``; ``vm`` and ``label`` once known.

    ``kind``: ``launch``, ``restart`` after an ending, ``restore`` or ``receive``.

    What permits or opens raises Unavailable (``audit.unwritable``, ``audit.broken``) if it
    cannot be recorded; what refuses, closes or ends never does.
    """

    agent: Agent
    source: str
    kind: str = "launch"
    vm: VmConfig | None = None
    label: LabelName | None = None

    def permitted(self, decision: Decision) -> None:
        """Before anything is done for it."""
        self._record(Result.PERMITTED, decision=decision)

    def refused(self, decision: Decision, source: str) -> None:
        """By the policy, as the agent or the hypervisor ``source`` has it."""
        self._record(Result.REFUSED, decision=decision, details={"by": source}, deferrable=True)

    def done(self, domid: int) -> None:
        """It runs."""
        self._record(Result.DONE, domid=domid, deferrable=True)
        self.agent.witness.came()

    def failed(self, error: BaseException) -> None:
        """It does not run, and no policy says so."""
        self._record(
            Result.FAILED, error=error.id if isinstance(error, ShypeError) else "interrupted",
            message=error.message if isinstance(error, ShypeError) else type(error).__name__,
            deferrable=True)

    def opening(self, booleans: Mapping[str, bool]) -> None:
        """Before the launch window opens."""
        self._window("window.open", booleans, deferrable=False)

    def closed(self, booleans: Mapping[str, bool]) -> None:
        """After it was closed."""
        self._window("window.close", booleans, deferrable=True)

    def _window(self, kind: str, booleans: Mapping[str, bool], *, deferrable: bool) -> None:
        on = sorted(name for name, value in booleans.items() if value)
        self.agent.record(Event(
            kind=kind, result=Result.DONE, vm=self.vm.name if self.vm else None,
            subject=self.label, details={"on": on}, deferrable=deferrable))

    def _record(
        self, result: Result, *, decision: Decision | None = None, domid: int | None = None,
        error: str | None = None, message: str = "", details: Mapping[str, object] | None = None,
        deferrable: bool = False,
    ) -> None:
        self.agent.record(Event(
            kind=self.kind, result=result, vm=self.vm.name if self.vm else None, domid=domid,
            subject=self.label, object=self.source, decision=decision, error=error,
            message=message, deferrable=deferrable,
            details={**({"uuid": self.vm.uuid} if self.vm else {}), **(details or {})}))

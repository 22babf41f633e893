"""What every operation of the agent needs: the compiled policy, the hypervisor, the state."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from shype.host import witness
from shype.host.audit.event import Event
from shype.host.hypervisor import Hypervisor
from shype.host.journal import Journal
from shype.host.kept import KeptVms
from shype.host.lock import LaunchLock
from shype.host.measurer import NOBODY, Measurer
from shype.host.witness import Witness
from shype.policy.manifest import Bundle, Manifest
from shype.policy.model import Policy

if TYPE_CHECKING:
    from shype.decision.security_server import SecurityServer
    from shype.host.attestation.peers import Attester
    from shype.host.audit.trail import Trail


@dataclass(frozen=True)
class Agent:
    """One host's agent. ``state`` is a local directory that only root may write; ``attester`` is
    the host's TPM, None if it is not set up for attestation; ``measurer`` measures what it does;
    ``witness`` looks when domains come and go.

    (No slots: the security server is built once, on first use.)
    """

    bundle: Bundle
    hypervisor: Hypervisor
    state: Path
    attester: Attester | None = None
    measurer: Measurer = NOBODY
    witness: Witness = witness.NOBODY

    @cached_property
    def server(self) -> SecurityServer:
        """The security server of the bundle's policy."""
        from shype.decision.security_server import SecurityServer  # `shype status` asks it nothing

        return SecurityServer(self.policy, today=date.today())

    @property
    def policy(self) -> Policy:
        """The policy of the bundle."""
        return self.bundle.policy

    @property
    def manifest(self) -> Manifest:
        """How the hypervisor knows the policy."""
        return self.bundle.manifest

    @property
    def lock(self) -> LaunchLock:
        """The lock that every change of state holds."""
        return LaunchLock(self.state)

    @property
    def journal(self) -> Journal:
        """The durable record of an unfinished launch."""
        return Journal(self.state)

    @property
    def kept(self) -> KeptVms:
        """What is kept of the VMs, to start them again."""
        return KeptVms(self.state)

    def record(self, event: Event) -> None:
        """Keep ``event`` in the audit trail.

        Raises Unavailable (``audit.unwritable``, ``audit.broken``) unless the event is
        deferrable: record what is about to be permitted first.
        """
        self.trail.record(event)

    @cached_property
    def trail(self) -> Trail:
        """The audit trail."""
        from shype.host.audit.trail import Trail  # most questions record nothing

        return Trail(self.state / "audit")

    @property
    def prepared(self) -> Path:
        """Where the configuration of the launch in progress is kept."""
        return self.state / "launch.cfg"

    def discard_prepared(self) -> None:
        """Remove that file, and what a killed writer of it may have left."""
        with contextlib.suppress(OSError):  # inert, and replaced by the next launch
            for left in (self.prepared, *self.state.glob(f".{self.prepared.name}.*")):
                left.unlink(missing_ok=True)

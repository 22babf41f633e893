"""What the agent needs of a hypervisor: the one interface that drivers implement.

Drivers: `shype.host.drivers.xen` (xl and the FLASK hypercall in dom0) and
`shype.host.drivers.model` (in-process, for tests and what-if).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shype.base.errors import ShypeError
from shype.host.store.store import Store
from shype.policy.model import Enforcement


class CreateFailed(ShypeError):
    """The toolstack could not build the VM; the message holds what it printed."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__("create.failed", message, fix)


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that the hypervisor knows of, dom0 included.

    ``context`` is its FLASK security context (``u:r:l_web_t:s0``). ``dying``
    domains still hold memory and channels: for the wall they still run.
    """

    domid: int
    name: str
    context: str
    paused: bool
    dying: bool


@dataclass(frozen=True, slots=True)
class VmConfig:
    """What the agent reads from a VM's configuration, as the toolstack itself parsed it."""

    name: str
    uuid: str
    seclabel: str | None
    init_seclabel: str | None
    device_model_seclabel: str | None = None


class Hypervisor(Protocol):
    """Reads and sets the state that only the hypervisor has.

    Every method raises `shype.base.errors.Unavailable` when it cannot answer:
    the agent then refuses, it never guesses.
    """

    def target(self) -> str:
        """Its release, as bundles name it: ``xen-4.17``."""

    def enforcement(self) -> Enforcement:
        """``enforcing`` or ``permissive``; ``none`` on a Xen without FLASK."""

    def boolean(self, name: str) -> bool | None:
        """The value of a FLASK boolean, or None if the loaded policy has no such boolean."""

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """Set all ``values`` in one commit: no state in between is ever enforced."""

    def domains(self) -> tuple[Domain, ...]:
        """All domains, dying ones and dom0 included, by domid."""

    def read_config(self, path: Path) -> VmConfig:
        """Parse a VM configuration. Raises BadInput if the toolstack rejects it."""

    def prepare(self, text: bytes, into: Path, *, vm: VmConfig, seclabel: str) -> None:
        """Write the configuration that `create_paused` will get: ``text`` plus overriding lines.

        They set the context ``seclabel`` and make every automatic re-creation (reboot, crash)
        a plain destroy.  The toolstack reads the result back; ``into`` is private to root.

        Raises BadInput if the toolstack does not understand the result as meant, OSError if it
        cannot be written.
        """

    def create_paused(self, path: Path) -> None:
        """Build the VM of the prepared configuration ``path``, and leave it paused.

        The toolstack dies with the caller. Raises `CreateFailed` with what it printed.
        """

    def unpause(self, domid: int) -> None:
        """Let a paused domain run."""

    def shutdown(self, domid: int) -> None:
        """Ask the guest to shut down (it may take its time, or not react)."""

    def destroy(self, domid: int) -> None:
        """Destroy the domain now; no error if it is gone already."""

    def store(self) -> AbstractContextManager[Store]:
        """A connection to XenStore. Raises Unavailable (``host.no-xenstore``)."""

    def denials(self) -> tuple[str, ...]:
        """The ``avc: denied`` lines still in the hypervisor's console ring, oldest first."""

"""What the agent needs of a hypervisor: the one interface that drivers implement.

Drivers: `shype.host.drivers.xen` (xl and the FLASK hypercall in dom0) and
`shype.host.drivers.model` (in-process, for tests and what-if).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shype.base.errors import ShypeError
from shype.host.governor import Governor
from shype.host.mapped import Mapped
from shype.host.network.switch import Switch
from shype.host.resources.device import Devices
from shype.host.store.store import Store
from shype.policy.manifest import Manifest
from shype.policy.model import Enforcement

if TYPE_CHECKING:
    from shype.decision.security_server import SecurityServer
    from shype.host.update.staged import Staged
    from shype.host.verify.compare import Report


class CreateFailed(ShypeError):
    """The toolstack could not build the VM; the message holds what it printed."""

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__("create.failed", message, fix)


class Ending(StrEnum):
    """Why a guest stopped running (xen/include/public/sched.h, SHUTDOWN_*)."""

    POWEROFF = "poweroff"
    REBOOT = "reboot"
    SUSPEND = "suspend"  # it is being saved or migrated: not an end
    CRASH = "crash"
    WATCHDOG = "watchdog"
    SOFT_RESET = "soft_reset"


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain that the hypervisor knows of, dom0 included.

    ``context`` is its FLASK security context (``u:r:l_web_t:s0``). ``dying``
    domains still hold memory and channels: for the wall they still run, and so do those
    that have ``ended`` and wait to be destroyed.  ``uuid`` is the handle that it was
    created with, which a new name does not change.  ``vcpus`` and ``memory`` (KiB) are what it has
    now, which is no part of what it is.
    """

    domid: int
    name: str
    context: str
    paused: bool
    dying: bool
    uuid: str = ""
    ended: Ending | None = None
    vcpus: int = field(default=0, compare=False)
    memory: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class VmConfig:
    """What the agent reads from a VM's configuration, as the toolstack itself parsed it.

    ``uuid`` is a new one if the configuration has none.  ``actions``: what it says is to
    follow an ending (`shype.host.drivers.config.EVENTS`), but for plain destruction.
    ``hvm``: a device model in dom0 serves it, and reaches its memory for as long as it runs.
    ``cmdline``: the command line of a kernel that the toolstack loads.
    ``vcpus`` and ``memory`` (KiB) are the most that it can have.
    """

    name: str
    uuid: str
    seclabel: str | None
    init_seclabel: str | None
    device_model_seclabel: str | None = None
    actions: Mapping[str, str] = field(default_factory=dict)
    devices: Devices = field(default_factory=Devices)
    hvm: bool = False
    cmdline: str = ""
    vcpus: int = 1
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend in dom0, as it says itself: of the ``kind`` ``vbd``, ``qdisk``, ``vif``, ...

    ``values`` are its entries in XenStore (``physical-device``, ``bridge``), which only dom0
    writes.
    """

    kind: str
    domid: int
    number: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """A piece of the hypervisor's console. ``start``: how many bytes had been printed before it
    since the hypervisor booted, modulo 2**32."""

    start: int
    text: bytes

    @property
    def end(self) -> int:
        """The position behind it."""
        return (self.start + len(self.text)) % 2**32


#: Where the bytes of an image come from; see `Hypervisor.restore_paused`.
Source = Callable[[Callable[[], bool]], Iterator[bytes]]


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

    def load(self, what: Staged, also: Mapping[str, str]) -> None:
        """Replace the loaded policy by that of the bundle ``what``, all or nothing.

        Domains keep their labels by the names of their types, booleans their values by name.
        ``also``: further names for types of ``what`` (the values), which domains may carry.
        Raises Unavailable (``host.load``): then the old policy is in force as before.
        """

    def confirm(self) -> None:
        """The loaded policy, this driver's, has stood its test, and is not taken back any more.

        Raises ShypeError if it has been taken back meanwhile (by a manager).
        """

    def mapped(self) -> Mapped:
        """Who maps whose pages, as far as the hypervisor tells. Raises Unavailable."""

    def verified(
        self, server: SecurityServer, manifest: Manifest, binary: bytes
    ) -> Report | None:
        """The hypervisor's decisions beside those of ``server`` and of the policy ``binary``.

        None if this is no hypervisor that could be asked. Raises Unavailable.
        """

    def domains(self) -> tuple[Domain, ...]:
        """All domains, dying ones and dom0 included, by domid."""

    def read_config(self, path: Path) -> VmConfig:
        """Parse a VM configuration. Raises BadInput if the toolstack rejects it."""

    def prepare(
        self, text: bytes, into: Path, *, vm: VmConfig, seclabel: str, channel: Path | None = None,
    ) -> None:
        """Write the configuration that `create_paused` will get: ``text`` plus overriding lines.

        They set the context ``seclabel``, the UUID of ``vm``, and keep a VM that ends and is
        to be created again as it is: only the agent creates.  The toolstack reads the result
        back; ``into`` is private to root.  With ``channel`` the VM also gets a console that its
        device model serves on that socket.

        Raises BadInput if the toolstack does not understand the result as meant, OSError if it
        cannot be written.
        """

    def create_paused(self, path: Path) -> None:
        """Build the VM of the prepared configuration ``path``, and leave it paused.

        The toolstack dies with the caller. Raises `CreateFailed` with what it printed.
        """

    def restore_paused(self, source: Source) -> None:
        """Build a VM from an image, and leave it paused.

        ``source`` gets a function that says whether the toolstack has ended, and yields the
        image; the stream may go on longer.  The toolstack dies with the caller. Raises
        `CreateFailed` with what it printed, and what ``source`` raises.
        """

    def save(self, domid: int, sink: Callable[[bytes], None]) -> None:
        """Give the image of a domain to ``sink``, piece by piece, and leave the domain paused.

        If ``sink`` raises, the guest goes on, and so does the error. Raises Unavailable.
        """

    def migrate(self, domid: int, command: str) -> None:
        """Send a domain to the receiver that the shell's ``command`` runs, and destroy it.

        Raises Unavailable with what it and the receiver printed; then the guest goes on, unless
        it had been given away: then it stays suspended, under another name.
        """

    def unpause(self, domid: int) -> None:
        """Let a paused domain run."""

    def pause(self, domid: int) -> None:
        """Stop a domain's processors; it stays as it is."""

    def shutdown(self, domid: int, *, reboot: bool = False) -> None:
        """Ask the guest to shut down or reboot (it may take its time, or not react)."""

    def dump(self, domid: int, into: Path) -> None:
        """Write the memory of a domain to the new file ``into``, which only root may read."""

    def endings(self) -> AbstractContextManager[Callable[[float], bool]]:
        """A function that waits until a domain has ended or gone, at most so many seconds.

        One that ends while the caller does something else is not missed: then the next wait
        returns at once.  It returns whether there is reason to look; there may be none.
        """

    def destroy(self, domid: int) -> None:
        """Destroy the domain now; no error if it is gone already."""

    def store(self) -> AbstractContextManager[Store]:
        """A connection to XenStore. Raises Unavailable (``host.no-xenstore``)."""

    def attach(self, domid: int, kind: str, words: Sequence[str]) -> None:
        """Attach a ``disk`` or ``network``, or put a ``cd`` in; ``words`` are the toolstack's own.

        Raises Unavailable (``attach.failed``) with what it printed; it may have left something.
        """

    def detach(self, domid: int, kind: str, device: str) -> None:
        """Take it away again. Raises Unavailable (``attach.failed``)."""

    def backends(self) -> tuple[Backend, ...]:
        """The backends in dom0 of all domains."""

    def scripts(self) -> Path | None:
        """The directory of the toolstack's hotplug scripts; None if it has none."""

    def console(self, after: int | None) -> ConsoleText:
        """What is in the hypervisor's console ring behind the position ``after``; None: all.

        It starts later than ``after`` iff what was there is overwritten or cleared.
        """

    def limits_messages(self) -> bool:
        """Whether it was told to hold back what denials would print in a flood."""

    def denials(self) -> tuple[str, ...]:
        """The ``avc: denied`` lines still in the hypervisor's console ring, oldest first."""

    def governor(self) -> Governor:
        """What holds domains to their shares of processors and networks."""

    def switch(self) -> Switch:
        """dom0's bridges, to which the network backends of its domains belong."""

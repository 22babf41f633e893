"""What a VM's configuration asks for, as the toolstack itself understood it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from shype.policy.model import ResourceKind


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk: ``target`` as written, ``format`` as xl calls it (``raw``, ``qcow2``, ...).

    ``vdev`` is the guest's name for it (``xvda``).  ``script`` is None unless the configuration
    names a hotplug script.  ``by_name``: a program in dom0 (QEMU, a boot loader) opens it by its
    path, later, and nobody can look at what it got.
    """

    target: str
    vdev: str
    format: str = "raw"
    write: bool = True
    cdrom: bool = False
    script: str | None = None
    by_name: bool = False

    @property
    def about(self) -> str:
        """For people."""
        return f"disk {self.target or '(empty)'} as {self.vdev}"


@dataclass(frozen=True, slots=True)
class Nic:
    """A network interface on the bridge ``bridge`` of dom0, or of the domain ``backend``."""

    bridge: str
    number: int = 0
    script: str | None = None
    backend: str | None = None

    @property
    def about(self) -> str:
        """For people."""
        return f"network {self.bridge} as interface {self.number}"


@dataclass(frozen=True, slots=True)
class Part:
    """Something of the machine itself: a PCI function, an IRQ, I/O ports, memory."""

    kind: ResourceKind
    name: str

    @property
    def about(self) -> str:
        """For people."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class BootFile:
    """A file whose content the toolstack puts into the VM: kernel, RAM disk, firmware, tables."""

    path: str
    what: str

    @property
    def about(self) -> str:
        """For people."""
        return f"{self.what} {self.path}"


@dataclass(frozen=True, slots=True)
class Other:
    """Anything else that carries information: a shared directory, a USB device, a socket, ...

    Policies name it as they name disks, ``SCHEME:NAME``: ``p9:/srv/share``.
    """

    scheme: str
    name: str

    @property
    def about(self) -> str:
        """For people."""
        return f"{self.scheme}:{self.name}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A device whose backend is in another domain, which decides what it hands out."""

    what: str
    backend: str

    @property
    def about(self) -> str:
        """For people."""
        return f"{self.what} from the domain {self.backend}"


@dataclass(frozen=True, slots=True)
class Forbidden:
    """What no policy can judge, because nobody can tell what it leads to; ``why`` says so."""

    what: str
    why: str

    @property
    def about(self) -> str:
        """For people."""
        return self.what


Device: TypeAlias = "Disk | Nic | Part | BootFile | Other | Peer | Forbidden"


@dataclass(frozen=True, slots=True)
class Devices:
    """All that one configuration asks for, in a stable order."""

    all: tuple[Device, ...] = field(default=())

    @property
    def disks(self) -> tuple[Disk, ...]:
        """The disks among them."""
        return tuple(device for device in self.all if isinstance(device, Disk))

    @property
    def nics(self) -> tuple[Nic, ...]:
        """The network interfaces among them."""
        return tuple(device for device in self.all if isinstance(device, Nic))

"""Where things are on a Debian host; all below one root, so that an image can be installed too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """Paths on a host whose root directory is ``root``."""

    root: Path = Path("/")
    #: Whether /boot is a file system of its own; None: look.
    separate: bool | None = None

    @property
    def boot(self) -> Path:
        """Kernels, and GRUB's own directory."""
        return self.root / "boot"

    @property
    def custom(self) -> Path:
        """What Debian's grub.cfg reads last (/etc/grub.d/41_custom)."""
        return self.boot / "grub/custom.cfg"

    @property
    def policies(self) -> Path:
        """Boot modules and bundles by policy id, and `env`."""
        return self.boot / "shype"

    @property
    def env(self) -> Path:
        """Which policy GRUB boots (`shype.host.install.grubenv`)."""
        return self.policies / "boot.env"

    @property
    def bundle(self) -> Path:
        """The bundle that the agent acts by."""
        return self.root / "etc/shype/policy.shype"

    @property
    def state(self) -> Path:
        """The agent's state."""
        return self.root / "var/lib/shype"

    @property
    def record(self) -> Path:
        """What the installation changed."""
        return self.state / "install.json"

    @property
    def kept(self) -> Path:
        """The files as they were before, by digest."""
        return self.state / "install"

    def prefix(self) -> str:
        """The path of /boot as GRUB sees it: empty if it is a file system of its own."""
        separate = self.boot.is_mount() if self.separate is None else self.separate
        return "" if separate else "/boot"

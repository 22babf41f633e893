"""The sockets on which the device models of the model's VMs serve consoles, in this process."""

from __future__ import annotations

import socket
from pathlib import Path


class ModelChannels:
    """What VMs' device models listen at, by VM: who accepts plays the guest."""

    def __init__(self) -> None:
        #: Where the next VM's device model is to listen, None if it has no such console.
        self.prepared: Path | None = None
        self._listening: dict[str, socket.socket] = {}

    def listen(self, vm: str) -> None:
        """The device model of ``vm`` is up."""
        if self.prepared is not None:
            self.prepared.unlink(missing_ok=True)
            self._listening[vm] = socket.socket(socket.AF_UNIX)
            self._listening[vm].bind(str(self.prepared))
            self._listening[vm].listen(1)

    def guest(self, vm: str) -> socket.socket:
        """The guest's end of who has connected. Raises KeyError if ``vm`` has no such console."""
        return self._listening[vm].accept()[0]

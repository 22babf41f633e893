"""The reference monitor's rights as dom0 has them where there is a manager: it asks for all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Protocol

from shype.base.errors import Unavailable
from shype.host.manager import incoming
from shype.host.manager.link import Link
from shype.host.update.staged import Staged
from shype.policy.manifest import Manifest

#: Seconds in which the manager has checked and loaded a policy.
LOADING = 300.0


class Booleans(Protocol):
    """Reads the hypervisor's booleans, as dom0 still may."""

    def boolean(self, name: str) -> bool | None: ...


class Managed:
    """Implements `shype.host.drivers.xen.monitor.Monitor` for a policy with this ``manifest``.

    Every method raises Unavailable (``manager.*``, what the manager failed by) and
    `RefusedByManager`.
    """

    def __init__(self, link: Link, flask: Booleans, manifest: Manifest) -> None:
        self._link, self._flask, self._manifest = link, flask, manifest

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """Ask for ``values``, and read back what the hypervisor has then.

        What is on for the manager's own acts only (`Booleans.flags`) is not asked for.
        """
        flags = self._manifest.booleans.flags
        values = {name: value for name, value in values.items() if name not in flags}
        self._link.ask(op="set", values=values)
        wrong = [name for name, value in values.items() if self._flask.boolean(name) is not value]
        if wrong:
            raise Unavailable(
                "manager.differs", f"the manager has set {wrong[0]} by what the hypervisor tells "
                "it, and not as this agent asked", "look at who runs: shype ps, xl list -Z")

    def load(self, what: Staged, also: Mapping[str, str]) -> None:
        """Send the bundle, which the manager checks and loads; or have it go back to ``what``.

        ``also`` it knows by itself.
        """
        if self._link.ask(op="status").get("before") == what.bundle.manifest.digest:
            self._link.ask(LOADING, op="back")
            return
        packed, terminal = incoming.pack(what.sealed), self._link.find()
        self._link.ask(op="offer", terminal=terminal, size=len(packed),
                       digest=hashlib.sha256(packed).hexdigest())
        for at in range(0, len(packed), incoming.PART):
            part = packed[at:at + incoming.PART]
            self._link.ask(
                op="part", terminal=terminal, at=at, data=base64.b64encode(part).decode())
        self._link.ask(LOADING, terminal, op="load")

    def confirm(self) -> None:
        """The policy has stood its test: there is no way back any more."""
        self._link.ask(op="confirm", digest=self._manifest.digest)

    def print_grants(self) -> None:
        """See the protocol."""
        self._link.ask(op="print")

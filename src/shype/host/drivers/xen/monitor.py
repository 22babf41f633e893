"""Who has the reference monitor's rights in FLASK: dom0 itself, unless a manager has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from shype.host.drivers.xen import grants
from shype.host.drivers.xen.flask import Flask
from shype.host.update.staged import Staged


class Monitor(Protocol):
    """Acts as the reference monitor; see `shype.host.hypervisor.Hypervisor`."""

    def set_booleans(self, values: Mapping[str, bool]) -> None: ...

    def load(self, what: Staged, also: Mapping[str, str]) -> None: ...

    def confirm(self) -> None: ...

    def print_grants(self) -> None: ...


class Own:
    """dom0 does it by its own hypercalls."""

    def __init__(self, flask: Flask) -> None:
        self._flask = flask

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """See the protocol."""
        self._flask.set_booleans(values)

    def load(self, what: Staged, also: Mapping[str, str]) -> None:
        """See the protocol."""
        from shype.host.verify.binary import also_named

        self._flask.load(also_named(what.binary, also) if also else what.binary)

    def confirm(self) -> None:
        """See the protocol; dom0 keeps no policy to go back to."""

    def print_grants(self) -> None:
        """See the protocol."""
        grants.press()

"""How a modelled host takes another policy, and who maps whose pages on it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager

from shype.base.errors import Unavailable
from shype.decision.security_server import SecurityServer
from shype.host import mapped as tables
from shype.host.drivers.model_state import State, reload
from shype.host.update.staged import Staged
from shype.policy.manifest import Manifest


class Updating:
    """That part of `shype.host.drivers.model.ModelHypervisor`."""

    _manifest: Manifest

    @abstractmethod
    def _state(self) -> AbstractContextManager[State]:
        """The state; what is changed in it is kept."""

    def load(self, what: Staged, also: Mapping[str, str]) -> None:
        """See the protocol; this instance goes on deciding by its own bundle's policy."""
        with self._state() as state:
            opening = self._manifest.booleans.loading
            if opening is None or not state.booleans.get(opening):
                raise Unavailable("host.load", "the model does not take the policy: EACCES")
            if what.binary == REFUSED:
                raise Unavailable("host.load", "the model does not take the policy: EINVAL")
            reload(state, self._manifest, what.bundle, also)

    def confirm(self) -> None:
        """See the protocol; nobody takes a model's policy back by himself."""

    def mapped(self) -> tables.Mapped:
        """See the protocol."""
        with self._state() as state:
            there = {domain.domid for domain in state.domains}
            return tables.Mapped(tuple(
                tables.Mapping(by, of, write) for by, of, write in state.mapped
                if by in there and of in there), state.tells)

    def verified(self, server: SecurityServer, manifest: Manifest, binary: bytes) -> None:
        """See the protocol: a model has no decisions of its own."""

    def share(self, by: int, of: int, *, write: bool = True) -> None:
        """Domain ``by`` maps pages that domain ``of`` has granted to it."""
        with self._state() as state:
            state.mapped = [*state.mapped, (by, of, write)]

    def garble(self) -> None:
        """What the hypervisor prints of its grants is not complete from now on."""
        with self._state() as state:
            state.tells = False


#: A binary that the model takes for none.
REFUSED = b"refused"

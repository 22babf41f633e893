"""May a frame go from one label to another over a bridge? Three answers of the security server.

The sender may write to the bridge (a resource with a label), the receiver may read
from it, and the policy lets the sender send frames to the receiver at all. Each is
decided where such things are decided; here they only meet.
"""

from __future__ import annotations

from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.decision.security_server import SecurityServer
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName


class Frames:
    """The frames of one bridge. Every method raises BadInput (``label.unknown``)."""

    def __init__(self, server: SecurityServer, bridge: str) -> None:
        """Raises BadInput ``resource.name`` if no bridge can have the name ``bridge``."""
        self.bridge = bridge
        self._server = server
        self._uses: dict[tuple[LabelName, Access], Decision] = {}
        self.sends(server.policy.host.dom0)

    def sends(self, label: LabelName) -> Decision:
        """May a VM of ``label`` (or dom0, by its own) put frames on the bridge?"""
        return self._use(label, Access.WRITE)

    def receives(self, label: LabelName) -> Decision:
        """May a VM of ``label`` get frames from the bridge?"""
        return self._use(label, Access.READ)

    def joins(self, label: LabelName) -> Decision:
        """May a VM of ``label`` have an interface on the bridge? If it may send or receive there.

        One that may do one of the two only is let have it: its port passes nothing else.
        """
        both = self._use(label, Access.READ_WRITE)
        ways = (both, self.receives(label), self.sends(label))
        return next((way for way in ways if way.permitted), both)

    def decide(self, source: LabelName, sink: LabelName) -> Decision:
        """May a VM of ``source`` send frames to another VM of ``sink``? The first denial, if any.

        dom0's label stands for dom0's own interface on the bridge.
        """
        for decision in (self.sends(source), self.receives(sink)):
            if not decision.permitted:
                return decision
        return self._server.decide(source, sink, Operation.NETWORK_SEND)

    def permits(self, source: LabelName, sink: LabelName) -> bool:
        """The verdict of `decide` alone, quickly."""
        return (
            self.sends(source).permitted and self.receives(sink).permitted
            and self._server.permits(source, sink, Operation.NETWORK_SEND)
        )

    def _use(self, label: LabelName, access: Access) -> Decision:
        found = self._uses.get((label, access))
        if found is None:
            found = self._server.use(label, ResourceKind.NETWORK, self.bridge, access)
            self._uses[label, access] = found
        return found

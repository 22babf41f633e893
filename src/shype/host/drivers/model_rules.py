"""Who may be created on a modelled host: the conditional rules of the compiled policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shype.decision.security_server import SecurityServer
from shype.policy.manifest import Manifest, index_of
from shype.policy.model import Policy
from shype.policy.names import LabelName, MemberName


@dataclass(frozen=True, slots=True)
class CreationRule:
    """`domain create`, as the compiled policy decides it by its booleans."""

    policy: Policy
    manifest: Manifest
    server: SecurityServer

    def may_create(self, context: str, booleans: Mapping[str, bool]) -> bool:
        """Whether dom0 may create a domain of ``context`` while the booleans stand so."""
        label = self.manifest.label_of_context(context)
        if label is None or label not in self.manifest.labels:
            return False
        window = self.manifest.window_values(label)
        return (
            self.server.authorize(label).permitted
            and all(booleans[name] is wanted for name, wanted in window.items())
            and not any(booleans[self.manifest.booleans.running[m]] for m in self._against(label))
            and self._in_vector(label, booleans)
        )

    def _in_vector(self, label: LabelName, booleans: Mapping[str, bool]) -> bool:
        bits = self.manifest.booleans.vectors
        if not bits:
            return True
        index = index_of(booleans[name] for name in bits)
        vectors = [*self.policy.vectors.values()]
        return index < len(vectors) and label in vectors[index].labels

    def _against(self, label: LabelName) -> frozenset[MemberName]:
        own = self.policy.labels[label].members
        walls = (wall.members for wall in self.policy.walls.values() if wall.members & own)
        return frozenset[MemberName]().union(*walls) - own

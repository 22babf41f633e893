"""Simple Type Enforcement (STE): labels that have a type in common may share.

Source: Sailer et al., "Building a MAC-based security architecture for the Xen
open-source hypervisor", ACSAC 2005, section on the simple type enforcement
policy. The matrix ``label x type`` of the paper is one integer per label here,
one bit per type, so that a decision is one AND.
"""

from __future__ import annotations

from collections.abc import Mapping

from shype.policy.names import CoalitionName, LabelName


class TypeEnforcement:
    """The STE matrix. Immutable after construction; every method is pure.

    Every method raises KeyError for a label that has no row.
    """

    def __init__(self, rows: Mapping[LabelName, frozenset[CoalitionName]]) -> None:
        self._types = tuple(sorted(frozenset().union(*rows.values())))
        bits = {name: 1 << index for index, name in enumerate(self._types)}
        self._rows = {label: sum(bits[name] for name in row) for label, row in rows.items()}
        self._names: dict[int, tuple[CoalitionName, ...]] = {}

    def may_share(self, a: LabelName, b: LabelName) -> bool:
        """The sharing rule: at least one common type. Symmetric; false for an empty row."""
        return self._rows[a] & self._rows[b] != 0

    def shared(self, a: LabelName, b: LabelName) -> tuple[CoalitionName, ...]:
        """The types that ``a`` and ``b`` have in common, sorted."""
        return self._decode(self._rows[a] & self._rows[b])

    def may_authorize(self, host: LabelName, label: LabelName) -> bool:
        """The authorization rule: ``host`` has every type of ``label``."""
        return self._rows[label] & ~self._rows[host] == 0

    def missing(self, host: LabelName, label: LabelName) -> tuple[CoalitionName, ...]:
        """The types of ``label`` that ``host`` has not, sorted; empty iff `may_authorize`."""
        return self._decode(self._rows[label] & ~self._rows[host])

    def types(self, label: LabelName) -> tuple[CoalitionName, ...]:
        """The types of ``label``, sorted."""
        return self._decode(self._rows[label])

    def _decode(self, row: int) -> tuple[CoalitionName, ...]:
        # Few different sets occur among many pairs, so each is spelled out once.
        names = self._names.get(row)
        if names is None:
            names = tuple(name for index, name in enumerate(self._types) if row >> index & 1)
            self._names[row] = names
        return names

"""A domain that runs, as the Chinese Wall sees it."""

from __future__ import annotations

from dataclasses import dataclass

from shype.policy.names import LabelName


@dataclass(frozen=True, slots=True)
class Running:
    """One running domain. Paused and dying domains run too: they still hold memory.

    ``label`` is what the domain really carries. If that is no label of the
    policy (a label removed by an update, a foreign security context), pass it
    as it is: the security server then refuses to decide instead of guessing.
    """

    domid: int
    vm: str
    label: LabelName

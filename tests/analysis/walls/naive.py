"""All states of one host by exhaustive search, from the wall's counters recounted each time.

Shares nothing with the code that it judges but the policy's text.
"""

from __future__ import annotations

from collections.abc import Sequence

from shype.policy.model import Policy
from tests.decision.reference_counters import aggregate_counts

#: What runs: a name for each domain, so two VMs of one label appear twice. Sorted.
Host = tuple[str, ...]


class Search:
    """The states of a host that starts empty but for left-over VMs with retired labels."""

    def __init__(self, policy: Policy, *, copies: int = 1) -> None:
        self.walls = [frozenset(map(str, wall.members)) for wall in policy.walls.values()]
        self.labels = {str(n): frozenset(map(str, x.members)) for n, x in policy.labels.items()}
        self.tombs = {str(n): frozenset(map(str, x.members)) for n, x in policy.retired.items()}
        self.copies = copies
        self.states = self._search()
        #: The sets of labels that some state has, for every state.
        self.sets = {frozenset(state) for state in self.states}

    def may_start(self, state: Sequence[str], label: str) -> bool:
        """The rule of sHype: none of its members is excluded by what runs."""
        held = {**self.labels, **self.tombs}
        excluded = aggregate_counts(self.walls, [held[name] for name in state])
        return not any(member in excluded for member in self.labels[label])

    def _search(self) -> set[Host]:
        found: set[Host] = set()
        todo: list[Host] = [()]
        for tomb in self.tombs:
            todo += [tuple(sorted((*state, tomb))) for state in todo]
        while todo:
            state = todo.pop()
            if state in found:
                continue
            found.add(state)
            for label in self.labels:
                if state.count(label) < self.copies and self.may_start(state, label):
                    todo.append(tuple(sorted((*state, label))))
            for i in range(len(state)):
                todo.append(state[:i] + state[i + 1:])
        return found

    def maximal(self) -> set[frozenset[str]]:
        """The sets that no other set contains."""
        return {s for s in self.sets if not any(s < other for other in self.sets)}

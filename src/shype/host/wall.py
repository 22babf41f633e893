"""What the booleans of the Chinese Wall must say of who runs.

Pure, and small: the agent in dom0 asks it, and the manager does in a domain of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from shype.policy.manifest import Manifest
from shype.policy.model import Policy
from shype.policy.names import LabelName, MemberName


def members_of(policy: Policy, labels: Iterable[LabelName]) -> frozenset[MemberName]:
    """The members of conflict sets that ``labels`` hold, retired ones included.

    What is no label of the policy holds none.
    """
    rows = (policy.retired.get(label) or policy.labels.get(label) for label in labels)
    return frozenset[MemberName]().union(*(row.members for row in rows if row is not None))


def running_values(
    manifest: Manifest, members: frozenset[MemberName], now: Callable[[str], bool], *,
    strange: bool,
) -> dict[str, bool]:
    """What every ``run_`` boolean must be while ``members`` are held.

    ``strange``: beside them a domain of unknown label runs. Then nothing that is set (by
    ``now``) is released: it might be that domain's.
    """
    return {
        boolean: member in members or (strange and now(boolean))
        for member, boolean in manifest.booleans.running.items()
    }

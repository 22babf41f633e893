"""With which label each disk was last used: one durable file, ``disks.json``.

What a VM has written stays on its disk.  So a disk that was used with one label is refused with
another until it has been wiped (or the policy gives it the first one back).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.table import Table
from shype.policy.model import Policy, ResourceLabel

#: Far more than a host's disks take, bytes.
MAX_RECORD = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Used:
    """A disk's last label as text, its path then, and the VM. ``wiping``: not yet finished."""

    label: str
    path: str
    vm: str
    wiping: bool = False


def text_of(policy: Policy, label: ResourceLabel | None) -> str:
    """What a label says, as text that is equal iff it says the same."""
    if label is None:
        return "unlabeled"
    if label.inaccessible:
        return "inaccessible"
    words = [", ".join(sorted(label.coalitions)) or "no coalition"]
    if label.level is not None and policy.levels is not None:
        words.append(policy.levels.show(label.level))
    if label.integrity is not None and policy.integrity is not None:
        words.append(f"integrity {policy.integrity.show(label.integrity)}")
    return "; ".join(words)


class Registry:
    """The file in the agent's state directory: durable key -> `Used`."""

    def __init__(self, state: Path) -> None:
        self._table = Table(state / "disks.json", "disks", _used, MAX_RECORD, _corrupt)

    @property
    def path(self) -> Path:
        """The file."""
        return self._table.path

    def read(self) -> dict[str, Used]:
        """All disks that are remembered. Raises Unavailable (``disks.corrupt``)."""
        return self._table.read()

    def remember(self, disks: Mapping[str, Used]) -> None:
        """Add or replace ``disks``, durably. Raises Unavailable (``state.unwritable``)."""
        if not disks:
            return
        with self._table.locked():
            known = self.read()
            if any(known.get(key) != used for key, used in disks.items()):
                self._table.write(known | dict(disks))

    def begin_wiping(self, key: str, used: Used) -> None:
        """From now on the disk is refused, until `forget`."""
        with self._table.locked():
            known = self.read()
            self._table.write(known | {key: replace(known.get(key, used), wiping=True)})

    def forget(self, key: str) -> None:
        """The disk holds nothing any more."""
        with self._table.locked():
            known = self.read()
            if known.pop(key, None) is not None:
                self._table.write(known)


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "disks.corrupt",
        f"the record of labels that disks were used with, {path}, is damaged",
        "restore it from a backup; without it a disk may change its label unnoticed: "
        "remove it only if no disk has changed its label",
    )


def _used(key: str, item: object) -> Used:
    if not isinstance(item, dict) or set(item) != {"label", "path", "vm", "wiping"}:
        raise TypeError("entry")
    if not all(isinstance(item[key], str) for key in ("label", "path", "vm")):
        raise TypeError("entry")
    if type(item["wiping"]) is not bool:
        raise TypeError("wiping")
    return Used(item["label"], item["path"], item["vm"], item["wiping"])

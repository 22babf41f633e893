"""With which label each disk was last used: one durable file, ``disks.json``.

What a VM has written stays on its disk.  So a disk that was used with one label is refused with
another until it has been wiped (or the policy gives it the first one back).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.lock import LaunchLock, unwritable
from shype.policy.model import Policy, ResourceLabel

_FORMAT = 1
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
        self.path = state / "disks.json"

    def read(self) -> dict[str, Used]:
        """All disks that are remembered. Raises Unavailable (``disks.corrupt``)."""
        try:
            return _parse(json.loads(read_regular(self.path, MAX_RECORD)))
        except FileNotFoundError:
            return {}
        except PermissionError:
            raise  # not damaged: the command has not been run as root
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise Unavailable(
                "disks.corrupt", f"the record of labels that disks were used with, {self.path}, "
                "is damaged",
                "restore it from a backup; without it a disk may change its label unnoticed: "
                "remove it only if no disk has changed its label",
            ) from error

    def remember(self, disks: Mapping[str, Used]) -> None:
        """Add or replace ``disks``, durably. Raises Unavailable (``state.unwritable``)."""
        if not disks:
            return
        with self._locked():
            known = self.read()
            if any(known.get(key) != used for key, used in disks.items()):
                self._write(known | dict(disks))

    def begin_wiping(self, key: str, used: Used) -> None:
        """From now on the disk is refused, until `forget`."""
        with self._locked():
            known = self.read()
            self._write(known | {key: replace(known.get(key, used), wiping=True)})

    def forget(self, key: str) -> None:
        """The disk holds nothing any more."""
        with self._locked():
            known = self.read()
            if known.pop(key, None) is not None:
                self._write(known)

    def _write(self, known: Mapping[str, Used]) -> None:
        disks = {key: asdict(used) for key, used in known.items()}
        write_atomic(self.path, canonical.dumps({"format": _FORMAT, "disks": disks}), 0o600)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Two commands must not forget each other's disks."""
        try:
            with LaunchLock(self.path.parent, "disks.lock").wait():
                yield
        except OSError as error:
            raise unwritable(self.path.parent, error) from error


def _parse(value: object) -> dict[str, Used]:
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise ValueError("format")
    disks = value.get("disks")
    if not isinstance(disks, dict):
        raise TypeError("disks")
    return {key: _used(item) for key, item in disks.items()}


def _used(item: object) -> Used:
    if not isinstance(item, dict) or set(item) != {"label", "path", "vm", "wiping"}:
        raise TypeError("entry")
    if not all(isinstance(item[key], str) for key in ("label", "path", "vm")):
        raise TypeError("entry")
    if type(item["wiping"]) is not bool:
        raise TypeError("wiping")
    return Used(item["label"], item["path"], item["vm"], item["wiping"])

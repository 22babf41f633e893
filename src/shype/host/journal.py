"""The durable reservation of a launch.

The file exists from before the launch window opens until the launch is over:
its existence *is* the unfinished state.  Finishing only removes it, which works
on a full disk too.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.lock import unwritable
from shype.policy.names import LabelName

_FORMAT = 1
#: Far more than any record takes, bytes.
MAX_RECORD = 1024 * 1024
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reservation:
    """A launch in progress.

    ``before`` are the domids that existed when it began; ``boot`` the boot of
    dom0 (domids mean nothing in another one).  ``pid`` and ``written`` are for
    people: nothing depends on the wall clock.
    """

    vm: str
    uuid: str
    label: LabelName
    context: str
    before: tuple[int, ...]
    boot: str
    pid: int
    written: str


def reservation(
    vm: str, uuid: str, label: LabelName, context: str, before: tuple[int, ...]
) -> Reservation:
    """A reservation by this process, in this boot."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Reservation(vm, uuid, label, context, before, boot_id(), os.getpid(), now)


def boot_id() -> str:
    """The kernel's id of this boot of dom0 (a new one whenever the hypervisor restarts)."""
    return _BOOT_ID.read_text().strip()


class Journal:
    """The file ``launch.json`` in the state directory. Use it under the launch lock."""

    def __init__(self, state: Path) -> None:
        self.path = state / "launch.json"

    def read(self) -> Reservation | None:
        """The unfinished launch, or None.

        Raises Unavailable (``journal.corrupt``) if the file is damaged.
        """
        try:
            data = read_regular(self.path, MAX_RECORD)
            return _parse(json.loads(data))
        except FileNotFoundError:
            return None
        except PermissionError:
            raise  # not damaged: the command has not been run as root
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Unavailable(
                "journal.corrupt", f"the record of an unfinished launch, {self.path}, is damaged",
                "the launch window is closed. Destroy the paused VMs in `shype ps` that you did "
                f"not pause, then remove {self.path}",
            ) from error

    def reserve(self, record: Reservation) -> None:
        """Write ``record`` durably, or raise Unavailable (``state.unwritable``) and leave none."""
        data = canonical.dumps({"format": _FORMAT, **asdict(record)})
        try:
            write_atomic(self.path, data, 0o600)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.finish()
            raise unwritable(self.path.parent, error) from error

    def finish(self) -> None:
        """The launch is over: remove the record, and what a killed writer may have left."""
        for left in self.path.parent.glob(f".{self.path.name}.*"):
            left.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _parse(value: object) -> Reservation:
    if not isinstance(value, dict) or value.get("format") != _FORMAT:
        raise ValueError("format")
    words = {key: value[key] for key in ("vm", "uuid", "label", "context", "boot", "written")}
    before = value["before"]
    if not all(isinstance(word, str) for word in words.values()) or not isinstance(before, list):
        raise TypeError("shape")
    if not all(type(number) is int for number in [value["pid"], *before]):
        raise TypeError("numbers")
    return Reservation(
        words["vm"], words["uuid"], LabelName(words["label"]), words["context"],
        tuple(before), words["boot"], value["pid"], words["written"],
    )

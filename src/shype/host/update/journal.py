"""The durable record of an update that is not finished, and both bundles beside it.

Which policy the hypervisor has is asked of the hypervisor, never read here: the record says only
where the update was going, and whom it has paused.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.journal import MAX_RECORD, boot_id
from shype.host.lock import unwritable
from shype.host.update.staged import Staged, read

_FORMAT = 1


class Phase(StrEnum):
    """Where an update is going."""

    FORWARD = "forward"  # to the new policy, and back if that does not stand its test
    COMMIT = "commit"  # the new policy has stood it: only forward
    BACK = "back"  # to the old policy


@dataclass(frozen=True, slots=True)
class Unfinished:
    """``old`` and ``new`` are the policies as people name them; ``bundle`` is where the host
    keeps its own, ``module`` (if any) what it gives the hypervisor at boot. ``paused``: the
    domains (and their UUIDs) that the update has paused, in the boot ``boot``. ``pid`` is of the
    command that began it.
    """

    old: str
    new: str
    bundle: str
    phase: Phase = Phase.FORWARD
    paused: Mapping[str, str] = field(default_factory=dict)
    module: str = ""
    boot: str = ""
    pid: int = 0


class UpdateJournal:
    """The file ``apply.json`` in the state directory. Use it under the launch lock."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.path = state / "apply.json"
        self.old = state / "apply-old.shype"
        self.new = state / "apply-new.shype"

    @property
    def unfinished(self) -> bool:
        """Whether there is a record; False for who may not look."""
        return os.path.exists(self.path)  # noqa: PTH110 - Path.exists raises PermissionError

    def begin(self, record: Unfinished, old: Staged, new: Staged) -> Unfinished:
        """Write both bundles and the record durably. Raises Unavailable (``state.unwritable``)."""
        try:
            write_atomic(self.old, old.sealed, 0o600)
            write_atomic(self.new, new.sealed, 0o600)
            return self.write(record)
        except BaseException as error:
            with contextlib.suppress(OSError):
                self.finish()
            if isinstance(error, OSError):
                raise unwritable(self._state, error) from error
            raise

    def write(self, record: Unfinished) -> Unfinished:
        """Replace the record durably. Raises Unavailable (``state.unwritable``)."""
        try:
            write_atomic(
                self.path, canonical.dumps({"format": _FORMAT, **asdict(record)}), 0o600)
        except OSError as error:
            raise unwritable(self._state, error) from error
        return record

    def read(self) -> Unfinished | None:
        """The unfinished update, or None. Raises Unavailable (``apply.corrupt``)."""
        try:
            return _parse(json.loads(read_regular(self.path, MAX_RECORD)))
        except FileNotFoundError:
            return None
        except PermissionError:
            raise  # not damaged: the command has not been run as root
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise Unavailable(
                "apply.corrupt", f"the record of an unfinished update, {self.path}, is damaged",
                f"compare {self.old} and {self.new} with what the hypervisor has (`shype status "
                f"--bundle FILE`); make that one the host's bundle, then remove {self.path}",
            ) from error

    def bundles(self, keys: Path) -> tuple[Staged, Staged]:
        """The old and the new bundle, believed as any bundle is."""
        return read(self.old, keys), read(self.new, keys)

    def finish(self) -> None:
        """The update is over: remove the record first, and what lies beside it."""
        for file in (self.path, self.old, self.new):
            for left in self._state.glob(f".{file.name}.*"):
                left.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        directory = os.open(self._state, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def here(old: Staged, new: Staged, bundle: Path, module: Path | None) -> Unfinished:
    """The record of an update that this process begins."""
    before, after = (f"{one.bundle.policy.name} {one.bundle.policy.version}" for one in (old, new))
    return Unfinished(
        before, after, str(bundle), module=str(module or ""), boot=boot_id(), pid=os.getpid())


def _parse(value: object) -> Unfinished:
    if not isinstance(value, dict) or value.pop("format", None) != _FORMAT:
        raise ValueError("format")
    words = (value["old"], value["new"], value["bundle"], value["module"], value["boot"])
    paused = value["paused"]
    if not isinstance(paused, dict) or not all(
            isinstance(word, str) for word in (*words, *paused, *paused.values())):
        raise TypeError("shape")
    if type(value["pid"]) is not int:
        raise TypeError("pid")
    return Unfinished(
        value["old"], value["new"], value["bundle"], Phase(value["phase"]), paused,
        value["module"], value["boot"], value["pid"])

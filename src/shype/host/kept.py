"""What the agent keeps of every VM that it started, to start it again when it reboots.

One file for each, by UUID, in the state directory, which only root may enter: written before
the VM runs, removed when it is gone for good.  Use it under the launch lock.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from shype.base import canonical
from shype.base.files import read_regular, write_atomic
from shype.host.journal import boot_id
from shype.host.lock import unwritable
from shype.policy.names import LabelName

_FORMAT = 1
#: Far more than a configuration of the largest size takes, bytes.
MAX_RECORD = 4 * 1024 * 1024
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Kept:
    """One VM.

    ``config`` is what it was started from (None: it came from another host without one), and
    ``actions`` what that says is to follow an ending.  ``domid`` counts in the boot ``boot``.

    ``again``: it has ended and is owed a start, not before ``not_before`` (seconds of
    `clock`).  ``stopping``: whatever ends it, it is not to come back.  ``refused``: why its
    start was refused (a decision's or an error's id); it is then tried again only by hand.
    ``starts``: when it was started again lately.  ``vcpus``, ``memory`` (KiB), ``nics``: the most
    that it can have (0: written before quotas).
    """

    vm: str
    uuid: str
    label: LabelName
    config: bytes | None
    actions: Mapping[str, str] = field(default_factory=dict)
    domid: int = -1
    boot: str = field(default_factory=boot_id)
    again: bool = False
    stopping: bool = False
    refused: str | None = None
    not_before: float = 0
    starts: tuple[float, ...] = ()
    vcpus: int = 0
    memory: int = 0
    nics: int = 0

    @property
    def current(self) -> bool:
        """Whether it was written in this boot; in another one it says nothing about domains."""
        return self.boot == boot_id()


def clock() -> float:
    """Seconds since the boot, sleep included; nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KeptVms:
    """The directory ``vms`` in the state directory, or another one."""

    def __init__(self, state: Path, name: str = "vms") -> None:
        self._directory = state / name

    def get(self, uuid: str) -> Kept | None:
        """What is kept of a VM; None also for what is damaged, which is then set aside."""
        if not _UUID.fullmatch(uuid):
            return None
        path = self._path(uuid)
        try:
            return _parse(json.loads(read_regular(path, MAX_RECORD)))
        except FileNotFoundError:
            return None
        except PermissionError:
            raise  # not damaged: the command has not been run as root
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            with contextlib.suppress(OSError):
                path.replace(path.with_suffix(".damaged"))
            return None

    def all(self) -> tuple[Kept, ...]:
        """Everything that is kept."""
        try:
            names = sorted(entry.name for entry in self._directory.iterdir())
        except FileNotFoundError:
            return ()
        found = (self.get(name.removesuffix(".json")) for name in names if name.endswith(".json"))
        return tuple(kept for kept in found if kept is not None)

    def put(self, kept: Kept) -> None:
        """Keep it durably. Raises Unavailable (``state.unwritable``)."""
        value = asdict(kept)
        value["config"] = None if kept.config is None else base64.b64encode(kept.config).decode()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(
                self._path(kept.uuid), canonical.dumps({"format": _FORMAT, **value}), 0o600)
        except OSError as error:
            raise unwritable(self._directory, error) from error

    def change(self, kept: Kept, **fields: object) -> Kept:
        """Keep ``kept`` with other ``fields``, and return that."""
        changed = replace(kept, **fields)  # type: ignore[arg-type]
        self.put(changed)
        return changed

    def forget(self, uuid: str) -> None:
        """It is gone for good."""
        if _UUID.fullmatch(uuid):
            with contextlib.suppress(OSError):  # harmless: nothing runs under that UUID
                self._path(uuid).unlink(missing_ok=True)

    def _path(self, uuid: str) -> Path:
        return self._directory / f"{uuid}.json"


def _parse(value: object) -> Kept:
    if not isinstance(value, dict) or value.pop("format") != _FORMAT:
        raise ValueError("format")
    if value["config"] is not None:
        value["config"] = base64.b64decode(value["config"], validate=True)
    words = [value[key] for key in ("vm", "uuid", "label", "boot")]
    words += [*value["actions"].items()]
    flags = [value["again"], value["stopping"]]
    times = [value["not_before"], *value["starts"]]
    if not all(isinstance(w, str) for w in words[:4]) or not _UUID.fullmatch(value["uuid"]):
        raise TypeError("words")
    if not all(isinstance(w, str) for pair in words[4:] for w in pair):
        raise TypeError("actions")
    if not all(type(flag) is bool for flag in flags) or type(value["domid"]) is not int:
        raise TypeError("flags")
    if not all(type(moment) in (int, float) for moment in times):
        raise TypeError("times")
    if not all(type(value.get(key, 0)) is int for key in ("vcpus", "memory", "nics")):
        raise TypeError("sizes")
    if value["refused"] is not None and not isinstance(value["refused"], str):
        raise TypeError("refused")
    value["starts"] = tuple(value["starts"])
    return Kept(**value)

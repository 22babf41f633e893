"""Puts on record which keys this host trusts, whenever that has changed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from shype.base.errors import BadInput
from shype.base.files import read_regular, write_atomic
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.trust import trusted_keys

_MAX_FILE = 1024 * 1024


def record_keys(agent: Agent, keys: Path) -> None:
    """Compare the keys in the directory ``keys`` with those that were trusted the last time.

    Never stands in the way: what the keys are good for is decided elsewhere, and who may not
    write the state may still look.
    """
    try:
        now = sorted(trusted_keys(keys))
    except BadInput:
        return  # told by who needs them
    file = agent.trail.directory / "keys.json"
    before = _read(file)
    if before == now:
        return
    agent.record(Event(
        kind="keys.trust", result=Result.DONE, object=f"keys:{keys}", deferrable=True,
        details={"trusted": now, "added": sorted(set(now) - set(before)),
                 "removed": sorted(set(before) - set(now))}))
    with contextlib.suppress(OSError):  # then it is recorded again
        if file.parent.is_dir():
            write_atomic(file, json.dumps(now).encode(), 0o600)


def _read(file: Path) -> list[str]:
    """The ids; none if nothing was recorded yet or the file is damaged: all are new then."""
    try:
        found = json.loads(read_regular(file, _MAX_FILE))
    except (OSError, ValueError, RecursionError):
        return []
    return [str(each) for each in found] if isinstance(found, list) else []

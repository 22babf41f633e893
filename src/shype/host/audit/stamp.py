"""What the trail adds to an event: time, host, and on whose behalf (FAU_GEN.1.2 a)."""

from __future__ import annotations

import json
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shype.host.audit.event import Event

#: Longest body, bytes of JSON: half of the longest line.
LONGEST = 32 * 1024
#: What is left of a string, and of a list, in a body that was longer.
_WORD, _ITEMS = 500, 20
_UNSET = 0xFFFFFFFF
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOGIN = Path("/proc/self/loginuid")


def stamped(event: Event) -> dict[str, Any]:
    """The body of ``event``'s record, but for its place in the chain."""
    value = {
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "host": os.uname().nodename, "boot": _read(_BOOT_ID), "actor": actor(),
        **event.to_json(),
    }
    return bounded(value)


def actor() -> dict[str, Any]:
    """This process: its user, who logged in (null if nobody did), its id and command line."""
    login = _read(_LOGIN)
    known = login.isdigit() and int(login) != _UNSET
    return {
        "uid": os.getuid(), "login": int(login) if known else None, "pid": os.getpid(),
        "command": shlex.join(sys.argv)[:_WORD],
    }


def bounded(value: dict[str, Any]) -> dict[str, Any]:
    """``value``, or what is left of it in `LONGEST` bytes; then ``cut`` is true.

    Details that are no JSON become their text: an event is never lost over its form.
    """
    try:
        size = len(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        value = {**value, "details": {"text": repr(value.get("details"))}}
        size = len(json.dumps(value))
    if size <= LONGEST:
        return value
    short = {**{key: _cut(item) for key, item in value.items()}, "cut": True}
    if len(json.dumps(short)) > LONGEST:
        short["details"] = {"text": json.dumps(short.get("details"))[:_WORD]}
    return short


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_WORD]
    if isinstance(value, list | tuple):
        return [_cut(item) for item in value[:_ITEMS]]
    if isinstance(value, dict):
        return {_cut(key): _cut(item) for key, item in list(value.items())[:_ITEMS]}
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

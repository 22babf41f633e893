"""Putting the veto into Xen's directory of hotplug scripts, and taking it out again.

Xen's own ``block`` and ``vif-bridge`` are moved aside and a small script takes their place, so
that every toolstack that uses the defaults asks first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.base.files import write_atomic

PLACE = Path("/etc/xen/scripts")
#: Script -> the word that `shype hotplug` knows it by.
SCRIPTS = {"block": "block", "vif-bridge": "vif"}
#: What Xen's own script is called while ours is in its place.
_ASIDE = ".xen"
_MARK = "# put here by `shype hotplug install`"
#: Set by shype for the xl that it runs: it has decided, and looks again when xl is done.
DECIDED = "SHYPE_DECIDED"
_TEXT = """\
#!/bin/sh
{mark}: asks before Xen's own script is run
if [ -z "${decided}" ]; then
    case "$*" in
        *add*|*online*) {shype} hotplug {word} "$@" || exit 1{after} ;;
    esac
fi
exec "$0{aside}" "$@"
"""
#: What follows for an interface, which is filtered once it is on its bridge.
_AFTER = """
            "$0{aside}" "$@" || exit 1
            exec {shype} hotplug vif-up "$@\""""


@dataclass(frozen=True, slots=True)
class Script:
    """One of Xen's scripts: whether the veto stands before it."""

    path: Path
    vetoed: bool
    problem: str | None = None


def look(place: Path = PLACE) -> tuple[Script, ...]:
    """How the scripts stand."""
    return tuple(_one(place / name) for name in SCRIPTS)


def _one(path: Path) -> Script:
    try:
        ours = _MARK in path.read_text(errors="replace")
    except OSError as error:
        return Script(path, False, error.strerror)
    if ours and not os.access(_aside(path), os.X_OK):
        return Script(path, True, f"{_aside(path)} is missing: nothing can be attached")
    return Script(path, ours)


def install(shype: str, place: Path = PLACE) -> tuple[Script, ...]:
    """Put the veto before both scripts; those that have it are renewed.

    Raises BadInput (``hotplug.no-xen``), Unavailable (``hotplug.unwritable``).
    """
    found = look(place)
    if any(script.problem and not script.vetoed for script in found):
        raise BadInput("hotplug.no-xen", f"{place} has no scripts of Xen's",
                       "install xen-utils, or name their directory with --scripts")
    try:
        for script in found:
            path = script.path
            if not script.vetoed:
                # A link first: at no moment is there no script under the old name.
                _aside(path).unlink(missing_ok=True)
                _aside(path).hardlink_to(path)
            word = SCRIPTS[path.name]
            after = _AFTER.format(shype=shype, aside=_ASIDE) if word == "vif" else ""
            text = _TEXT.format(mark=_MARK, decided=DECIDED, shype=shype, word=word,
                                aside=_ASIDE, after=after)
            write_atomic(path, text.encode(), 0o755)
    except OSError as error:
        raise Unavailable("hotplug.unwritable", f"cannot write in {place}: {error.strerror}",
                          "run the command as root") from error
    return look(place)


def remove(place: Path = PLACE) -> tuple[Script, ...]:
    """Put Xen's own scripts back. Raises Unavailable (``hotplug.unwritable``)."""
    try:
        for script in look(place):
            if script.vetoed and not script.problem:
                _aside(script.path).replace(script.path)
    except OSError as error:
        raise Unavailable("hotplug.unwritable", f"cannot write in {place}: {error.strerror}",
                          "run the command as root") from error
    return look(place)


def _aside(path: Path) -> Path:
    return path.with_name(path.name + _ASIDE)

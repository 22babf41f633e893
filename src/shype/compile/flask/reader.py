"""Read a binary policy back, with a program that had no part in writing it (SETools).

SETools is a Debian package for the system's own Python, so it runs there as a
child process and prints JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shype.base import child
from shype.base.errors import Internal, Unavailable

#: The interpreter for which Debian's python3-setools is installed.
INTERPRETER = Path("/usr/bin/python3")

_SCRIPT = Path(__file__).with_name("setools_reader.py")
_NO_SETOOLS = 3


@dataclass(frozen=True, slots=True)
class Access:
    """One allow rule as the binary has it.

    ``source`` and ``target`` are types or attributes.  ``condition`` is an
    index into `Binary.expressions` or -1; ``branch`` says for which value of
    the condition the rule holds.
    """

    source: str
    target: str
    cls: str
    permissions: tuple[str, ...]
    condition: int
    branch: bool


@dataclass(frozen=True, slots=True)
class Binary:
    """What a binary policy says. ``other`` lists every statement of a kind not covered here.

    ``expressions`` are conditions in postfix order; ``transitions`` map
    (source, target, class) to the new type; ``sids`` are the types of the
    initial SIDs in the hypervisor's order.
    """

    reader: str
    platform: str
    version: int
    mls: bool
    unknown: str
    classes: Mapping[str, frozenset[str]]
    types: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]]
    allows: tuple[Access, ...]
    expressions: tuple[tuple[str, ...], ...]
    transitions: Mapping[tuple[str, str, str], str]
    booleans: Mapping[str, bool]
    roles: Mapping[str, frozenset[str]]
    users: tuple[str, ...]
    sids: tuple[str, ...]
    other: tuple[str, ...]


def read(path: Path) -> Binary:
    """The policy in the file at ``path``.

    Raises `Unavailable` (``validate.no-reader``) without SETools, `Internal`
    (``validate.unreadable``) if SETools cannot read the file.
    """
    if not INTERPRETER.exists():
        raise _no_reader(f"there is no {INTERPRETER}")
    done = child.run([INTERPRETER, "-I", _SCRIPT, path], check=False, timeout=600)
    if done.code == _NO_SETOOLS:
        raise _no_reader(done.err.strip())
    if done.code != 0:
        raise Internal(
            "validate.unreadable",
            f"SETools cannot read the compiled policy back: {done.err.strip()[-1000:]}",
        )
    value = json.loads(done.out)
    return Binary(
        reader=value["reader"],
        platform=value["platform"],
        version=value["version"],
        mls=value["mls"],
        unknown=value["unknown"],
        classes={name: frozenset(perms) for name, perms in value["classes"].items()},
        types=tuple(value["types"]),
        attributes={name: tuple(types) for name, types in value["attributes"].items()},
        allows=tuple(
            Access(source, target, cls, tuple(perms), condition, branch)
            for source, target, cls, perms, condition, branch in value["allows"]
        ),
        expressions=tuple(tuple(tokens) for tokens in value["expressions"]),
        transitions={
            (source, target, cls): default for source, target, cls, default in value["transitions"]
        },
        booleans=value["booleans"],
        roles={name: frozenset(types) for name, types in value["roles"].items()},
        users=tuple(value["users"]),
        sids=tuple(value["sids"]),
        other=tuple(value["other"]),
    )


def _no_reader(why: str) -> Unavailable:
    return Unavailable(
        "validate.no-reader",
        f"the compiled policy cannot be validated: SETools is not there ({why})",
        "apt-get install python3-setools, or build with --no-validate",
    )

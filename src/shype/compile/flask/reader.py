"""Read a binary policy back, with a program that had no part in writing it (SETools).

SETools is a Debian package for the system's own Python, so it runs there as a
child process and prints JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shype.base import child
from shype.base.errors import Internal, Unavailable
from shype.compile.flask.mls import MlsRange, parse_range

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


#: An operand, operator or set of names in a constraint's expression.
Token = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What must hold for ``permissions``, in postfix order. ``kind`` plays no part for Xen."""

    kind: str
    cls: str
    permissions: frozenset[str]
    expression: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """A security context, in its parts."""

    user: str
    role: str
    type: str
    range: MlsRange


@dataclass(frozen=True, slots=True)
class ObjectContext:
    """What hardware carries: numbers ``first`` to ``last`` of a kind.

    ``kind`` is ``irq`` (GSI), ``ioport``, ``memory`` (page frames) or ``pci``
    (segment, bus, device and function in one number).
    """

    kind: str
    first: int
    last: int
    context: Context


@dataclass(frozen=True, slots=True)
class Binary:
    """What a binary policy says. ``other`` lists every statement of a kind not covered here.

    ``expressions`` are conditions in postfix order; ``transitions`` map
    (source, target, class) to the new type; ``aliases`` map other names of
    types to them; ``levels`` map a sensitivity to itself with all categories
    that it may have; ``sids`` are the contexts of the initial SIDs in the
    hypervisor's order; ``objects`` keep the order in which it looks.
    """

    reader: str
    platform: str
    version: int
    mls: bool
    unknown: str
    classes: Mapping[str, frozenset[str]]
    types: tuple[str, ...]
    aliases: Mapping[str, str]
    attributes: Mapping[str, tuple[str, ...]]
    allows: tuple[Access, ...]
    expressions: tuple[tuple[str, ...], ...]
    transitions: Mapping[tuple[str, str, str], str]
    constraints: tuple[Constraint, ...]
    booleans: Mapping[str, bool]
    roles: Mapping[str, frozenset[str]]
    users: tuple[str, ...]
    levels: Mapping[str, str]
    sensitivities: tuple[str, ...]
    categories: tuple[str, ...]
    sids: tuple[Context, ...]
    objects: tuple[ObjectContext, ...]
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
    try:
        return _binary(json.loads(done.out))
    except ValueError as error:
        raise Internal(
            "validate.unreadable", f"the compiled policy, read back, makes no sense: {error}"
        ) from error


def context(text: str) -> Context:
    """``u:r:dom0_t:s0-s1:c0``; without MLS ``u:r:dom0_t``, given as s0. Raises ValueError."""
    parts = text.split(":", 3)
    if len(parts) == 3:
        parts.append("s0")
    if len(parts) != 4:
        raise ValueError(f"not a security context: {text!r}")
    user, role, type_, levels = parts
    return Context(user, role, type_, parse_range(levels))


def _binary(value: Any) -> Binary:
    return Binary(
        reader=value["reader"],
        platform=value["platform"],
        version=value["version"],
        mls=value["mls"],
        unknown=value["unknown"],
        classes={name: frozenset(perms) for name, perms in value["classes"].items()},
        types=tuple(value["types"]),
        aliases=value["aliases"],
        attributes={name: tuple(types) for name, types in value["attributes"].items()},
        allows=tuple(
            Access(source, target, cls, tuple(perms), condition, branch)
            for source, target, cls, perms, condition, branch in value["allows"]
        ),
        expressions=tuple(tuple(tokens) for tokens in value["expressions"]),
        transitions={
            (source, target, cls): default for source, target, cls, default in value["transitions"]
        },
        constraints=tuple(
            Constraint(
                kind, cls, frozenset(perms),
                tuple(token if isinstance(token, str) else tuple(token) for token in tokens),
            )
            for kind, cls, perms, tokens in value["constraints"]
        ),
        booleans=value["booleans"],
        roles={name: frozenset(types) for name, types in value["roles"].items()},
        users=tuple(value["users"]),
        levels=value["levels"],
        sensitivities=tuple(value["sensitivities"]),
        categories=tuple(value["categories"]),
        sids=tuple(context(text) for text in value["sids"]),
        objects=tuple(
            ObjectContext(kind, first, last, context(text))
            for kind, first, last, text in value["objects"]
        ),
        other=tuple(value["other"]),
    )


def _no_reader(why: str) -> Unavailable:
    return Unavailable(
        "validate.no-reader",
        f"the compiled policy cannot be validated: SETools is not there ({why})",
        "apt-get install python3-setools, or build with --no-validate",
    )

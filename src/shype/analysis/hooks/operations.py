"""Which operations a guest can ask the hypervisor for: hypercalls and their sub-operations."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources

from shype.analysis.hooks.tree import Tree


@dataclass(frozen=True, slots=True)
class Family:
    """A hypercall and how its sub-operations are named.

    ``prefix`` empty: the hypercall has none. ``under``: the family selects among the
    sub-operations of this operation of another family (without ``prefix``: it is another way
    into that operation).
    """

    hypercall: str
    entry: str
    prefix: str = ""
    header: str = ""
    name: str = r"\w+"
    under: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """``name`` as in the public header, or the hypercall's own name. ``number``: its value."""

    name: str
    number: int | None
    family: Family


@cache
def families() -> tuple[Family, ...]:
    """All that are known, from families.json."""
    text = (resources.files(__package__) / "families.json").read_text()
    return tuple(Family(**entry) for entry in json.loads(text))


def operations(tree: Tree) -> tuple[Operation, ...]:
    """All operations that the public headers of ``tree`` define, and hypercalls without any.

    One that only selects a family of its own is left out: its members stand for it.
    """
    found: list[Operation] = []
    parents = {family.under for family in families() if family.prefix}
    for family in families():
        if family.prefix:
            defined = re.compile(
                rf"^[ \t]*#[ \t]*define[ \t]+({family.prefix}{family.name})[ \t]+"
                r"\(?(0x[0-9a-fA-F]+|\d+)[uUlL]*\)?[ \t]*(?:/\*.*|//.*)?$", re.MULTILINE,
            )
            for name, number in defined.findall(tree.public(family.header)):
                if name not in parents:
                    found.append(Operation(name, int(number, 0), family))
        elif tree.definitions.get(family.entry):
            found.append(Operation(family.hypercall, None, family))
    return tuple(found)


@cache
def family_of(name: str) -> str:
    """The longest known prefix of an operation's name; the name itself if there is none."""
    fits = [family.prefix for family in families()
            if family.prefix and re.fullmatch(family.prefix + family.name, name)]
    return max(fits, key=len, default=name)

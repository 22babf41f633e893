"""From ACM's names, which may hold anything, to names of shype's language.

The mapping is a function of the names of one kind in one policy: a name that
is valid stays, every other becomes lower case with hyphens, and if that is
taken gets a number.  So it is injective, and two versions of one policy map a
name alike unless names collide.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from shype.policy import grammar

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


def fold(text: str) -> str:
    """The valid name nearest to ``text``: ``A-Bank.MarketAnalysis`` to ``a-bank-marketanalysis``.

    Accents are dropped; other letters outside ASCII become ``u`` and their code point.
    """
    letters = []
    for letter in unicodedata.normalize("NFKD", text[:1_000].casefold()):
        if letter in _PLAIN:
            letters.append(letter)
        elif unicodedata.combining(letter):
            continue
        elif letter.isalnum() and not letter.isascii():
            letters.append(f"-u{ord(letter):x}-")
        else:
            letters.append("-")
    name = re.sub("-+", "-", "".join(letters)).strip("-")
    if not name:
        return "x"
    if name[0].isdigit():
        name = f"n-{name}"
    return name[: grammar.NAME_LIMIT].rstrip("-")


def assign(
    names: Iterable[str], fixed: Mapping[str, str] | None = None, taken: Iterable[str] = ()
) -> dict[str, str]:
    """A new name for each of ``names``, no two alike, in their order.

    ``fixed`` names have theirs; nobody else gets one of those or one of ``taken``.
    """
    fixed = fixed or {}
    old = list(dict.fromkeys(names))
    result = {name: fixed[name] for name in old if name in fixed}
    used = {*taken, *fixed.values()}
    wanted = {name: fold(name) for name in old if name not in result}
    for name, new in wanted.items():
        if name == new and new not in used:
            result[name] = new
            used.add(new)
    everybody = used | set(wanted.values())
    numbers: dict[str, int] = {}
    for name, new in wanted.items():
        if name in result:
            continue
        free = new if new not in used else _numbered(new, everybody, numbers)
        result[name] = free
        used.add(free)
        everybody.add(free)
    return {name: result[name] for name in old}


def _numbered(name: str, used: set[str], numbers: dict[str, int]) -> str:
    """``name`` with the next number that makes it new; ``numbers``: the last one of each name."""
    while True:
        numbers[name] = numbers.get(name, 1) + 1
        suffix = f"-{numbers[name]}"
        found = name[: grammar.NAME_LIMIT - len(suffix)].rstrip("-") + suffix
        if found not in used:
            return found

"""Reading the values of a manifest: each has its type, or the bundle is corrupt."""

from __future__ import annotations

import re

from shype.policy.envelope import corrupt

#: A FLASK name that the compiler makes.
WORD = re.compile(r"[a-z][a-z0-9_]{0,127}")


def mapping(value: object, where: str) -> dict[str, object]:
    """An object with text for keys."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise corrupt(f"{where} is not an object")
    return value


def record(value: object, where: str, keys: tuple[str, ...]) -> dict[str, object]:
    """An object with exactly these ``keys``."""
    found = mapping(value, where)
    if set(found) != set(keys):
        odd = sorted(set(found) ^ set(keys))
        raise corrupt(f"{where} has missing or unknown keys: {', '.join(odd)[:200]}")
    return found


def short(value: object, where: str) -> str:
    """Text that is not long."""
    if not isinstance(value, str) or len(value) > 4096:
        raise corrupt(f"{where} is not a short string")
    return value


def match(value: object, pattern: re.Pattern[str], where: str) -> str:
    """Text that ``pattern`` describes."""
    if not isinstance(value, str) or len(value) > 4096 or not pattern.fullmatch(value):
        raise corrupt(f"{where} is not well formed")
    return value


def count(value: object, where: str) -> int:
    """A whole number from 0."""
    if type(value) is not int or value < 0:
        raise corrupt(f"{where} is not a count")
    return value


def words(value: object, where: str) -> tuple[str, ...]:
    """A short list of names of booleans."""
    if not isinstance(value, list) or len(value) > 32:
        raise corrupt(f"{where} is not a short list")
    return tuple(match(bit, WORD, where) for bit in value)

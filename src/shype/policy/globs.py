"""Patterns of names: ``*``, ``?`` and ``[...]``; what they match, and whether two meet.

``*`` stands for any characters, a slash included, ``?`` for one, ``[a-z_]`` for
one of those, ``[!a-z]`` for one other.  Everything here takes time linear in
the lengths, or in their product; nothing backtracks.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TypeAlias

_LAST = 0x10FFFF
#: A character, as ranges of code points; None is ``*``.
_Token: TypeAlias = "tuple[tuple[int, int], ...] | None"
_Run: TypeAlias = "list[tuple[tuple[int, int], ...]]"


@lru_cache(maxsize=4096)
def _tokens(pattern: str) -> tuple[_Token, ...]:
    result: list[_Token] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            result.append(None)
        elif char == "?":
            result.append(((0, _LAST),))
        elif char == "[":
            end = pattern.find("]", at)
            if end < 0:
                raise ValueError("a `[` is never closed")
            result.append(_choice(pattern[at:end]))
            at = end + 1
        else:
            result.append(((ord(char), ord(char)),))
    return tuple(result)


def _choice(inside: str) -> tuple[tuple[int, int], ...]:
    """The characters that ``[inside]`` stands for."""
    negated = inside.startswith("!")
    chars = inside[1:] if negated else inside
    if not chars or chars.startswith("^"):
        raise ValueError(f"`[{inside}]` chooses from nothing; write [abc], [a-z] or [!a-z]")
    ranges = []
    at = 0
    while at < len(chars):
        low = high = ord(chars[at])
        if at + 2 < len(chars) and chars[at + 1] == "-":
            high = ord(chars[at + 2])
            at += 2
        if high < low:
            raise ValueError(f"`[{inside}]` has a range that goes downwards")
        ranges.append((low, high))
        at += 1
    if not negated:
        return tuple(ranges)
    others, start = [], 0
    for low, high in sorted(ranges):
        if low > start:
            others.append((start, low - 1))
        start = max(start, high + 1)
    if start <= _LAST:
        others.append((start, _LAST))
    if not others:
        raise ValueError(f"`[{inside}]` leaves no character")
    return tuple(others)


def check(pattern: str) -> None:
    """Raises ValueError, with the reason, if ``pattern`` is not one."""
    _tokens(pattern)


def literal(pattern: str) -> bool:
    """Whether ``pattern`` is just a name."""
    return not any(char in pattern for char in "*?[")


def matches(pattern: str, name: str) -> bool:
    """Whether the valid ``pattern`` matches ``name``."""
    return _regex(pattern).match(name) is not None


@lru_cache(maxsize=4096)
def _regex(pattern: str) -> re.Pattern[str]:
    parts = _runs(pattern)
    text = "".join(map(_class, parts[0]))
    for run in parts[1:-1]:
        # Atomic: the first place where a run fits is as good as any other.
        text += "(?>.*?" + "".join(map(_class, run)) + ")"
    if len(parts) > 1:
        text += ".*" + "".join(map(_class, parts[-1]))
    return re.compile(text + r"\Z", re.DOTALL)


def _class(token: tuple[tuple[int, int], ...]) -> str:
    return "[" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in token) + "]"


def _runs(pattern: str) -> list[_Run]:
    """What stands between the stars."""
    runs: list[_Run] = [[]]
    for token in _tokens(pattern):
        if token is None:
            runs.append([])
        else:
            runs[-1].append(token)
    return runs


def meet(a: str, b: str) -> bool:
    """Whether some name is matched by both valid patterns.

    Two patterns with a star meet if what stands before their first star agrees
    as far as both go, and likewise what stands after their last: between these,
    the stars of each can take whatever the other wants.  Without a star a
    pattern has one length, and each of its characters meets one of the other's
    or is taken by a star: leftmost first, as in matching.
    """
    known = at_once(a, b)
    if known is not None:
        return known
    first, second = _runs(a), _runs(b)
    if len(first) > 1 and len(second) > 1:
        return _agree(first[0], second[0]) and _agree(first[-1][::-1], second[-1][::-1])
    return _fits(first[0], second) if len(first) == 1 else _fits(second[0], first)


def at_once(a: str, b: str) -> bool | None:
    """What `meet` answers, if plain text at the ends of both decides it; None if it does not."""
    (head, all_head), (tail, all_tail) = _ends(a)
    (other_head, all_other_head), (other_tail, all_other_tail) = _ends(b)
    if not (head.startswith(other_head) or other_head.startswith(head)):
        return False
    if not (tail.endswith(other_tail) or other_tail.endswith(tail)):
        return False
    return True if all_head and all_other_head and all_tail and all_other_tail else None


def cost(a: str, b: str) -> int:
    """How many steps `meet` takes at most, if `at_once` does not know."""
    return len(a) * len(b) if "*" not in a or "*" not in b else len(a) + len(b)


@lru_cache(maxsize=4096)
def _ends(pattern: str) -> tuple[tuple[str, bool], tuple[str, bool]]:
    """Plain text before and after all else, and whether that else begins or ends with a star."""
    head, tail = re.split(r"[*?\[]", pattern, maxsplit=1)[0], re.split(r"[*?\]]", pattern)[-1]
    after, before = pattern[len(head):], pattern[: len(pattern) - len(tail)]
    return (head, after.startswith("*")), (tail, before.endswith("*"))


def _agree(a: _Run, b: _Run) -> bool:
    return all(_share(x, y) for x, y in zip(a, b, strict=False))


def _share(x: tuple[tuple[int, int], ...], y: tuple[tuple[int, int], ...]) -> bool:
    return any(low <= top and bottom <= high for low, high in x for bottom, top in y)


def _fits(fixed: _Run, runs: list[_Run]) -> bool:
    """Whether ``fixed``, which has no star, meets the pattern of ``runs``."""
    if len(runs) == 1:
        return len(fixed) == len(runs[0]) and _agree(fixed, runs[0])
    head, *middle, tail = runs
    start, end = len(head), len(fixed) - len(tail)
    if start > end or not (_agree(fixed[:start], head) and _agree(fixed[end:], tail)):
        return False
    for run in middle:
        while not (start + len(run) <= end and _agree(fixed[start : start + len(run)], run)):
            start += 1
            if start + len(run) > end:
                return False
        start += len(run)
    return True

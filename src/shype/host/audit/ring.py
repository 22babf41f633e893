"""What is new in a ring of lines that has no numbers and no times: Xen's console.

The ring is read as a whole each time, and it may have dropped old lines meanwhile (the first
one it shows may be cut). Identical lines cannot be told apart, so where more than one answer
fits, the one with the fewest new lines is taken, and said to be the least.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

#: Lines that are remembered, from the end.
_TAIL = 400
#: From so many lines on, a ring with nothing but one pattern is called full of it. (Xen's least
#: ring, 16 KiB, has some hundred denials.)
_FLOOD = 50
#: By so many characters the size of a ring may differ that drops whole lines.
_LINE = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """A ring as it was: how many lines and characters, the digest of all lines, and of each of
    the last ones."""

    count: int = 0
    size: int = 0
    whole: str = ""
    tail: tuple[str, ...] = ()

    @classmethod
    def of(cls, lines: Sequence[str]) -> Seen:
        """``lines`` as they are now."""
        return cls(len(lines), _size(lines), _digest("\n".join(lines)),
                   tuple(map(_digest, lines[-_TAIL:])))


@dataclass(frozen=True, slots=True)
class News:
    """The lines from ``start`` on are new. ``gap``: nothing is left of what was seen before.

    ``least``: there may have been more of the same.
    """

    start: int
    gap: bool = False
    least: bool = False


def news(seen: Seen, lines: Sequence[str]) -> News:
    """What of ``lines`` came after ``seen``."""
    if not seen.count:
        return News(0)
    now = list(map(_digest, lines))
    fits = _ends(seen.tail, now)
    if seen.count <= len(lines) and _digest("\n".join(lines[:seen.count])) == seen.whole:
        # Nothing was dropped; but a ring that is full of one pattern looks so, too, whatever came.
        # (One that is not has Xen's first words at its beginning; else it is the end of a line.)
        least = any(
            _FLOOD <= end <= len(seen.tail) and end < seen.count
            and lines[seen.count - end].endswith(lines[0]) for end in fits)
        return News(seen.count, least=least)
    # A ring only grows until it is full: one that shrank was cleared, whatever it shows again.
    if not fits or _size(lines) < seen.size - _LINE:
        return News(0, gap=True)
    return News(fits[0], least=len(fits) > 1)


def _ends(tail: Sequence[str], now: Sequence[str]) -> list[int]:
    """Where in ``now`` the tail may end, latest first, two at most."""
    found = []
    for end in range(len(now), 0, -1):
        begin = end - len(tail)
        # The first line that is shown may be the rest of one.
        kept = now[begin:end] if begin > 0 else now[1:end]
        if kept and kept == list(tail[-len(kept):]):
            found.append(end)
            if len(found) == 2:
                break
    return found


def _size(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]

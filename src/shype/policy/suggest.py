"""Did you mean ...?"""

from __future__ import annotations

import difflib
from collections.abc import Collection

#: Comparisons that one run may spend, of up to 30 microseconds each: a file full of unknown
#: names must not take longer than one full of known ones.
_BUDGET = 8_000


class Suggester:
    """Finds the name nearest to a misspelled one, within a budget of comparisons."""

    def __init__(self) -> None:
        self._left = _BUDGET

    def nearest(self, word: str, names: Collection[str]) -> str | None:
        """The name most like ``word``, or None if none is like it (or the budget is spent)."""
        if len(word) > 100 or len(names) > self._left:
            return None
        self._left -= len(names)
        folded = word.lower().replace("_", "-")
        if folded in names:
            return folded
        found = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        return found[0] if found else None

    def fix(self, word: str, names: Collection[str], otherwise: str) -> str:
        """The sentence for a fix: the nearest name if there is one, and ``otherwise``."""
        near = self.nearest(word, names)
        return f"did you mean `{near}`? otherwise {otherwise}" if near else otherwise

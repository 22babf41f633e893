"""Finds function definitions in C text by layout, without parsing them.

Xen writes the braces of a function in column 0 (or, in files taken from Linux, opens them at
the end of the line). So a whole tree is indexed by regular expressions in seconds, each body is
parsed only when the analysis reaches it, and what a parser cannot read in one function does no
harm to the next.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_OPEN = re.compile(r"^(?:\{|[A-Za-z_][^\n;#{}]*\)[ \t]*\{[ \t]*$)", re.MULTILINE)
_HEAD = re.compile(r"(\w+)[ \t]*\(((?:[^(){};#]|\((?:[^(){};]|\([^(){};]*\))*\))*)\)\s*$")
_START = re.compile(r"[;}\n][ \t]*\n|^[ \t]*#[^\n]*\n", re.MULTILINE)
_RENAMED = re.compile(r"\bDO(\s*)\(\s*(\w+)\s*\)")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)\(([^)]*)\)((?:.*\\\n)*.*)", re.MULTILINE)
_LONG_MACRO = re.compile(r"^[ \t]*#[ \t]*define(?:.*\\\n)+.*", re.MULTILINE)
_NOT_NAMES = frozenset({"if", "while", "for", "switch", "return", "sizeof", "do", "else", "case"})
_CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
_WORD = re.compile(r"\b[A-Za-z_]\w*\b")


@dataclass(frozen=True, slots=True)
class Definition:
    """A function's text. ``file`` is relative to ``xen/``; ``line`` is where ``text`` starts."""

    name: str
    file: Path
    line: int
    text: str

    @property
    def callees(self) -> frozenset[str]:
        """Names that stand before an opening parenthesis, keywords and itself excluded."""
        return frozenset(_CALL.findall(self.text)) - _NOT_NAMES - {self.name}

    @property
    def words(self) -> frozenset[str]:
        """All identifiers of the text."""
        return frozenset(_WORD.findall(self.text))


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def without_comments(text: str) -> str:
    """``text`` with comments blanked; as long, with the same lines."""
    return _COMMENT.sub(_blank, text)


def definitions(text: str, file: Path) -> Iterator[Definition]:
    """Function definitions of ``text``; their text has no comments."""
    text = _RENAMED.sub(lambda m: f"do_{m[2]}".ljust(len(m[0])), without_comments(text))
    text = _LONG_MACRO.sub(_blank, text)  # it may hold a brace in column 0
    newlines = [at.start() for at in re.finditer("\n", text)]
    done = 0
    for match in _OPEN.finditer(text):
        opening = match.end() - 1 if match[0] == "{" else text.rindex("{", 0, match.end())
        if match.start() < done:
            continue
        before = text[max(done, opening - 1500) : opening]
        starts = list(_START.finditer(before.rstrip()))
        head = before[starts[-1].end() :] if starts else before
        head = re.sub(r"\A(?:[ \t]*\n)+", "", head)
        named = _HEAD.search(head)
        if named is None or named[1] in _NOT_NAMES or head[:1] in " \t":
            continue
        end = text.find("\n}", opening)
        end = len(text) if end < 0 else end + 2
        line = bisect_right(newlines, opening - len(head) - 1) + 1
        typed = head if head[: head.rindex(named[0])].strip() else "long " + head
        yield Definition(named[1], file, line, typed + text[opening:end])
        done = end


def macros(text: str, file: Path, wanted: re.Pattern[str]) -> Iterator[Definition]:
    """Function-like macros whose body matches ``wanted``, each as a function of that name."""
    text = without_comments(text)
    for match in _MACRO.finditer(text):
        if wanted.search(match[3]):
            body = match[3].replace("\\\n", " \n")
            parameters = ", ".join(f"int {p.strip()}" for p in match[2].split(",") if p.strip())
            yield Definition(
                match[1], file, text.count("\n", 0, match.start()) + 1,
                f"void {match[1]}({parameters.replace('int ...', '...')}) {{ {body}; }}",
            )

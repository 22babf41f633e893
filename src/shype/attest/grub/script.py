"""GRUB's script language, as far as boot configurations use it (GRUB manual 2.06, section 6.1).

Commands, assignments, quotes, variables, ``if``, ``function`` and the blocks of menu entries.
Anything else is refused (``reference.grub-script``): a prediction that guesses would be worse
than none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from shype.base.errors import BadInput

_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*|\?)\}|([A-Za-z_][A-Za-z0-9_]*|\?))")
_RESERVED = frozenset(("if", "then", "elif", "else", "fi", "function"))
_REFUSED = frozenset(("for", "while", "until", "select", "case", "do", "done", "in", "[[", "time"))
#: Deepest nesting of blocks and conditions.
_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a word: literal text, or the name of a ``variable``."""

    text: str
    variable: bool
    quoted: bool


@dataclass(frozen=True, slots=True)
class Word:
    """One word before its variables are replaced."""

    pieces: tuple[Piece, ...]

    def expand(self, value: Callable[[str], str]) -> list[str]:
        """The words that it becomes: an unquoted variable is split at blanks, as GRUB does."""
        words: list[str] = []
        open_word: str | None = None
        for piece in self.pieces:
            text = value(piece.text) if piece.variable else piece.text
            if piece.quoted or not piece.variable:
                open_word = (open_word or "") + text
                continue
            parts = re.split(r"[ \t\n]+", text)
            for number, part in enumerate(parts):
                if number and open_word is not None:
                    words.append(open_word)
                    open_word = None
                if part:
                    open_word = (open_word or "") + part
        return words if open_word is None else [*words, open_word]


@dataclass(frozen=True, slots=True)
class Command:
    """A command or an assignment; ``block`` is the source of its braces, as GRUB keeps it."""

    words: tuple[Word, ...]
    block: str | None
    line: int


@dataclass(frozen=True, slots=True)
class If:
    """Conditions with what follows them, and what follows if none holds."""

    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script


@dataclass(frozen=True, slots=True)
class Function:
    """A definition."""

    name: str
    body: Script


Script = tuple[Command | If | Function, ...]


def parse(text: str, name: str) -> Script:
    """The script in the file ``name``. Raises BadInput (``reference.grub-script``)."""
    return _Parser(text, name).statements(frozenset(), 0)


@dataclass(slots=True)
class _Parser:
    text: str
    name: str
    at: int = 0

    def unknown(self, problem: str) -> BadInput:
        line = self.text.count("\n", 0, self.at) + 1
        return BadInput(
            "reference.grub-script", f"{self.name}:{line}: {problem}",
            "what GRUB would do here is not predicted; write it with commands and `if` only, or "
            "leave it out (for Debian: GRUB_TERMINAL=console in /etc/default/grub)")

    def blanks(self, *, lines: bool) -> None:
        """Skip blanks and comments, with ``lines`` also the ends of statements."""
        while self.at < len(self.text):
            if self.text.startswith("\\\n", self.at):
                self.at += 2
            elif self.text[self.at] in (" \t\r\n;" if lines else " \t\r"):
                self.at += 1
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def plain(self) -> str:
        """The unquoted word that begins here, without reading it."""
        match = re.compile(r"[^\s;\"'$\\]*").match(self.text, self.at)
        assert match is not None
        return match[0]

    def statements(self, ends: frozenset[str], depth: int) -> Script:
        """Until one of the words ``ends``, which is left; or until the end of the text."""
        if depth > _DEPTH:
            raise self.unknown("it is nested too deeply")
        found: list[Command | If | Function] = []
        while True:
            self.blanks(lines=True)
            word = self.plain()
            if word in ends or self.at >= len(self.text):
                if ends and word not in ends:
                    raise self.unknown(f"the file ends before {' or '.join(sorted(ends))}")
                return tuple(found)
            if word == "if":
                found.append(self.condition(depth))
            elif word == "function":
                found.append(self.function(depth))
            elif word in _RESERVED or word in _REFUSED or word in ("{", "}", "!"):
                raise self.unknown(f"`{word}` here")
            else:
                found.append(self.command(depth))

    def keyword(self, *words: str) -> str:
        self.blanks(lines=True)
        word = self.plain()
        if word not in words:
            raise self.unknown(f"{' or '.join(words)} expected")
        self.at += len(word)
        return word

    def condition(self, depth: int) -> If:
        branches: list[tuple[Script, Script]] = []
        word = self.keyword("if")
        while word in ("if", "elif"):
            asked = self.statements(frozenset(("then",)), depth + 1)
            self.keyword("then")
            body = self.statements(frozenset(("elif", "else", "fi")), depth + 1)
            branches.append((asked, body))
            word = self.keyword("elif", "else", "fi")
        otherwise: Script = ()
        if word == "else":
            otherwise = self.statements(frozenset(("fi",)), depth + 1)
            self.keyword("fi")
        return If(tuple(branches), otherwise)

    def function(self, depth: int) -> Function:
        self.keyword("function")
        self.blanks(lines=False)
        name = self.plain()
        self.at += len(name)
        self.keyword("{")
        body = self.statements(frozenset("}"), depth + 1)
        self.keyword("}")
        return Function(name, body)

    def command(self, depth: int) -> Command:
        line = self.text.count("\n", 0, self.at) + 1
        words: list[Word] = []
        block = None
        while True:
            self.blanks(lines=False)
            if self.at >= len(self.text) or self.text[self.at] in "\n;":
                break
            rest = self.plain()
            if rest == "}":
                break
            if block is not None:
                raise self.unknown("words after a block")
            if rest == "{":
                block = self.block(depth)
            else:
                words.append(self.word())
        if not words:
            raise self.unknown("a block without a command")
        return Command(tuple(words), block, line)

    def block(self, depth: int) -> str:
        begin = self.at
        self.keyword("{")
        self.statements(frozenset("}"), depth + 1)
        self.keyword("}")
        return self.text[begin:self.at]

    def word(self) -> Word:
        pieces: list[Piece] = []
        while self.at < len(self.text) and self.text[self.at] not in " \t\r\n;":
            char = self.text[self.at]
            if char == "'":
                end = self.text.find("'", self.at + 1)
                if end < 0:
                    raise self.unknown("a quote is not closed")
                pieces.append(Piece(self.text[self.at + 1:end], False, True))
                self.at = end + 1
            elif char == '"':
                self.at += 1
                self.double(pieces)
            elif char == "$":
                pieces.append(self.variable(quoted=False))
            elif char == "\\":
                if not self.text.startswith("\\\n", self.at):
                    pieces.append(Piece(self.text[self.at + 1:self.at + 2], False, True))
                self.at += 2
            elif char in "&|<>*?()" and not self.device():
                raise self.unknown(f"`{char}` without quotes")
            else:
                pieces.append(Piece(char, False, False))
                self.at += 1
        return Word(tuple(pieces))

    def device(self) -> bool:
        """Parentheses stand around a device, and are plain there: ``(hd0,gpt1)/grub``."""
        return self.text[self.at] in "()"

    def double(self, pieces: list[Piece]) -> None:
        """What is between double quotes, after the first of them."""
        pieces.append(Piece("", False, True))
        while True:
            if self.at >= len(self.text):
                raise self.unknown("a quote is not closed")
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return
            if char == "$":
                pieces.append(self.variable(quoted=True))
            elif char == "\\" and self.text[self.at + 1:self.at + 2] in ('"', "$", "\\", "\n"):
                following = self.text[self.at + 1]
                pieces.append(Piece("" if following == "\n" else following, False, True))
                self.at += 2
            else:
                pieces.append(Piece(char, False, True))
                self.at += 1

    def variable(self, *, quoted: bool) -> Piece:
        match = _VARIABLE.match(self.text, self.at)
        if match is None:
            raise self.unknown("a `$` that begins no variable's name")
        self.at = match.end()
        return Piece(match[1] or match[2], True, quoted)

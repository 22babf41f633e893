"""A VM's configuration as xl reads it, read without xl and never executed.

The grammar is that of libxlutil (xl.cfg(5); tools/libs/util/libxlu_cfg_y.y):
assignments of strings, numbers and lists of them, one in a line or separated by
semicolons; a later one replaces an earlier one, ``+=`` adds to it.  Anything
else is an error with its line, because what is not understood may name a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from shype.base.errors import BadInput
from shype.policy.model import ResourceKind

Value: TypeAlias = "str | list[Value]"

#: Nesting of lists; xl has one level and two for a few keys.
DEPTH_LIMIT = 8
SIZE_LIMIT = 1024 * 1024

_TOKEN = re.compile(r"""
    (?P<blank>[ \t\r\f]+|\#[^\n]*)
  | (?P<newline>\n|;)
  | (?P<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[0-9][0-9A-Fa-fx]*)
  | (?P<mark>\+=|[=\[\],])
""", re.VERBOSE)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def parse(text: str) -> dict[str, Value]:
    """The assignments in ``text``. Raises BadInput ``config.syntax`` with the line."""
    if len(text) > SIZE_LIMIT:
        raise BadInput("config.syntax", "the configuration is larger than 1 MiB", _IS_IT)
    return _Parser(text).run()


_IS_IT = "check that this is a VM's configuration for xl"


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def run(self) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while True:
            while self._is("newline"):
                self._at += 1
            if self._is("end"):
                return found
            name = self._take("name").text
            operator = self._tokens[self._at]
            if operator.text not in ("=", "+="):
                raise _syntax(operator)
            self._at += 1
            value = self._value(0)
            before = found.get(name)
            if operator.text == "+=" and before is not None:
                value = _sum(before, value, operator)
            found[name] = value
            if not self._is("end"):
                self._take("newline")

    def _is(self, kind: str) -> bool:
        return self._tokens[self._at].kind == kind

    def _take(self, kind: str) -> _Token:
        token = self._tokens[self._at]
        if token.kind != kind:
            raise _syntax(token)
        self._at += 1
        return token

    def _value(self, depth: int) -> Value:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "string":
            return _unquoted(token.text)
        if token.kind == "number":
            return token.text
        if token.text != "[" or token.kind != "mark" or depth >= DEPTH_LIMIT:
            raise _syntax(token)
        items: list[Value] = []
        while True:
            self._lines()
            if self._tokens[self._at].text == "]" and self._is("mark"):
                self._at += 1
                return items
            items.append(self._value(depth + 1))
            self._lines()
            token = self._take("mark")
            if token.text == "]":
                return items
            if token.text != ",":
                raise _syntax(token)

    def _lines(self) -> None:
        while self._is("newline") and self._tokens[self._at].text == "\n":
            self._at += 1


def _sum(before: Value, more: Value, operator: _Token) -> Value:
    if isinstance(before, list) and isinstance(more, list):
        return before + more
    if isinstance(before, str) and isinstance(more, str):
        return before + more
    raise _syntax(operator)


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _syntax(_Token("other", text[at : at + 10].split("\n")[0], line))
        kind = str(match.lastgroup)
        if kind != "blank":
            yield _Token(kind, match[0], line)
        line += match[0].count("\n")
        at = match.end()
    yield _Token("end", "", line)


def _unquoted(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        word = match[1]
        return _ESCAPES.get(word, word) if not word[0].isdigit() else chr(int(word, 8) & 0xFF)

    return re.sub(r"\\([0-7]{1,3}|.)", one, text[1:-1], flags=re.DOTALL)


def _syntax(token: _Token) -> BadInput:
    what = repr(token.text) if token.text.strip() else "the end of the line or file"
    return BadInput(
        "config.syntax", f"line {token.line}: {what} is not understood here",
        "a configuration has KEY = VALUE, where VALUE is a string, a number or a list of them",
    )


# -- what it uses -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """A resource that a VM's configuration names. ``write``: not only to read."""

    kind: ResourceKind
    name: str
    write: bool


def words(config: dict[str, Value], key: str) -> list[str]:
    """A key's list of strings (or its one string). Raises BadInput ``config.value``."""
    value = config.get(key, [])
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in items):
        raise _value(key, "a list of strings")
    return [item for item in items if isinstance(item, str)]


def word(config: dict[str, Value], key: str) -> str | None:
    """A key's string, None if it is missing or empty. Raises BadInput ``config.value``."""
    value = config.get(key)
    if isinstance(value, list):
        raise _value(key, "one string")
    return value or None


def uses(config: dict[str, Value]) -> tuple[Use, ...]:
    """The disks, networks and devices that a configuration names, in its order.

    Raises BadInput ``config.value`` for one that is not understood.
    """
    found = [use for text in words(config, "disk") for use in _disk(text)]
    found += [_network(text) for text in words(config, "vif")]
    for text in words(config, "pci"):
        found.append(Use(ResourceKind.PCI, _pci(text), True))
    for text in words(config, "irqs"):
        found.append(Use(ResourceKind.IRQ, text, True))
    for text in words(config, "ioports"):
        found.append(Use(ResourceKind.IOPORT, _range(text), True))
    for text in words(config, "iomem"):
        found.append(Use(ResourceKind.MEMORY, _pages(text), True))
    return tuple(found)


_FORMATS = ("raw", "qcow", "qcow2", "vhd", "qed", "tap", "tap2", "aio", "file", "phy", "ioemu")
_ACCESS = {"r": False, "ro": False, "w": True, "rw": True, "!": True, "w!": True}


def _disk(text: str) -> Iterator[Use]:
    """A disk specification: ``TARGET,FORMAT,VDEV,ACCESS`` or with keys (xl-disk-configuration)."""
    target, write, cdrom = "", True, False
    head, key, rest = text.partition("target=")
    if key and (not head or head.rstrip().endswith(",")):
        target = rest.strip()  # it must be the last, and may have commas
        parts = head.split(",")
    else:
        parts = text.split(",")
        target = parts.pop(0).strip() if "=" not in parts[0] else ""
    for part in map(str.strip, parts):
        name, equals, value = part.partition("=")
        if (equals and name == "access") or (not equals and name in _ACCESS):
            access = value if equals else name
            if access not in _ACCESS:
                raise _value("disk", "an access of r or w")
            write = _ACCESS[access]
        cdrom = cdrom or part in ("cdrom", "devtype=cdrom") or part.endswith(":cdrom")
    while (prefix := target.partition(":"))[0] in _FORMATS and prefix[1]:
        target = prefix[2]
    if target:  # a CD drive may be empty
        yield Use(ResourceKind.DISK, target, write and not cdrom)
    elif not cdrom:
        raise _value("disk", "a target for each disk")


def _network(text: str) -> Use:
    keys = dict(part.strip().partition("=")[::2] for part in text.split(","))
    return Use(ResourceKind.NETWORK, keys.get("bridge", "xenbr0"), True)


def _pci(text: str) -> str:
    address = text.split(",")[0].strip()
    bare = address.partition("=")[2] if address.startswith("bdf=") else address
    bare = re.sub(r"@[0-9A-Fa-f]+$", "", bare)
    return bare if bare.count(":") == 2 else f"0000:{bare}"


def _range(text: str) -> str:
    """``2f8-2ff`` or ``3f8``, hexadecimal."""
    ends = text.strip().split("-")
    if len(ends) > 2 or not all(re.fullmatch("(0x)?[0-9A-Fa-f]{1,4}", end) for end in ends):
        raise _value("ioports", "ports like 2f8-2ff, in hexadecimal")
    return "-".join(f"{int(end, 16):#x}" for end in ends)


def _pages(text: str) -> str:
    """``START,COUNT[@GFN]``: pages, hexadecimal."""
    match = re.fullmatch("(?:0x)?([0-9A-Fa-f]{1,13}),(?:0x)?([0-9A-Fa-f]{1,13})(?:@.*)?",
                         text.strip())
    if match is None or int(match[2], 16) == 0:
        raise _value("iomem", "pages like fed40,1, in hexadecimal")
    start, count = int(match[1], 16), int(match[2], 16)
    return f"{start * 4096:#x}-{(start + count) * 4096 - 1:#x}"


def _value(key: str, wanted: str) -> BadInput:
    return BadInput("config.value", f"`{key}` must have {wanted}", "see xl.cfg(5)")

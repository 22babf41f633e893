"""Reading JSON values that are trusted in nothing: each has its type, or all is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, TypeVar

from shype.base.errors import BadInput
from shype.policy import grammar
from shype.policy.source import Span

_K = TypeVar("_K", bound=str)
_V = TypeVar("_V")


def corrupt(reason: str) -> NoReturn:
    """Refuse it all. Raises BadInput (``bundle.corrupt``)."""
    raise BadInput(
        "bundle.corrupt",
        f"the compiled policy is damaged: {reason}",
        "build the bundle again with `shype build` and copy it whole",
    )


def obj(value: object, where: str, *keys: str) -> Mapping[str, object]:
    """An object with exactly these ``keys``."""
    if not isinstance(value, dict):
        corrupt(f"{where} is not an object")
    if value.keys() != set(keys):
        corrupt(f"{where} must have exactly the keys {', '.join(keys)}")
    return value


def items(value: object, where: str) -> list[object]:
    """A list."""
    if not isinstance(value, list):
        corrupt(f"{where} is not a list")
    return value


def text(value: object, where: str) -> str:
    """Text that is valid Unicode."""
    if not isinstance(value, str):
        corrupt(f"{where} is not text")
    try:
        value.encode()
    except UnicodeEncodeError:
        corrupt(f"{where} is not valid Unicode")
    return value


def flag(value: object, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        corrupt(f"{where} is not true or false")
    return value


def number(value: object, where: str) -> int:
    """A whole number from 0."""
    if type(value) is not int or value < 0:
        corrupt(f"{where} is not a whole number from 0")
    return value


def spelled(value: object, where: str, rule: Callable[[str], bool]) -> str:
    """Text that is spelled by ``rule``."""
    found = text(value, where)
    if not rule(found):
        corrupt(f"{where} holds {found[:60]!r}, which is not spelled as it must be")
    return found


def name(value: object, where: str) -> str:
    """A name."""
    return spelled(value, where, grammar.is_name)


def name_or_none(value: object, where: str) -> str | None:
    """A name, or null."""
    return None if value is None else name(value, where)


def names(value: object, where: str) -> list[str]:
    """A set of names: sorted, each once."""
    found = [name(item, where) for item in items(value, where)]
    if found != sorted(set(found)):
        corrupt(f"{where} is not sorted or names something twice")
    return found


def order(value: object, where: str) -> tuple[str, ...]:
    """Names in an order that means something, each once."""
    found = tuple(name(item, where) for item in items(value, where))
    if len(set(found)) != len(found):
        corrupt(f"{where} names something twice")
    return found


def keyed(
    value: object, where: str, read: Callable[[object, str], _V], key: Callable[[_V], _K]
) -> dict[_K, _V]:
    """A list of entries as a mapping by their ``key``, of which each occurs once."""
    entries: Iterable[_V] = (
        read(item, f"{where}[{index}]") for index, item in enumerate(items(value, where))
    )
    result: dict[_K, _V] = {}
    for entry in entries:
        if key(entry) in result:
            corrupt(f"{where} has two entries named `{key(entry)}`")
        result[key(entry)] = entry
    return result


def span_out(span: Span) -> list[object]:
    """A span as ``[file, line, column]``."""
    return [span.file, span.line, span.column]


def span(value: object, where: str) -> Span:
    """What `span_out` wrote."""
    parts = items(value, f"{where}.span")
    if len(parts) != 3:
        corrupt(f"{where}.span is not [file, line, column]")
    file, line, column = parts
    if type(line) is not int or type(column) is not int or line < 1 or column < 1:
        corrupt(f"{where}.span has no line and column from 1")
    return Span(text(file, f"{where}.span"), line, column)

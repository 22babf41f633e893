"""YAML with positions: a small tree in which every key and value knows its span.

Built in one pass from the parser's events (libyaml's if PyYAML has it) and not
from PyYAML's nodes, because its composer recurses, and because limits on depth
and on what aliases multiply must hold *before* anything is built.  Of YAML only
what a policy needs is accepted: one document, text keys, no tags, no merge keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import yaml
from yaml.resolver import Resolver

from shype.policy.findings import Id, error, show
from shype.policy.source import Finding, Span

#: Nesting that a policy may have; the language needs five levels.
DEPTH_LIMIT = 32
#: Values in a document, aliases expanded: a policy of 5,000 labels has about 50,000.
VALUE_LIMIT = 250_000
#: A longer text may have more, in proportion: one for so many characters (a label takes five each).
CHARACTERS_PER_VALUE = 4

_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
#: `level: secret {crew}` inside {...}: the commonest slip of the pen with levels.
_BARE_LEVEL = re.compile(r"\b(level|integrity): ([a-z][a-z0-9-]* \{[^{}]*\})")
_INTEGER = re.compile(r"0|[1-9][0-9]{0,17}")
#: Tags that change nothing: they name what the node is anyway.
_HARMLESS = {"scalar": ("!", f"{_TAG}str"), "sequence": ("!", f"{_TAG}seq"),
             "mapping": ("!", f"{_TAG}map")}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A leaf: what the file says, without quotes, and what YAML takes it for.

    ``kind`` is ``str``, ``int``, ``bool``, ``null``, ``float``, ``timestamp``...
    """

    span: Span
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    span: Span
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys with values, in the order of the file, each key once."""

    span: Span
    entries: tuple[tuple[Scalar, Node], ...]

    def get(self, key: str) -> Node | None:
        """The value under ``key``."""
        return next((value for name, value in self.entries if name.text == key), None)

    def key(self, key: str) -> Scalar | None:
        """The key itself, for its span."""
        return next((name for name, _ in self.entries if name.text == key), None)


Node: TypeAlias = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Source:
    """What was read: the tree as far as there is one, and what was wrong with it as YAML."""

    root: Node | None
    findings: tuple[Finding, ...]


class _Stop(Exception):
    """Reading on makes no sense; carries the last finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__()
        self.finding = finding


@dataclass(slots=True)
class _Frame:
    """A collection that is being read."""

    span: Span
    anchor: str | None
    is_mapping: bool
    seen: dict[str, Span] = field(default_factory=dict)
    items: list[Node] = field(default_factory=list)
    entries: list[tuple[Scalar, Node]] = field(default_factory=list)
    key: Node | None = None
    size: int = 1


def parse(text: str, file: str, parser: type = _PARSER) -> Source:
    """Read ``text``. Never raises; all positions carry ``file`` as the file's name."""
    reader = _Reader(file, max(VALUE_LIMIT, len(text) // CHARACTERS_PER_VALUE))
    try:
        for event in yaml.parse(text, Loader=parser):
            if reader.document_ended(event):
                break
            reader.take(event)
    except _Stop as stop:
        return Source(None, (*reader.findings, stop.finding))
    except yaml.YAMLError as problem:
        return Source(None, (*reader.findings, _syntax(problem, text, file)))
    nothing = reader.root is None or (
        isinstance(reader.root, Scalar) and reader.root.kind == "null"
    )
    if nothing and not reader.findings:
        empty = error(Id.FILE_EMPTY, Span(file, 1, 1), "there is nothing in the file",
                      "a policy starts with `shype: 1` (see examples/banks.yaml), a file of "
                      "assertions with `shype-assert: 1`, one of tests with `shype-test: 1`")
        return Source(None, (empty,))
    return Source(reader.root, tuple(reader.findings))


class _Reader:
    """Turns events into the tree."""

    def __init__(self, file: str, value_limit: int) -> None:
        self.root: Node | None = None
        self.findings: list[Finding] = []
        self._file = file
        self._documents = 0
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._values = 0
        self._value_limit = value_limit
        self._resolver = Resolver()

    def document_ended(self, event: yaml.Event) -> bool:
        """Whether ``event`` starts a second document (which is reported and not read)."""
        if not isinstance(event, yaml.DocumentStartEvent):
            return False
        self._documents += 1
        if self._documents == 1:
            return False
        self._report(Id.YAML_DOCUMENTS, self._span(event), "a second YAML document starts here",
                     "keep one policy in one file: delete this `---` and what follows")
        return True

    def take(self, event: yaml.Event) -> None:
        """One more event."""
        if isinstance(event, yaml.ScalarEvent):
            self._count(1, event)
            scalar = self._scalar(event)
            self._attach(scalar, 1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._open(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._close()

    def _span(self, event: yaml.Event) -> Span:
        mark = event.start_mark
        assert mark is not None  # only tokens made by hand have none
        return Span(self._file, mark.line + 1, mark.column + 1)

    def _report(self, id: Id, span: Span, message: str, fix: str) -> None:
        self.findings.append(error(id, span, message, fix))

    def _count(self, size: int, event: yaml.Event) -> None:
        self._values += size
        if self._values > self._value_limit:
            raise _Stop(error(
                Id.YAML_TOO_MANY, self._span(event),
                f"the policy has more than {self._value_limit} values, aliases expanded",
                "write the values out instead of multiplying them with aliases (`*name`)",
            ))

    def _check_tag(self, event: yaml.Event, kind: str, tag: str | None) -> None:
        if tag is not None and tag not in _HARMLESS[kind]:
            name = tag.replace(_TAG, "!!")
            self._report(Id.YAML_TAG, self._span(event), f"the tag {show(name)} is not allowed",
                         "delete the tag: a policy has only text, lists and mappings")

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        self._check_tag(event, "scalar", event.tag)
        kind = "str"
        if event.tag is None and event.implicit[0]:
            tag = self._resolver.resolve(  # type: ignore[no-untyped-call]
                yaml.ScalarNode, event.value, (True, False)
            )
            kind = str(tag).removeprefix(_TAG)
            if kind == "int" and _INTEGER.fullmatch(event.value) is None:
                kind = "number"  # octal, sexagesimal and the like: never what is meant
            elif kind == "value":  # a plain `=`
                kind = "str"
        return Scalar(self._span(event), event.value, kind)

    def _alias(self, event: yaml.AliasEvent) -> None:
        span, anchor = self._span(event), str(event.anchor)
        if any(frame.anchor == anchor for frame in self._frames):
            raise _Stop(error(
                Id.YAML_ALIAS_RECURSIVE, span,
                f"the alias {show('*' + anchor)} stands inside the value that it repeats",
                "write the value out",
            ))
        if anchor not in self._anchors:
            raise _Stop(error(
                Id.YAML_ALIAS_UNKNOWN, span,
                f"the alias {show('*' + anchor)} repeats a value that is not defined above",
                f"write `&{anchor}` in front of the value, or the value itself here; "
                "a text that starts with `*` needs quotes",
            ))
        node, size = self._anchors[anchor]
        self._count(size, event)
        self._attach(replace(node, span=span), size, None)

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._count(1, event)
        self._check_tag(event, "mapping" if is_mapping else "sequence", event.tag)
        if len(self._frames) >= DEPTH_LIMIT:
            raise _Stop(_too_deep(self._span(event)))
        self._frames.append(_Frame(self._span(event), event.anchor, is_mapping))

    def _close(self) -> None:
        frame = self._frames.pop()
        node: Node = (
            Mapping(frame.span, tuple(frame.entries))
            if frame.is_mapping
            else Sequence(frame.span, tuple(frame.items))
        )
        self._attach(node, frame.size, frame.anchor)

    def _attach(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if not self._frames:
            self.root = node
            return
        frame = self._frames[-1]
        frame.size += size
        if not frame.is_mapping:
            frame.items.append(node)
        elif frame.key is None:
            frame.key = node
        else:
            key, frame.key = frame.key, None
            self._entry(frame, key, node)

    def _entry(self, frame: _Frame, key: Node, value: Node) -> None:
        if not isinstance(key, Scalar):
            self._report(Id.YAML_KEY_TYPE, key.span, "a list or mapping cannot be a key",
                         "write a name as the key")
            return
        if key.kind == "merge":
            self._report(Id.YAML_MERGE_KEY, key.span, "the merge key `<<` is not allowed",
                         "write the entries out, so that each label shows all that it may do")
            return
        if key.text in frame.seen:
            self._report(Id.YAML_DUPLICATE_KEY, key.span,
                         f"the key {show(key.text)} stands here a second time "
                         f"(first in line {frame.seen[key.text].line})",
                         "keep one of the two")
            return
        if key.kind != "str":
            self._report(Id.YAML_KEY_TYPE, key.span,
                         f"the key {show(key.text)} without quotes is {describe(key)} in YAML, "
                         "not text",
                         f'write it in quotes: "{key.text}"' if key.text else "write a name")
        frame.seen[key.text] = key.span
        frame.entries.append((key, value))


def describe(node: Node) -> str:
    """What ``node`` is, in words."""
    if isinstance(node, Mapping):
        return "a mapping (keys with values)"
    if isinstance(node, Sequence):
        return "a list"
    words = {"str": "text", "bool": "true or false", "null": "nothing", "timestamp": "a date"}
    return words.get(node.kind, "a number")


def _too_deep(span: Span) -> Finding:
    return error(
        Id.YAML_TOO_DEEP, span, f"values are nested more than {DEPTH_LIMIT} deep",
        "a policy needs five levels: look for brackets that are never closed",
    )


def _syntax(problem: yaml.YAMLError, text: str, file: str) -> Finding:
    """The finding for what the parser rejected."""
    mark = getattr(problem, "problem_mark", None)
    opened = getattr(problem, "context_mark", None)
    if mark is None:
        return error(Id.YAML_SYNTAX, Span(file, 1, 1), "this is not YAML",
                     "check that this is a policy file")
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
    for line in (mark.line, mark.line - 1):
        indent = re.match(r"[ \t]*", lines[line])[0] if 0 <= line < len(lines) else ""  # type: ignore[index]
        if "\t" in indent:
            return error(Id.YAML_TAB, Span(file, line + 1, indent.index("\t") + 1),
                         "a tab indents this line; YAML allows only blanks",
                         "replace the tab by blanks")
    said = str(getattr(problem, "problem", "") or "a syntax error")
    context = str(getattr(problem, "context", "") or "")
    if "nesting depth" in said:  # libyaml from 0.2.6 on counts brackets ahead of its events
        return _too_deep(Span(file, mark.line + 1, mark.column + 1))
    where, hint = mark, "check brackets, quotes, colons and indentation here and just above"
    if opened is not None and not "".join(lines[mark.line:]).strip():
        # Something is never closed: the end of the file says nothing, its beginning does.
        where, hint = opened, "close the bracket or quote that is opened here"
    elif mark.line < len(lines) and (bare := _BARE_LEVEL.search(lines[mark.line])):
        # In an entry within {...} a level's own braces would open another mapping.
        hint = f'write a level with categories in quotes: {bare[1]}: "{bare[2]}"'
    message = f"this is not valid YAML: {context + ', ' if context else ''}{said}"
    return error(Id.YAML_SYNTAX, Span(file, where.line + 1, where.column + 1), message, hint)

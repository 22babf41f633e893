"""XML with positions, and nothing of XML that a policy does not need.

expat from the standard library: it reports line and column of each element,
loads nothing from outside, and can be stopped at the first sign of a document
type declaration, without which there are no entities to expand (ADR 0008).
Every limit holds while reading, before a tree is built.
"""

from __future__ import annotations

import pyexpat
from dataclasses import dataclass, field
from pathlib import Path

from shype.base.files import read_regular
from shype.policy.acm.errors import AcmUnreadable
from shype.policy.findings import show
from shype.policy.reading import shown
from shype.policy.source import Span

#: Largest file, in bytes. The real ones have about 6,000; one of 5,000 labels has a million.
SIZE_LIMIT = 4 * 1024 * 1024
#: Nesting; the schema needs seven levels.
DEPTH_LIMIT = 16
ELEMENT_LIMIT = 100_000
#: Attributes of one element; the schema has one, and namespaces come on top.
ATTRIBUTE_LIMIT = 32
#: Characters of a name or a value. Xen read policy names of up to 79.
TEXT_LIMIT = 1_000
#: Bytes that one tag or comment may take before it is complete.
TOKEN_LIMIT = 64 * 1024

ENCODINGS = ("utf-8", "utf-16", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252")
_CHUNK = 16 * 1024
_SEPARATOR = "\n"  # cannot be part of a namespace's name: the parser makes it a blank


@dataclass(slots=True)
class Element:
    """An element: local name, namespace ("" for none), place of its ``<``.

    ``attributes`` are those without a namespace.  ``text`` is all text directly in it, without
    blanks around.
    """

    name: str
    namespace: str
    span: Span
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    text: str = ""


def read(path: Path) -> bytes:
    """The content of the file ``path``, at most `SIZE_LIMIT` bytes. Raises AcmUnreadable."""
    top = Span(shown(path), 1, 1)
    try:
        data = read_regular(path, SIZE_LIMIT)
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise AcmUnreadable(
            "acm.file", f"the file cannot be read: {reason}",
            "name regular files that the user can read", top,
        ) from problem
    _limit_size(data, top)
    return data


def parse(data: bytes, file: str) -> Element:
    """The root element of ``data``. Raises AcmUnreadable, and nothing else."""
    _limit_size(data, Span(file, 1, 1))
    builder = _Builder(file)
    try:
        builder.feed(data)
    except pyexpat.ExpatError as problem:
        span = Span(file, problem.lineno, problem.offset + 1)
        raise AcmUnreadable(
            "acm.xml", f"this is not well-formed XML: {pyexpat.ErrorString(problem.code)}",
            "mend the file at that place or just above", span,
        ) from problem
    except (LookupError, ValueError) as problem:  # a codec that cannot serve
        raise AcmUnreadable(
            "acm.xml", "the text cannot be decoded", "save the file as UTF-8", builder.here()
        ) from problem
    assert builder.root is not None, "expat accepts no document without an element"
    return builder.root


def _limit_size(data: bytes, top: Span) -> None:
    if len(data) > SIZE_LIMIT:
        raise AcmUnreadable(
            "acm.too-large", f"the file has more than {SIZE_LIMIT} bytes",
            "check that this is a policy file", top,
        )


class _Builder:
    """Turns expat's events into elements."""

    def __init__(self, file: str) -> None:
        self.root: Element | None = None
        self._file = file
        self._open: list[tuple[Element, list[str]]] = []
        self._count = 0
        parser = pyexpat.ParserCreate(None, _SEPARATOR)
        parser.ordered_attributes = True
        parser.buffer_text = True
        parser.SetParamEntityParsing(pyexpat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.XmlDeclHandler = self._declaration
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._parser = parser

    def feed(self, data: bytes) -> None:
        for start in range(0, len(data), _CHUNK):
            self._parser.Parse(data[start : start + _CHUNK], False)
            if start + _CHUNK - self._parser.CurrentByteIndex > TOKEN_LIMIT + _CHUNK:
                raise self._refuse(
                    f"a tag or comment is longer than {TOKEN_LIMIT} bytes"
                )
        self._parser.Parse(b"", True)

    def here(self) -> Span:
        return Span(
            self._file, max(self._parser.CurrentLineNumber, 1), self._parser.CurrentColumnNumber + 1
        )

    def _refuse(self, what: str) -> AcmUnreadable:
        return AcmUnreadable(
            "acm.limit", what, "check that this is a policy of Xen's ACM", self.here()
        )

    def _declaration(self, version: str, encoding: str | None, standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ENCODINGS:
            raise AcmUnreadable(
                "acm.encoding", f"the encoding {show(encoding)} is not read",
                "save the file as UTF-8 and say so in its first line", self.here(),
            )

    def _doctype(self, *declared: object) -> None:
        raise AcmUnreadable(
            "acm.doctype",
            "a document type declaration is refused: with it a file can fetch others, or expand "
            "to any size",
            "delete the `<!DOCTYPE ...>`; ACM's policies have none", self.here(),
        )

    def _start(self, name: str, attributes: list[str]) -> None:
        self._count += 1
        if self._count > ELEMENT_LIMIT:
            raise self._refuse(f"there are more than {ELEMENT_LIMIT} elements")
        if len(self._open) >= DEPTH_LIMIT:
            raise self._refuse(f"elements are nested more than {DEPTH_LIMIT} deep")
        if len(attributes) > 2 * ATTRIBUTE_LIMIT:
            raise self._refuse(f"an element has more than {ATTRIBUTE_LIMIT} attributes")
        if any(len(text) > TEXT_LIMIT for text in (name, *attributes)):
            raise self._refuse(f"a name or a value is longer than {TEXT_LIMIT} characters")
        namespace, _, local = name.rpartition(_SEPARATOR)
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        element = Element(
            local, namespace, self.here(),
            {key: value for key, value in pairs if _SEPARATOR not in key},
        )
        if self._open:
            self._open[-1][0].children.append(element)
        else:
            self.root = element
        self._open.append((element, []))

    def _end(self, name: str) -> None:
        element, parts = self._open.pop()
        element.text = "".join(parts).strip()
        if len(element.text) > TEXT_LIMIT:
            raise self._refuse(f"a name or a value is longer than {TEXT_LIMIT} characters")

    def _text(self, text: str) -> None:
        self._open[-1][1].append(text)

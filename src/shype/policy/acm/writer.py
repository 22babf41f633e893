"""The text of an imported policy: YAML for people, each line with what it was."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence

from shype.policy.acm.sketch import Line, Sketch
from shype.policy.source import Finding

#: What YAML readers take for a truth value or for nothing, among words that names can be.
_QUOTED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
#: Findings that the head of the file repeats.
_SHOWN = 20
_WIDTH = 100


def text(
    sketch: Sketch, findings: Sequence[Finding], files: Sequence[str], generation: str
) -> str:
    """The whole file."""
    lines = _comment(
        f"Imported by `shype import acm` from {' and '.join(files)}, a policy of sHype (Xen's "
        f"Access Control Module) in the form of {generation}. It decides as that did. Comments "
        "give the old names and where they stand."
    )
    if findings:
        lines += ["#", "# Found in it (docs/reference/acm.md explains each):"]
        for f in findings[:_SHOWN]:
            lines += _comment(f"{f.span}: {f.message} [{f.id}]", "#   ", "#     ")
        if len(findings) > _SHOWN:
            lines.append(f"#   and {len(findings) - _SHOWN} more")
    lines.append("shype: 1")
    entry = f"policy: {{name: {_name(sketch.name)}, version: {json.dumps(sketch.version)}"
    if sketch.replaces:
        entry += f", from: {json.dumps(sketch.replaces)}"
    if sketch.was:
        entry += f", was: {_name(sketch.was)}"
    lines += [_noted(entry + "}", sketch.name_note, 0), "", "# STE types"]
    lines += ["coalitions:", *_coalitions(sketch.coalitions)]
    if sketch.walls:
        lines += ["", "# conflict sets of CHWALL types", "walls:"]
        for wall in sketch.walls:
            broken = _wrapped(f"  {_name(wall.name)}: ", f"[{_list(wall.members)}]")
            lines += [*broken[:-1], _noted(broken[-1], wall.note, 0)]
    if sketch.dropped:
        lines += ["", "# CHWALL types in no conflict set, which exclude nobody:"]
        lines += [f"#   {name}" for name in sketch.dropped]
    lines += ["", "labels:", *_entries(sketch.labels, _label)]
    if sketch.resource_labels:
        lines += ["", "resource-labels:", *_entries(sketch.resource_labels, _resource)]
    lines += ["", f"host: {{dom0: {_name(sketch.dom0)}}}"]
    return "\n".join(_printable(line) for line in lines) + "\n"


def _comment(words: str, first: str = "# ", more: str = "# ") -> list[str]:
    return textwrap.wrap(
        _printable(words), _WIDTH, initial_indent=first, subsequent_indent=more,
        break_long_words=False, break_on_hyphens=False,
    )


def _coalitions(lines: Sequence[Line]) -> list[str]:
    if any(line.closed for line in lines):
        return _entries(lines, lambda line: [("mechanisms", "[]")] if line.closed else [])
    width = max(len(_name(line.name)) for line in lines) + 4
    return [_noted(f"  - {_name(line.name)}", line.note, width) for line in lines]


def _entries(lines: Sequence[Line], parts: Callable[[Line], list[tuple[str, str]]]) -> list[str]:
    """Each entry in one line if it fits with its comment, else with a line for each part."""
    made: list[tuple[str, Line]] = []
    for line in lines:
        inner = ", ".join(f"{key}: {value}" for key, value in parts(line))
        made.append((f"  {_name(line.name)}: {{{inner}}}", line))
    fitting = [len(entry) for entry, line in made if len(entry) + len(line.note) + 4 <= _WIDTH]
    width = max(fitting, default=0)
    result = []
    for entry, line in made:
        if max(width, len(entry)) + len(line.note) + 4 <= _WIDTH or not parts(line):
            result.append(_noted(entry, line.note, width))
        elif len(entry) + len(line.note) + 4 <= _WIDTH:
            result.append(_noted(entry, line.note, 0))
        else:
            result.append(_noted(f"  {_name(line.name)}:", line.note, 0))
            for key, value in parts(line):
                result += _wrapped(f"    {key}: ", value)
    return result


def _wrapped(start: str, value: str) -> list[str]:
    """``value``, a list in brackets or a word, broken after commas."""
    lines, current = [], start
    for index, word in enumerate(value.split(" ")):
        if index and len(current) + len(word) + 1 > _WIDTH:
            lines.append(current)
            current = " " * (len(start) + 1) + word
        else:
            current += word if not index else f" {word}"
    return [*lines, current]


def _label(line: Line) -> list[tuple[str, str]]:
    parts = []
    if line.everything:
        parts.append(("coalitions", "all"))
    elif line.coalitions:
        parts.append(("coalitions", f"[{_list(line.coalitions)}]"))
    if line.members:
        parts.append(("wall", f"[{_list(line.members)}]"))
    if line.was:
        parts.append(("was", _name(line.was)))
    return parts


def _resource(line: Line) -> list[tuple[str, str]]:
    return _label(line) if line.coalitions else [("inaccessible", "true"), *_label(line)]


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(_name, names))


def _name(name: str) -> str:
    return json.dumps(name) if name in _QUOTED else name


def _noted(entry: str, note: str, width: int) -> str:
    return f"{entry.ljust(width)}  # {note}" if note else entry


def _printable(line: str) -> str:
    """No character of an old name may end a comment's line, or be one that YAML refuses."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in line
    )

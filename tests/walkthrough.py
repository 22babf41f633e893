"""Pages that are followed step by step: what they tell the reader to type is typed.

A fenced block ```` ```yaml NAME ```` is a file that the reader writes.  A block
```` ```console ```` holds commands (``$ ...``) and what they print: every line
shown must come in this order, ``...`` stands for any lines, ``(exit code N)`` is the
command's exit code if it is not 0.  Blocks ```` ```console lab ```` need the lab.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"^```(\S*)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT = re.compile(r"\(exit code (\d+)\)")


@dataclass(frozen=True, slots=True)
class File:
    """A file that the reader writes."""

    name: str
    text: str


@dataclass(slots=True)
class Command:
    """A command that the reader types, and what the page shows of its output."""

    line: str
    lab: bool
    shown: list[str] = field(default_factory=list)
    code: int = 0


def steps(page: str) -> Iterator[File | Command]:
    """What the page has the reader do, in order."""
    for language, words, body in _BLOCK.findall(page):
        if language == "console":
            yield from _commands(body, words.strip() == "lab")
        elif words:
            yield File(words.strip(), body)


def _commands(body: str, lab: bool) -> Iterator[Command]:
    command: Command | None = None
    for line in body.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(line[2:], lab)
        elif command is not None and (found := _EXIT.fullmatch(line.strip())):
            command.code = int(found[1])
        elif command is not None and command.line.endswith("\\"):
            command.line = f"{command.line[:-1]} {line.strip()}"
        elif command is not None and line.strip() not in ("", "..."):
            command.shown.append(line)
    if command is not None:
        yield command


def follow(page: Path, directory: Path, *, lab: bool, until: str | None = None) -> int:
    """Do all steps of ``page`` in ``directory`` and check them; how many commands were run.

    Without ``lab``, commands that need it are left out. ``until``: how the first command begins
    that this reader cannot do.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100"}
    ran = 0
    for step in steps(page.read_text()):
        if isinstance(step, File):
            (directory / step.name).write_text(step.text)
        elif until is not None and step.line.startswith(until):
            break
        elif lab or not step.lab:
            _run(step, directory, environment, page.name)
            ran += 1
    return ran


def _run(step: Command, directory: Path, environment: dict[str, str], page: str) -> None:
    done = subprocess.run(
        ["bash", "-c", step.line], cwd=directory, env=environment, text=True, timeout=600,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False,
    )
    told = f"{page}: $ {step.line}\n{done.stdout}"
    assert done.returncode == step.code, f"exit code {done.returncode}: {told}"
    rest = [_folded(line) for line in done.stdout.splitlines()]
    for line in step.shown:
        wanted = _folded(line)
        assert wanted in rest, f"not printed (in this place): {line!r}\n{told}"
        rest = rest[rest.index(wanted) + 1:]


def _folded(line: str) -> str:
    return " ".join(line.split())

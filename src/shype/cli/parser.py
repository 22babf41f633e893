"""The argument parser: argparse, with help that fits the terminal and mistakes as errors."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from typing import Any

from shype.base.errors import BadInput


class WrongArguments(BadInput):
    """A command line that no command takes; ``text`` is how argparse shows it."""

    def __init__(self, id: str, message: str, fix: str, text: str) -> None:
        super().__init__(id, message, fix)
        self.text = text


class Parser(argparse.ArgumentParser):
    """A parser that raises WrongArguments, and whose subparsers report what is theirs.

    argparse itself leaves an option that nobody knows to the top parser, which then
    shows the usage of the whole program and not of the command.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse; but what is left over is an error of this parser."""
        found, extra = super().parse_known_args(args, namespace)
        if extra:
            known = [option for option in self._option_string_actions if len(option) > 2]
            self.error(f"unrecognized arguments: {' '.join(extra)}{_close(extra[0], known)}")
        return found, extra

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = _close(str(value), [str(choice) for choice in action.choices or ()])
            if not hint:
                raise
            raise argparse.ArgumentError(action, f"there is no {str(value)!r}{hint}") from error

    def error(self, message: str) -> Any:
        """Raise WrongArguments."""
        fix = f"see {self.prog} --help"
        raise WrongArguments(
            "arguments.wrong", message, fix,
            f"{self.format_usage()}{self.prog}: error: {message} [arguments.wrong]\n  fix: {fix}",
        )

    def format_help(self) -> str:
        """As argparse; a description is filled, the rest keeps its own lines."""
        import textwrap

        width = shutil.get_terminal_size().columns - 2
        if self.description and "\n" not in self.description:
            self.description = textwrap.fill(self.description, max(width, 20))
        return super().format_help()


def _close(word: str, known: Sequence[str]) -> str:
    import difflib

    found = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {found[0]}?)" if found else ""

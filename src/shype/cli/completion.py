"""`shype completion`: the shell's completion script, generated from the parser by shtab."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shype.cli.types import Commands


def add(commands: Commands) -> None:
    """Register the command."""
    command = commands.add_parser(
        "completion",
        help="print a completion script for bash, zsh or tcsh",
        description="Print a completion script. For bash: eval \"$(shype completion bash)\"",
    )
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    import shtab

    from shype.cli.main import parser

    print(shtab.complete(parser(), shell=args.shell))
    return 0

"""Commands of a host, run in this process on a model."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from shype.base.errors import ShypeError
from shype.cli import output
from shype.host.agent import Agent
from tests.host.builders import BANKS, host
from tests.signing import AUTHOR, keys, sealed

Shell = Callable[..., int]
#: Adds commands to a parser (``add`` of a module of `shype.cli`).
Add = Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None]


def signed_host(place: Path, text: str = BANKS) -> Agent:
    """An agent on a model below ``place``, whose bundle there is signed by a trusted key."""
    made = host(place, text)
    (place / "policy.shype").write_bytes(sealed(place / "bundle", AUTHOR))
    keys(place / "keys")
    return made


def options(place: Path, agent: Agent) -> list[str]:
    """What makes a command work on that model."""
    return [
        "--bundle", str(place / "policy.shype"), "--keys", str(place / "keys"),
        "--state", str(agent.state), "--driver", "model",
        "--model-file", str(place / "model.json"),
    ]


def run(adds: Sequence[Add], words: Sequence[object]) -> int:
    """Parse and run; an error is printed, and becomes its exit code."""
    top = argparse.ArgumentParser(prog="shype")
    commands = top.add_subparsers()
    for add in adds:
        add(commands)
    args = top.parse_args([str(word) for word in words])
    try:
        return int(args.run(args))
    except ShypeError as error:
        output.note(str(error))
        return error.exit_code

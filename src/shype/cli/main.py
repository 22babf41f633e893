"""`shype`: one parser, one module per command group, one place that maps errors to exit codes.

Exit codes: 0 ok, 1 denied or not as it should be, 2 bad input, 3 internal or unavailable.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from shype import __version__
from shype.base.errors import ShypeError, Unavailable
from shype.cli import output
from shype.cli.parser import Parser, WrongArguments

#: Modules of this package that each define ``add(commands)``, and their commands. Heavy
#: imports belong inside the handlers: the same program runs in dom0 without them.
GROUPS = {
    "check": ("check",),
    "resources": ("resources",),
    "explain": ("explain", "decide"),
    "plan": ("plan",),
    "flows": ("flows",),
    "policytest": ("test",),
    "walls": ("walls",),
    "build": ("build", "tables"),
    "bundle": ("bundle",),
    "keys": ("keys",),
    "acm": ("import", "export"),
    "labels": ("labels", "label"),
    "dryrun": ("dry-run",),
    "verify": ("verify",),
    "host": ("run", "stop", "ps", "status", "recover"),
    "vectors": ("vector",),
    "apply": ("apply",),
    "lifecycle": ("watch", "reboot", "pause", "unpause", "save", "restore"),
    "migration": ("migrate", "receive"),
    "denials": ("denials",),
    "audit": ("audit",),
    "meter": ("meter",),
    "store": ("store",),
    "manager": ("manager",),
    "network": ("network",),
    "devices": ("attach", "detach", "devices"),
    "disk": ("disk",),
    "hotplug": ("hotplug",),
    "install": ("host",),
    "attest": ("attest",),
    "vtpm": ("vtpm",),
    "doctor": ("doctor",),
    "audit_hooks": ("audit-hooks",),
    "permission_map": ("permission-map",),
    "analyze": ("analyze",),
    "lab": ("lab",),
    "demo": ("demo",),
    "completion": ("completion",),
}

#: Made by `prepare`, by command.
_PREPARED: dict[str, argparse.ArgumentParser] = {}

_FIXES = {
    errno.ENOSPC: "free some space",
    errno.EROFS: "this file system is read-only: choose another place",
    errno.EACCES: "run as root, or choose a place that is yours",
    errno.EPERM: "run as root, or choose a place that is yours",
}

_EPILOG = """\
exit codes: 0 ok; 1 denied, or something is not as it should be; 2 bad input, a
policy with errors included; 3 internal, or something needed is not there; 130
interrupted, 141 closed pipe

start with:
  shype check examples/banks.yaml
  shype explain examples/banks.yaml a-desk market
"""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or (quicker) just the group that has the command ``only``."""
    top = Parser(
        prog="shype",
        description="Mandatory access control for virtual machines, enforced by the hypervisor: "
        "one policy file decides which VMs may run together and exchange information.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"shype {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    groups = [group for group, names in GROUPS.items() if only in names] or list(GROUPS)
    for group in groups:
        import_module(f"shype.cli.{group}").add(commands)
    return top


def prepare(*groups: str) -> None:
    """Make the parsers of all commands of ``groups`` beforehand.

    For a process that is forked for each command: making one is a tenth of a short command.
    """
    for group in groups:
        made = parser(GROUPS[group][0])
        _PREPARED.update(dict.fromkeys(GROUPS[group], made))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises, never shows a bare traceback."""
    if sys.stdout is None:  # closed by the caller; what is printed has nowhere to go
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    words = sys.argv[1:] if argv is None else list(argv)
    first = words[0] if words else None
    try:
        args = (_PREPARED.get(first or "") or parser(first)).parse_args(words)
    except WrongArguments as error:
        mine = words[: words.index("--")] if "--" in words else words
        if "--json" in mine:
            output.print_json(error.to_json())
        else:
            output.note(error.text)
        raise SystemExit(error.exit_code) from None
    as_json = bool(getattr(args, "json", False))
    try:
        return int(args.run(args))
    except ShypeError as error:
        return _report(error, as_json=as_json)
    except BrokenPipeError:
        # Nobody reads on: as if by SIGPIPE, and never 0, which would hide a denial.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        output.note("shype: interrupted")
        return 130
    except ModuleNotFoundError as error:
        return _report(Unavailable(
            "tool.missing", f"this command needs the Python package {error.name!r}",
            "use it on the author's machine, from shype's sources (make setup): a host runs what "
            "is written and compiled there",
        ), as_json=as_json)
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "look at the path and the disk")
        return _report(Unavailable("os.error", str(error), fix), as_json=as_json)
    except Exception as error:  # noqa: BLE001 - the last line of defence of a command line
        import traceback

        detail = "".join(traceback.format_exception(error))
        if as_json:
            output.print_json({"error": "internal", "message": repr(error), "fix": detail})
        else:
            output.note(f"shype: internal error, please report it [internal]\n{detail}")
        return 3


def _report(error: ShypeError, *, as_json: bool) -> int:
    if as_json:
        output.print_json(error.to_json())
    elif error.id == "policy.invalid":  # its findings look as `shype check` shows them
        output.note(f"{error.message}\nshype: error: the policy has errors [{error.id}]")
    else:
        for finding in getattr(error, "findings", ()):
            output.note(str(finding))
        output.note(f"shype: error: {error}")
    return error.exit_code


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main())

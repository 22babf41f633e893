"""`shype`: one parser, one module per command group, one place that maps errors to exit codes.

Exit codes: 0 ok, 1 denied or findings, 2 bad input, 3 internal or unavailable.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from shype import __version__
from shype.base.errors import BadInput, ShypeError
from shype.cli import output

#: Modules of this package that each define ``add(commands)``, and their commands. Heavy
#: imports belong inside the handlers: the same program runs in dom0 without them.
GROUPS = {
    "check": ("check",),
    "explain": ("explain", "decide"),
    "build": ("build", "tables"),
    "host": ("run", "stop", "ps", "status", "denials", "recover"),
    "lab": ("lab",),
    "demo": ("demo",),
    "completion": ("completion",),
}

_EPILOG = """\
exit codes: 0 ok, 1 denied or findings, 2 bad input, 3 internal or unavailable
start with: shype check examples/banks.yaml; shype explain examples/banks.yaml a-desk market
"""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or (quicker) just the group that has the command ``only``."""
    top = argparse.ArgumentParser(
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises, never shows a bare traceback."""
    words = sys.argv[1:] if argv is None else list(argv)
    args = parser(words[0] if words else None).parse_args(words)
    as_json = bool(getattr(args, "json", False))
    try:
        return int(args.run(args))
    except ShypeError as error:
        if as_json:
            output.print_json(error.to_json())
        else:
            output.note(f"shype: error: {error}")
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        output.note("shype: interrupted")
        return 130
    except OSError as error:
        problem = BadInput("os.error", str(error)) if error.filename else None
        if as_json:
            output.print_json({"error": "os.error", "message": str(error), "fix": ""})
        else:
            output.note(f"shype: error: {error} [os.error]")
        return problem.exit_code if problem else 3
    except Exception as error:  # noqa: BLE001 - the last line of defence of a command line
        detail = "".join(traceback.format_exception(error))
        if as_json:
            output.print_json({"error": "internal", "message": repr(error), "fix": detail})
        else:
            output.note(f"shype: internal error, please report it [internal]\n{detail}")
        return 3


def console() -> None:
    """Entry point of the console script."""
    sys.exit(main())

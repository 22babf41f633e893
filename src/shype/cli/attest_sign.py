"""`shype attest sign`: reference values, computed and signed on the author's machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.attest_host import read

if TYPE_CHECKING:
    from shype.attest.reference import Window
    from shype.cli.types import Commands

_EPILOG = """\
A planned update is authorised before it happens: sign with both bundles and
both boot files, the new ones as FILE@FROM, the old ones as FILE@/UNTIL; both
ends are FILE@FROM/UNTIL. Boots must be of bundles that are signed with them.

example:
  shype attest sign xen-hosts --bundle banks.shype --boot banks.boots \\
    --firmware server.firmware --agent src/shype --key author.key
  shype attest sign xen-hosts --bundle banks.shype@/2027-01-31T00:00Z \\
    --bundle banks2.shype@2027-01-10T22:00Z ...
"""


def add(verbs: Commands) -> None:
    """Register the command."""
    sign = verbs.add_parser(
        "sign", help="sign what a verifier shall expect of hosts", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write and sign reference values, NAME.ref: all that hosts may boot and "
        "measure. What is not in them is not accepted.",
    )
    sign.add_argument("name", metavar="NAME", help="how they are called, such as xen-hosts")
    sign.add_argument("--bundle", required=True, action="append", metavar="FILE[@WINDOW]",
                      help="a policy that may be loaded")
    sign.add_argument("--boot", required=True, action="append", metavar="FILE[@WINDOW]",
                      help="boots that `shype attest reference` has computed")
    sign.add_argument("--firmware", required=True, action="append", type=Path, metavar="FILE",
                      help="firmware that `shype attest observe` has written")
    sign.add_argument("--agent", required=True, action="append", type=Path, metavar="DIR",
                      help="the package `shype` that hosts run: the directory with __init__.py "
                      "(src/shype in a checkout)")
    sign.add_argument("--rollback", action="append", default=[], metavar="FILE[@WINDOW]",
                      help="an older policy that hosts may go back to")
    sign.add_argument("--maintenance", action="append", default=[], metavar="WINDOW",
                      help="FROM/UNTIL, in which hosts may be permissive (not trusted then)")
    sign.add_argument("--keys", type=Path, default=Path("/etc/shype/keys"), metavar="DIR",
                      help="whose bundles are taken (default %(default)s)")
    sign.add_argument("--key", required=True, action="append", type=Path, metavar="FILE",
                      help="a .key that signs")
    sign.add_argument("-o", "--output", type=Path, metavar="DIR", default=Path(),
                      help="where NAME.ref is written (default: here)")
    sign.add_argument("--json", action="store_true", help="print JSON")
    sign.set_defaults(run=_sign)


def _sign(args: argparse.Namespace) -> int:
    from shype.attest import agent_code, reference, reference_values
    from shype.base.files import write_atomic
    from shype.cli.keys import read_private
    from shype.host.trust import load_trusted

    maintenance = [_window(text) for text in args.maintenance]
    policies = [
        reference_values.PolicyWindow(load_trusted(path, args.keys), window, rollback)
        for texts, rollback in ((args.bundle, False), (args.rollback, True))
        for path, window in map(_at, texts)
    ]
    made = reference_values.build(
        args.name, policies=policies,
        boots=[boot for path, window in map(_at, args.boot)
               for boot in reference_values.read_boots(read(path), str(path), window)],
        firmware=[reference_values.read_firmware(read(path), str(path)) for path in args.firmware],
        agents=[agent_code.digest(path) for path in args.agent],
        maintenance=maintenance,
    )
    path = args.output / f"{args.name}.ref"
    write_atomic(path, reference.seal(made, [read_private(key) for key in args.key]))
    warnings = [f"{name} {version} may be loaded, and no boot is of it: after its next reboot the "
                "host fails [reference.no-boot]"
                for name, version in reference_values.unbooted(made)]
    if args.json:
        output.print_json({"reference": str(path), "serial": made.serial, "boots": len(made.boots),
                           "firmware": len(made.firmware), "rules": len(made.rules),
                           "warnings": warnings})
        return 0
    for warning in warnings:
        output.note(f"shype: warning: {warning}\n"
                    "  fix: compute them with `shype attest reference`, and sign with --boot")
    print(f"{path}: {len(made.firmware)} firmware, {len(made.boots)} boots, {len(made.rules)} "
          f"rules for events; on the verifier: shype attest publish {path.name}")
    return 0


def _at(text: str) -> tuple[Path, Window]:
    """``FILE`` or ``FILE@WINDOW``."""
    from shype.attest.reference import ALWAYS

    name, at, window = text.rpartition("@")
    if not at:
        return Path(text), ALWAYS
    return Path(name), _window(window)


def _window(text: str) -> Window:
    """``FROM``, ``FROM/UNTIL`` or ``/UNTIL``. Raises BadInput ``attest.window``."""
    from datetime import UTC, datetime

    from shype.attest.reference import Window
    from shype.base.errors import BadInput

    start, _, end = text.partition("/")
    try:
        window = Window(*(
            int(time.replace(tzinfo=time.tzinfo or UTC).timestamp()) if time else None
            for time in (datetime.fromisoformat(part) if part else None for part in (start, end))))
        if not (start or end):
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise BadInput(
            "attest.window", f"{text!r} is no window of time",
            "write FROM, FROM/UNTIL or /UNTIL, for example 2027-01-10T22:00Z/2027-01-11T04:00Z",
        ) from error
    if window.empty:
        raise BadInput("attest.window", f"the window {text!r} ends before it begins",
                       "write the earlier moment first: FROM/UNTIL")
    return window

"""`shype manager`: a domain of its own that alone opens launch windows and loads policies."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli.agent import open_agent
from shype.cli.host import command, lock_option, show

if TYPE_CHECKING:
    from shype.cli.types import Commands

_GROUP = """\
Without it, root in dom0 can open windows. See docs/how-to/manager.md.

example: shype manager image; shype manager start; shype manager status
"""
_IMAGE = """\
Packs Python, shype, the bundle and the trusted keys out of this host's own
files into an initial RAM disk. Run it in dom0, and again when Python, shype or
the keys change; a newer bundle it gets by itself. --module: xen-privcmd, and
what it needs, in loading order.

example: shype manager image -o /var/lib/shype/manager.img
exit codes: 0 written, 2 bad input, 3 it cannot be made here
"""
_START = """\
Once per boot of the host, before any VM: dom0 may build the manager until it
has taken its right, and never after. From then on nobody else sets FLASK's
booleans or loads a policy (shype apply goes through it), not even root in dom0.

example: shype manager start
exit codes: 0 it runs, 2 the policy has none, 3 it does not run
"""
_STATUS = """\
exit codes: 0 it answers and dom0 has lost the right, 2 the policy has none,
3 anything else
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    group = commands.add_parser(
        "manager", help="the domain that alone opens windows and loads policies",
        description="The domain that alone opens launch windows and loads policies "
        "(host: {manager: LABEL}).",
        epilog=_GROUP, formatter_class=argparse.RawDescriptionHelpFormatter)
    manager = group.add_subparsers(metavar="COMMAND", required=True)
    image = command(manager, "image", "make the manager's RAM disk", _IMAGE, _image)
    image.add_argument("-o", "--output", type=Path, default=_PLACE, metavar="FILE",
                       help="where to write it (default %(default)s)")
    image.add_argument("--module", type=Path, action="append", metavar="FILE",
                       help="a kernel module (default: this kernel's xen-privcmd)")
    start = command(manager, "start", "start the manager", _START, _start)
    start.add_argument("--kernel", type=Path, metavar="FILE",
                       help="its kernel (default: dom0's own)")
    start.add_argument("--image", type=Path, default=_PLACE, metavar="FILE",
                       help="its RAM disk (default %(default)s)")
    lock_option(start)
    command(manager, "status", "say how the manager stands", _STATUS, _status)


_PLACE = Path("/var/lib/shype/manager.img")


def _image(args: argparse.Namespace) -> int:
    import platform

    from shype.base.files import write_atomic
    from shype.host.manager.image import image
    from shype.host.manager.start import label_of

    label_of(open_agent(args))
    release = platform.release()
    own = Path(f"/lib/modules/{release}/kernel/drivers/xen/xen-privcmd.ko")
    data = image(args.bundle, args.keys, args.module or [own])
    write_atomic(args.output, data, 0o600)
    if args.json:
        show(args, {"file": str(args.output), "size": len(data)})
    else:
        print(f"{args.output}: {len(data) / 2**20:.1f} MiB")
    return 0


def _start(args: argparse.Namespace) -> int:
    import platform

    from shype.host.manager.start import NAME, start

    kernel = args.kernel or Path(f"/boot/vmlinuz-{platform.release()}")
    domid = start(open_agent(args), kernel.absolute(), args.image.absolute(),
                  lock_timeout=args.lock_timeout)
    if args.json:
        show(args, {"vm": NAME, "domid": domid})
    else:
        print(f"{NAME} runs as domain {domid}: dom0 opens no window any more but through it")
    return 0


def _status(args: argparse.Namespace) -> int:
    from shype.host.manager.start import standing

    found = standing(open_agent(args))
    good = found.answer is not None and not found.boot
    if args.json:
        show(args, {"domid": found.domid, "boot": found.boot, "answers": found.answer is not None,
                    "answer": dict(found.answer or {}), "problem": found.problem})
    elif good:
        print(f"the manager answers (domain {found.domid}); dom0 cannot set booleans")
    else:
        print("NOT in force: " + (found.problem or "dom0 may still build another one"))
    return 0 if good else 3

"""`shype lab`: a real Xen host under QEMU, for trying out a policy and for the tests."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from shype.cli import lab_probe

if TYPE_CHECKING:
    from pathlib import Path

    from shype.cli.types import Commands
    from shype.lab.rundir import Record

_DEFAULT = "lab"
_EPILOG = """\
example:
  shype lab build                          # once, a few minutes
  shype lab up examples/banks.yaml         # a host that enforces this policy
  shype lab run -- xl list -Z              # a command in its dom0
  shype lab down
Neither KVM nor root is needed, only QEMU; docs/how-to/lab.md has the details.
"""


def add(commands: Commands) -> None:
    """Register the command group."""
    raw = argparse.RawDescriptionHelpFormatter
    group = commands.add_parser(
        "lab", help="a real Xen host with FLASK inside QEMU", formatter_class=raw, epilog=_EPILOG,
        description="Build, start and use a Xen host with XSM/FLASK inside QEMU (no KVM).")
    actions = group.add_subparsers(metavar="ACTION", required=True)

    build = actions.add_parser(
        "build", help="fetch and build the lab (once)", formatter_class=raw,
        description="Build Xen with FLASK from this machine's Debian source packages, and a dom0. "
        "What is built already is kept.", epilog="example: shype lab build --refresh")
    build.add_argument("--refresh", action="store_true", help="look for newer package versions")
    build.add_argument("--json", action="store_true", help="result as JSON")
    build.set_defaults(run=_build)

    up = actions.add_parser(
        "up", help="start a lab with a policy", formatter_class=raw,
        description="Start a host that enforces POLICY, and wait until it is ready. It runs until "
        "`shype lab down`.",
        epilog="example: shype lab up examples/banks.yaml --vm a-db.cfg --name demo")
    up.add_argument("policy", nargs="?", metavar="POLICY",
                    help="policy file (YAML), or a compiled bundle (FILE.shype). dom0 gets it "
                    "signed with a key made for this lab, and trusts no other")
    _name(up)
    up.add_argument("--flask", choices=("enforcing", "permissive", "disabled"),
                    default="enforcing", help="mode of the hypervisor (default: enforcing)")
    up.add_argument("--vm", action="append", default=[], metavar="FILE",
                    help="copy this VM configuration to dom0's /etc/xen/vms")
    up.add_argument("--memory", type=int, default=2048, metavar="MIB",
                    help="memory of the host (default: 2048)")
    up.add_argument("--icount", action="store_true",
                    help="one instruction per virtual nanosecond: slow, but times repeat exactly")
    up.add_argument("--no-snapshot", action="store_true", help="boot, even if a snapshot is there")
    up.add_argument("--json", action="store_true", help="result as JSON")
    up.set_defaults(run=_up)

    run = actions.add_parser(
        "run", help="run a command in dom0", formatter_class=raw,
        description="Run a command in dom0; its output and exit code are this command's own.",
        epilog="example: shype lab run -- shype status --json")
    _name(run)
    run.add_argument("--timeout", type=float, metavar="SECONDS", help="kill it after that time")
    run.add_argument("-i", "--stdin", action="store_true", help="pass standard input to it")
    run.add_argument("argv", nargs="+", metavar="CMD", help="the command and its arguments")
    run.set_defaults(run=_run)

    lab_probe.add(actions)

    shell = actions.add_parser(
        "sh", help="an interactive shell in dom0", formatter_class=raw,
        description="Run one shell command line after the other in dom0; the working directory is "
        "kept. End with exit or Ctrl-D.", epilog="example: echo 'xl list' | shype lab sh")
    _name(shell)
    shell.set_defaults(run=_sh)

    console = actions.add_parser(
        "console", help="print the host's serial log", formatter_class=raw,
        description="Print what Xen and dom0's kernel wrote to the serial line.",
        epilog="example: shype lab console | grep avc")
    _name(console)
    console.set_defaults(run=_console)

    for word, text in (("status", "whether a lab runs, and since when"), ("list", "all labs")):
        query = actions.add_parser(
            word, help=text, formatter_class=raw,
            description="Show whether the lab is built and which labs run. "
            "Exit code of status with --name: 0 it runs, 1 it does not.",
            epilog=f"example: shype lab {word} --json")
        query.add_argument("--name", help="only this lab")
        query.add_argument("--json", action="store_true", help="result as JSON")
        query.set_defaults(run=_status)

    down = actions.add_parser(
        "down", help="end a lab", formatter_class=raw,
        description="End a lab at once; nothing of it is kept.", epilog="example: shype lab down")
    _name(down)
    down.add_argument("--all", action="store_true", help="end all labs")
    down.set_defaults(run=_down)


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", default=_DEFAULT, help=f"which lab (default: {_DEFAULT})")


def _build(args: argparse.Namespace) -> int:
    from shype.cli import output
    from shype.lab import builder

    built = builder.build(refresh=args.refresh, progress=output.stage)
    if args.json:
        output.print_json({"versions": built.versions, "xen": str(built.xen),
                           "image": str(built.image), "tables": str(built.tables)})
    else:
        print(f"the lab is built: Xen {built.versions['xen']}, {built.versions['linux']}")
    return 0


def _up(args: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from shype.base.errors import BadInput
    from shype.cli import output
    from shype.lab import builder
    from shype.lab.host import Lab

    if args.policy is None and args.flask == "enforcing":
        raise BadInput("lab.no-policy", "an enforcing host needs a policy",
                       "shype lab up examples/banks.yaml, or --flask disabled")
    builder.load()  # not built? say so before anything else is looked at
    files = {f"/etc/xen/vms/{Path(vm).name}": Path(vm).read_bytes() for vm in args.vm}
    with tempfile.TemporaryDirectory(prefix="shype-lab-") as work:
        bundle = bundle_of(args.policy, Path(work) / "bundle") if args.policy else None
        with output.progress(f"starting lab {args.name}"):
            lab = Lab.up(
                bundle=bundle, files=files, name=args.name, flask=args.flask,
                snapshot=not args.no_snapshot, icount=args.icount, memory=args.memory,
                attached=False)
    if args.json:
        output.print_json(_json(lab.record))
    else:
        how = "from a snapshot" if lab.record.from_snapshot else "booted"
        print(f"lab {lab.name} is up ({how}, {lab.record.seconds:.1f} s), flask={args.flask}"
              + (f", policy {lab.record.policy}" if lab.record.policy else ""))
        if lab.record.policy:
            print(f"its dom0 trusts bundles that are signed with {lab.key}")
    return 0


def bundle_of(policy: str, work: Path) -> Path:
    """The bundle given, or the one built from the policy file given."""
    from pathlib import Path

    from shype.policy.signed import SUFFIX

    path = Path(policy)
    if path.is_dir() or path.suffix == SUFFIX:
        return path
    from shype.compile.flask.build import build
    from shype.lab.recipe import TARGET
    from shype.policy.loader import load

    build(load(path).policy, target=TARGET, out=work)
    return work


def _run(args: argparse.Namespace) -> int:
    import sys

    from shype.lab.host import Lab

    with Lab.attach(args.name).channel as channel:
        data = sys.stdin.buffer.read() if args.stdin else None
        done = channel.run(args.argv, timeout=args.timeout, input=data)
    sys.stdout.write(done.out)
    sys.stdout.flush()
    sys.stderr.write(done.err)
    return done.code if 0 <= done.code < 256 else 128 - done.code


def _sh(args: argparse.Namespace) -> int:
    import sys

    from shype.lab.host import Lab

    lab, where, code = Lab.attach(args.name), "/root", 0
    prompt = f"{args.name}# " if sys.stdin.isatty() else ""
    with lab.channel as channel:
        while True:
            try:
                line = input(prompt)
            except EOFError:
                return code
            if line.strip() == "exit":
                return code
            # the shell tells where it ended on a line of its own, which we take off
            done = channel.run(["sh", "-c", f"{line}\nc=$?; printf '\\n%s' \"$PWD\"; exit $c"],
                               cwd=where, timeout=None)
            out, _, place = done.out.rpartition("\n")
            where = place or where
            print(out, end="" if out.endswith("\n") or not out else "\n", flush=True)
            print(done.err, end="", file=sys.stderr, flush=True)
            code = done.code


def _console(args: argparse.Namespace) -> int:
    from shype.lab.host import Lab

    print(Lab.attach(args.name).console(), end="")
    return 0


def _json(record: Record) -> dict[str, object]:
    return {
        "name": record.name, "pid": record.pid, "created": record.created, "flask": record.flask,
        "policy": record.policy, "digest": record.digest, "attached": record.attached,
        "seconds": record.seconds, "from_snapshot": record.from_snapshot,
    }


def _status(args: argparse.Namespace) -> int:
    import time

    from shype.base.errors import ShypeError
    from shype.cli import output
    from shype.lab import builder, rundir

    versions: dict[str, str] | None = None
    problem = ""
    try:
        versions = builder.load().versions
    except ShypeError as error:
        problem = f"{error.message} (fix: {error.fix})"
    rundir.sweep()
    labs = [r for r in rundir.running() if args.name in (None, r.name)]
    if args.json:
        output.print_json({"built": versions, "problem": problem, "labs": [_json(r) for r in labs]})
    else:
        print(f"built: Xen {versions['xen']}, {versions['linux']}" if versions else problem)
        if labs:
            output.table("", ("LAB", "PID", "FLASK", "POLICY", "UP"), [
                (r.name, str(r.pid), r.flask, r.policy or "-", _age(time.time() - r.created))
                for r in labs])
        else:
            print(f"the lab {args.name!r} does not run" if args.name else "no lab runs")
    return 1 if args.name and not labs else 0


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _down(args: argparse.Namespace) -> int:
    from shype.lab import rundir

    names = [r.name for r in rundir.running() if not r.attached] if args.all else [args.name]
    for name in names:
        rundir.stop(name)
        print(f"lab {name} is down")
    return 0

"""`shype host install`, `uninstall`, `commit`: a host that boots into its policy, and back."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.types import count

if TYPE_CHECKING:
    from shype.cli.types import Commands
    from shype.host.install.changes import Difference
    from shype.host.install.installing import Options
    from shype.host.install.places import Places

_EPILOG = """\
examples:
  shype host install --dry-run         # every file that would change, as a diff
  shype host install --xen /xen-flask.gz --dom0-mem 4096M
  shype host install --bundle new.shype    # the next boot tries it, once
  shype host uninstall                 # every file as it was
"""
_INSTALL = """\
Makes a boot entry with the policy, systemd units, a watchdog for boots on
trial, and XenStore's lock. The policy is booted once, on trial; if the host is
healthy with it, it is kept (`shype host commit`, by a unit). If not (Xen
panics, dom0 crashes, hangs or does not enforce) the next boot is the last good
policy, or, if there was none yet, the entry that was the default before.

example: shype host install --xen /xen-flask.gz --dry-run
exit codes: 0 done (or nothing to do); 2 something is in the way; 3 something
needed is not there
"""
_UNINSTALL = """\
Puts every file back as it was before. What somebody has changed since is not
overwritten, but named. Keys, /etc/shype and the audit trail stay.

example: shype host uninstall
exit codes: 0 all is as before; 1 some files were left (they are named)
"""
_COMMIT = """\
Run at each boot by a unit. In a boot on trial: asks whether the hypervisor
enforces this policy and XenStore is locked, makes it the good one, and stops
the watchdog. In any other: sees to it that the agent's bundle is that of the
policy that was booted, and says which trial was given up.

example: shype host commit
exit codes: 0 the policy of this boot is good; 1 it is, but a trial was given
up before; 2, 3 this boot is not healthy
"""


def add(commands: Commands) -> None:
    """Register the command."""
    raw = argparse.RawDescriptionHelpFormatter
    host = commands.add_parser(
        "host", help="install shype on this host, or take it off", epilog=_EPILOG,
        description="Install shype on this host, or take it off.", formatter_class=raw)
    ways = host.add_subparsers(metavar="WAY", required=True)
    install = ways.add_parser(
        "install", help="make this host boot into its policy", epilog=_INSTALL,
        description="Make this host boot into its policy.", formatter_class=raw)
    install.add_argument("--bundle", type=Path, metavar="FILE",
                         help="the policy to try (default /etc/shype/policy.shype)")
    install.add_argument("--xen", metavar="PATH",
                         help="the hypervisor, from /boot on (default /xen-flask.gz)")
    install.add_argument("--kernel", metavar="PATH", help="dom0's kernel (default: the newest)")
    install.add_argument("--initrd", metavar="PATH", help="its initial RAM disk")
    install.add_argument("--dom0-mem", metavar="SIZE", help="dom0's memory (default 2048M)")
    install.add_argument("--xen-args", metavar="WORDS", help="further words for Xen")
    install.add_argument("--kernel-args", metavar="WORDS",
                         help="words for dom0's kernel (default: those of this boot)")
    install.add_argument("--watchdog", type=count, metavar="S",
                         help="seconds until a boot on trial must be healthy (default 600)")
    install.add_argument("--no-watchdog", action="store_true",
                         help="do not end a boot on trial that hangs")
    install.add_argument("--dry-run", action="store_true", help="only show what would change")
    install.add_argument("--refresh", action="store_true",
                         help="make the files anew, put no policy on trial (for kernel hooks)")
    install.set_defaults(run=_install)
    uninstall = ways.add_parser(
        "uninstall", help="put every file back as it was", epilog=_UNINSTALL,
        description="Put every file back as it was.", formatter_class=raw)
    uninstall.set_defaults(run=_uninstall)
    commit = ways.add_parser(
        "commit", help="keep the policy on trial if this host is healthy", epilog=_COMMIT,
        description="Keep the policy on trial if this host is healthy.", formatter_class=raw)
    commit.add_argument("--reboot", action="store_true",
                        help="end a boot on trial that is not healthy")
    commit.set_defaults(run=_commit)
    for way in (install, uninstall, commit):
        way.add_argument("--keys", type=Path, default=Path("/etc/shype/keys"), metavar="DIR",
                         help="the keys that this host trusts (default %(default)s)")
        way.add_argument("--root", type=Path, default=Path("/"), metavar="DIR",
                         help="another root directory, of an image (default %(default)s)")
        way.add_argument("--separate-boot", action="store_true", default=None,
                         help="the image's /boot is to be a file system of its own")
        way.add_argument("--json", action="store_true", help="print JSON")


def _places(args: argparse.Namespace) -> Places:
    from shype.host.install.places import Places

    return Places(args.root.absolute(), args.separate_boot)


def _options(args: argparse.Namespace, places: Places) -> Options:
    """What was chosen now, else last time, else the default."""
    from dataclasses import replace

    from shype.host.install import installing, trial
    from shype.host.install.changes import recorded

    _, last = recorded(places)
    options = installing.kept(last, shutil.which("shype") or "/usr/bin/shype")
    if not last:
        now = installing.kernel_args(trial.running())
        options = replace(options, kernel_args=now)
    names = ("xen", "kernel", "initrd", "dom0_mem", "xen_args", "kernel_args", "watchdog")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.no_watchdog:
        given["watchdog"] = 0
    return replace(options, **given)


def _install(args: argparse.Namespace) -> int:
    from shype.host.install import changes, installing, trial

    places = _places(args)
    options = _options(args, places)
    wanted = installing.wanted(places, options)
    bundle = args.bundle or places.bundle
    found = None if args.refresh else trial.read_trusted(bundle, args.keys)
    state = None if found is None else trial.staged(places, found[1])
    if args.dry_run:
        _show(args, changes.differences(places, wanted), None, state, ())
        return 0
    done = changes.apply(places, wanted, options.to_json())
    ran = installing.refresh_system(places, tuple(one.path for one in done))
    name = None
    if found is not None and state is None:
        name = trial.stage(places, *found)  # last: GRUB uses the rest only with a policy
    _show(args, done, name, state, ran)
    return 0


def _show(args: argparse.Namespace, done: tuple[Difference, ...], staged: str | None,
          state: str | None, ran: tuple[str, ...]) -> None:
    if args.json:
        output.print_json({
            "changed": [f"/{one.path}" for one in done], "dry_run": args.dry_run,
            "diff": ["".join(one.lines) for one in done], "trial": staged, "policy_is": state,
            "ran": list(ran),
        })
        return
    for one in done:
        if args.dry_run:
            print("".join(one.lines), end="")
        else:
            print(f"changed: /{one.path}")
    for command in ran:
        print(f"ran: {command}")
    if not done:
        print("no file to change")
    if staged is not None:
        print(f"policy {staged} is on trial: the next boot tries it, once")
    elif args.dry_run and not args.refresh:
        print("the policy would be put on trial" if state is None else f"the policy is {state}")
    elif state is not None:
        print(f"the policy is {'good' if state == 'good' else 'on trial'} already")


def _uninstall(args: argparse.Namespace) -> int:
    from shype.host.install import changes, installing, trial
    from shype.host.resources import scripts

    places = _places(args)
    restored, left = changes.undo(places)
    if "boot/grub/custom.cfg" not in left:
        trial.remove(places)
    # Without shype, the veto would refuse every device.
    xen = places.root / "etc/xen/scripts"
    vetoed = [one.path for one in scripts.look(xen) if one.vetoed]
    if vetoed:
        scripts.remove(xen)
        restored += tuple(str(path.relative_to(places.root)) for path in vetoed)
    installing.refresh_system(places, restored)
    if args.json:
        output.print_json({"restored": [f"/{name}" for name in restored],
                           "left": [f"/{name}" for name in left]})
    else:
        for name in restored:
            print(f"as before: /{name}")
        for name in left:
            output.note(f"left, because somebody has changed it: /{name}")
        if not restored and not left:
            print("shype is not installed here")
    return 1 if left else 0


def _commit(args: argparse.Namespace) -> int:
    from shype.base.errors import BadInput, ShypeError
    from shype.host.install import trial

    places = _places(args)
    boot = trial.booted(trial.running())
    if boot is None:
        raise BadInput("boot.not-ours", "this host was not booted by shype's boot entry",
                       "shype host install, and reboot")
    try:
        done = trial.settle(places, boot, args.keys, trial.health(places))
    except ShypeError as error:
        if args.reboot and boot.trial:
            output.note(f"shype: not healthy, so this trial ends: {error}")
            trial.reboot()
        raise
    if args.json:
        output.print_json({"policy": done.policy, "committed": done.committed,
                           "given_up": done.given_up, "bundle_placed": done.placed})
    else:
        print(f"policy {done.policy} is good" + (", kept" if done.committed else ""))
        if done.given_up:
            print(f"policy {done.given_up} was tried, and given up")
        if done.placed:
            print(f"{places.bundle} is its bundle now")
    return 1 if done.given_up else 0

"""`shype apply`: a new policy for a host that runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.host import command, lock_option, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shype.cli.types import Commands
    from shype.host.update.flows import Look
    from shype.host.update.update import Applied, Step, Update

#: What is said of some of the steps.
_TOLD = {"paused": "loading the policy", "loaded": "the policy is loaded: testing it",
         "tested": "it stands its test", "returned": "the old policy is in force again"}

_APPLY = """\
Both policies say `updates: live` under `host:`. It shows what changes and what
becomes of the VMs that run, asks, and loads the policy all or nothing. Then the
hypervisor's decisions and the labels of all VMs are tested; a policy that does
not stand the test is rolled back. BUNDLE becomes the host's bundle (--bundle).

A VM that has mapped memory of another, from which the new policy keeps it, goes
on using it through a load. `revocation:` under `host:` of the new policy says
what happens: refuse (the update), detach (devices only), pause, destroy.

At boot, Xen gets what the boot entry names: --boot-policy FILE replaces it too.
On a host installed by `shype host install`, the next boot tries it by itself.

example:
  shype apply new.shype --dry-run
  shype apply new.shype --yes
exit codes: 0 applied; 1 refused, or something still flows; 2 bad input; 3 the
host cannot do it, or the new policy did not stand its test and the old one is
in force again
"""


def add(commands: Commands) -> None:
    """Register the command."""
    apply = command(commands, "apply", "put a new policy into force while VMs run", _APPLY, _run)
    apply.add_argument("new", type=Path, metavar="BUNDLE", help="the signed bundle to apply")
    apply.add_argument("--yes", action="store_true", help="do not ask")
    apply.add_argument("--dry-run", action="store_true", help="only say what it would do")
    apply.add_argument("--boot-policy", type=Path, metavar="FILE",
                       help="the policy module of the boot entry, to be replaced as well")
    lock_option(apply)


def _run(args: argparse.Namespace) -> int:
    from shype.cli.agent import open_agent, place
    from shype.host.admission import refusals_recorded
    from shype.host.update import staged
    from shype.host.update.update import Update

    agent = open_agent(args)
    with refusals_recorded(agent.state, args.new):
        old, new = (staged.read(path, args.keys) for path in (args.bundle, args.new))
        made = Update(old, new, args.bundle.absolute(), agent.state, place(args)[1],
                      lambda step: _progress(step, args), boot=args.boot_policy,
                      measurer=agent.measurer)
        return _apply(args, made)


def _progress(step: Step, args: argparse.Namespace) -> None:
    if step in _TOLD and not args.json:
        output.note(f"{_TOLD[step]} ...")


def _apply(args: argparse.Namespace, made: Update) -> int:
    with made.before.lock.hold(args.lock_timeout):
        found = made.plan()
    refused = made.refusal(found)
    if not args.json:
        _show_plan(found, made)
    if args.dry_run or refused is not None:
        if args.json:
            show(args, _json(found, refused, None))
        elif refused is not None:
            print(f"refused: {refused}")
        return 0 if refused is None else 1
    if not args.yes and not _confirmed(args):
        output.note("nothing was changed")
        return 1
    with made.before.lock.hold(args.lock_timeout):
        done = made.apply(confirmed=found)
    if done.refused is None:
        _have_it_booted(args)
    if args.json:
        show(args, _json(done.look, done.refused, done))
    else:
        _tell(made, done)
    return 1 if done.refused is not None or done.left else 0


def _have_it_booted(args: argparse.Namespace) -> None:
    """On a host that `shype host install` has installed, the next boot tries this policy."""
    from shype.host.install import trial
    from shype.host.install.places import Places

    places = Places()
    if args.driver == "xen" and places.env.exists():
        name = trial.stage(places, *trial.read_trusted(args.new, args.keys))
        output.note(f"the next boot tries this policy ({name}), once")


def _confirmed(args: argparse.Namespace) -> bool:
    from shype.base.errors import BadInput
    from shype.cli.asking import confirmed

    return confirmed(args, "apply it?", BadInput(
        "apply.unconfirmed", "nobody is there to be asked",
        "look at --dry-run, and then give --yes"))


def _show_plan(found: Look, made: Update) -> None:
    from shype.cli.plan import show_plan

    show_plan(found.plan)
    for one in found.sequels:
        print(f"\nnote: {one.sentence} [{one.id}]\n  fix: {one.fix}")
    chosen = made.after.policy.host.revocation
    if not found.certain:
        print("\nthe hypervisor's print of its grant tables was not complete: whoever could map "
              "memory is taken to have it mapped")
    if found.holders:
        print(f"\nrevocation: {chosen}: " + _vms(found.holders.values()))


def _vms(names: Iterable[str]) -> str:
    from shype.decision.wording import listed, printable

    return listed([printable(name) for name in names])


def _tell(made: Update, done: Applied) -> None:
    if done.refused is not None:
        print(f"refused: {done.refused}")
        return
    policy = made.after.policy
    print(f"{policy.name} {policy.version} is in force, and the host's bundle")
    for what, names in (("paused", done.paused), ("destroyed", done.destroyed),
                        ("detached", done.detached), ("STILL FLOWS", done.left)):
        if names:
            print(f"{what}: {_vms(names)}")


def _json(found: Look, refused: str | None, done: Applied | None) -> dict[str, object]:
    return {
        "applied": done is not None and refused is None, "refused": refused,
        "certain": found.certain, "plan": found.plan.to_json(),
        "sequels": [one.to_json() for one in found.sequels],
        "holders": [{"domid": domid, "vm": vm} for domid, vm in found.holders.items()],
        **({name: list(getattr(done, name)) for name in
            ("paused", "destroyed", "detached", "left")} if done is not None else {}),
    }

"""`shype run`, `stop`, `ps`, `status`, `recover`: the agent on an enforcing host."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output
from shype.cli.agent import add_options, open_agent
from shype.cli.types import seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from shype.cli.types import Commands
    from shype.decision.decision import Decision
    from shype.host.agent import Agent
    from shype.host.census import Resident, Window
    from shype.host.launch import Outcome, Step
    from shype.host.status import Status

_RUN = """\
The VM's label is what the policy says under `vms:`; else seclabel= of the
configuration (a label's name, or a security context); else `unlabeled`, if the
policy has that label. The VM is built paused, inside a launch window that the
hypervisor opens for exactly this label; root's own `xl create` finds that
window closed. When the guest reboots it is started again, decided anew (see
`shype watch`).

example: shype run /etc/xen/a-db.cfg
exit codes: 0 it runs, 1 refused by the policy, 2 bad input, 3 the host cannot
enforce
"""
_STOP = """\
Waits until the hypervisor no longer lists the VM: a dying domain still holds
its memory, and so its place in the wall. --force alone destroys it at once;
--force --timeout 30 after 30 seconds.

example: shype stop a-db --timeout 120
"""
_PS = "example: shype ps --json"
_STATUS = """\
example: shype status
exit codes: 0 enforcing with our policy, XenStore locked, window closed, wall
and bridges true; 1 something to look at (an open window, an unfinished launch,
a VM without a known label, an unfinished update, a changed filter on the
bridges, a device that its VM may not have, no veto in the hotplug scripts
though the policy labels disks or networks, an audit trail without room); 3 the
host cannot enforce
"""
_RECOVER = """\
Closes the launch window, destroys what a killed launch half made, and sets the
wall from who really runs. The agent does this by itself after a kill and before
each command; by hand it is needed only if that failed.

example: shype recover
"""


def add(commands: Commands) -> None:
    """Register the commands."""
    run = command(commands, "run", "start a VM under the policy", _RUN, _run)
    run.add_argument("config", type=Path, metavar="VM.cfg", help="the VM's configuration (xl.cfg)")
    lock_option(run)
    stop = command(commands, "stop", "stop a VM and release its wall", _STOP, _stop)
    stop.add_argument("vm", metavar="NAME|DOMID", help="the VM, by name or domain id")
    stop.add_argument("--force", action="store_true", help="destroy it if it does not go")
    stop.add_argument(
        "--timeout", type=seconds, metavar="S",
        help="seconds that the guest gets to shut down (default 60; with --force 0)",
    )
    lock_option(stop)
    command(commands, "ps", "list the VMs with their labels", _PS, _ps)
    command(commands, "status", "say whether this host enforces the policy", _STATUS, _status)
    recover = command(commands, "recover", "clean up after a killed launch", _RECOVER, _recover)
    lock_option(recover)


def command(
    commands: Commands, name: str, what: str, epilog: str,
    run: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    """A command on a host, with the options of them all."""
    made = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + ".", epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(made)
    made.set_defaults(run=run)
    return made


def lock_option(command: argparse.ArgumentParser) -> None:
    """How long to wait for another command."""
    command.add_argument(
        "--lock-timeout", type=seconds, default=30.0, metavar="S",
        help="seconds to wait while another shype changes this host (default %(default)g)",
    )


def show(args: argparse.Namespace, value: dict[str, object]) -> None:
    """Print a JSON document, marked if it is about a model."""
    output.print_json({**value, **({"driver": "model"} if args.driver == "model" else {})})


# -- run, stop, recover ---------------------------------------------------------------------------


def _run(args: argparse.Namespace) -> int:
    from shype.host.launch import launch

    agent = open_agent(args)
    outcome = launch(
        agent, args.config, observer=lambda step: progress(step, args),
        lock_timeout=args.lock_timeout,
    )
    _collect(agent)
    return print_outcome(outcome, args)


def print_outcome(outcome: Outcome, args: argparse.Namespace) -> int:
    """Say how a launch or a restoration ended; the exit code."""
    for notice in outcome.notices:
        output.note(f"notice: {notice}")
    if args.json:
        show(args, {
            "vm": outcome.vm, "label": outcome.label, "domid": outcome.domid,
            "source": outcome.source, "notices": list(outcome.notices),
            "decision": outcome.decision.to_json(),
        })
    elif outcome.domid is not None:
        print(f"{outcome.vm} runs as domain {outcome.domid} with the label {outcome.label}")
    else:
        print_refusal(outcome.decision, outcome.source)
    return 0 if outcome.domid is not None else 1


def _collect(agent: Agent) -> None:
    """The command has done its work: what was refused meanwhile goes on record."""
    from shype.host.gather import gather_quietly

    problem = gather_quietly(agent)
    if problem is not None:
        output.note(f"warning: denials were not put on record: {problem}")


def progress(step: Step, args: argparse.Namespace) -> None:
    """Say what takes its time."""
    from shype.host.launch import Step

    said = {
        Step.OPENED: "launch window open, building the VM ...",
        Step.CLOSED: "launch window closed",
    }
    if step in said and not args.json:
        output.note(said[step])


def print_refusal(decision: Decision, source: str) -> None:
    """A refusal with its holders and rules."""
    print(f"denied by the {source}: {decision.sentence} [{decision.id}]")
    for holder in decision.holders:
        print(f"  held by: {holder.vm} (domain {holder.domid}, {holder.label}) as {holder.member}")
    for span in decision.rules:
        print(f"  rule: {span}")


def _stop(args: argparse.Namespace) -> int:
    from shype.host.stop import stop

    timeout = args.timeout if args.timeout is not None else 0.0 if args.force else 60.0
    agent = open_agent(args)
    done = stop(
        agent, args.vm, force=args.force, timeout=timeout, lock_timeout=args.lock_timeout,
    )
    _collect(agent)
    if args.json:
        show(args, {
            "vm": done.domain.name, "domid": done.domain.domid, "destroyed": done.destroyed,
            "released": list(done.released),
        })
        return 0
    how = "destroyed" if done.destroyed else "shut down"
    print(f"{done.domain.name} (domain {done.domain.domid}) is {how}")
    if done.released:
        member_of = {boolean: m for m, boolean in agent.manifest.booleans.running.items()}
        print(f"  released: {', '.join(member_of.get(name, name) for name in done.released)}")
    return 0


def _recover(args: argparse.Namespace) -> int:
    from shype.host.recovery import recover
    from shype.host.vtpm import serving

    agent = open_agent(args)
    with agent.lock.hold(args.lock_timeout):
        done = recover(agent)
        serving.follow(agent, done.found)  # a killed launch may have left its VM's TPM
    _collect(agent)
    if args.json:
        show(args, {
            "unfinished": done.unfinished.vm if done.unfinished else None,
            "window_was_open": done.window.open, "changed": list(done.changed),
            "destroyed": [{"domid": d.domid, "vm": d.name} for d in done.destroyed],
        })
        return 0
    if done.nothing:
        print("nothing to recover: window closed, wall true, no unfinished launch")
    if done.window.open:
        print(f"closed the launch window ({done.window.label or 'of no label'})")
    if done.unfinished is not None:
        print(f"the launch of {done.unfinished.vm} was unfinished")
    for domain in done.destroyed:
        print(f"destroyed domain {domain.domid} ({domain.name}), which it had half made")
    if done.changed:
        print(f"set: {', '.join(done.changed)}")
    return 0


# -- ps, status -----------------------------------------------------------------------------------


def _ps(args: argparse.Namespace) -> int:
    from shype.host.census import residents

    agent = open_agent(args)
    found = residents(agent)
    strange = [r for r in found if r.label is None]
    if args.json:
        show(args, {"domains": [_resident(agent, r) for r in found]})
    else:
        rows = [_row(agent, r) for r in found]
        output.table("", ("DOMID", "VM", "LABEL", "COALITIONS", "WALL", "STATE"), rows)
    for r in strange:
        output.note(
            f"warning: {r.domain.name} (domain {r.domain.domid}) has the context "
            f"{r.domain.context}, which is no label of the policy: nothing new will start beside it"
        )
    return 1 if strange else 0


def _state(resident: Resident) -> str:
    domain = resident.domain
    if domain.dying:
        return "dying"
    if domain.ended is not None:
        from shype.host.hypervisor import Ending

        suspended = domain.ended is Ending.SUSPEND
        return "suspended" if suspended else f"ended ({domain.ended})"
    return "paused" if domain.paused else "running"


def _sets(agent: Agent, resident: Resident) -> tuple[list[str], list[str]]:
    if resident.label is None:
        return [], []
    retired = agent.policy.retired.get(resident.label)
    if retired is not None:
        return [], sorted(retired.members)
    label = agent.policy.labels[resident.label]
    return sorted(agent.policy.coalitions_of(label.name)), sorted(label.members)


def _row(agent: Agent, resident: Resident) -> tuple[str, ...]:
    from shype.decision.wording import printable

    coalitions, members = _sets(agent, resident)
    return (
        str(resident.domain.domid), printable(resident.domain.name), resident.label or "UNKNOWN",
        ", ".join(coalitions) or "-", ", ".join(members) or "-", _state(resident),
    )


def _resident(agent: Agent, resident: Resident) -> dict[str, object]:
    coalitions, members = _sets(agent, resident)
    return {
        "domid": resident.domain.domid, "vm": resident.domain.name, "label": resident.label,
        "context": resident.domain.context, "coalitions": coalitions, "wall": members,
        "state": _state(resident),
    }


def _status(args: argparse.Namespace) -> int:
    from shype.host.status import status

    agent = open_agent(args, resume=False)
    now = status(agent)
    if args.json:
        show(args, _status_json(agent, now))
    else:
        output.table("", ("WHAT", "STATE"), _status_rows(agent, now))
        if now.problem is not None:
            output.note(f"shype: error: {now.problem}")
        elif now.store_problem is not None:
            output.note(f"shype: error: {now.store_problem}")
        elif any(point.wrong for point in now.points):
            for point in (point for point in now.points if point.wrong):
                output.note(f"shype: {point.name}: {point}")
        elif not now.sound:
            output.note("something is unfinished or open: `shype recover` closes and repairs it")
    if not now.able:
        return 3
    return 0 if now.sound else 1


def _window_word(window: Window | None) -> str:
    if window is None:
        return "unknown"
    return f"OPEN for {window.label or 'no label'}" if window.open else "closed"


def _status_rows(agent: Agent, now: Status) -> list[tuple[str, str]]:
    ref = agent.manifest.policy
    rows = [
        ("enforcement", str(now.enforcement)),
        ("policy", f"{ref.name} {ref.version} ({agent.manifest.target})"),
        ("digest", agent.manifest.digest),
        ("loaded", "ok" if now.problem is None else f"NO [{now.problem.id}]"),
        ("launch window", _window_word(now.window)),
    ]
    for wall in now.wall:
        word = "held" if wall.known else "free"
        if not wall.safe:
            word = "WRONG: a VM holds it, and the hypervisor does not know"
        elif wall.known and not wall.runs:
            word = "held, though no VM runs (released by the next command)"
        rows.append((f"wall member {wall.member}", word))
    rows += [("unknown domain", text) for text in now.unknown]
    rows += [("expired guard", f"{text}: stop it, or renew it") for text in now.expired]
    rows += [(point.name, str(point)) for point in now.points]
    if now.unfinished is not None:
        left = now.unfinished
        rows.append(("journal", f"unfinished launch of {left.vm} ({left.label}), pid {left.pid}"))
    elif now.journal_problem is not None:
        rows.append(("journal", f"damaged [{now.journal_problem.id}]"))
    else:
        rows.append(("journal", "no unfinished launch"))
    if now.update is not None:
        way = now.update
        rows.append(("policy update", f"unfinished: {way.old} -> {way.new} ({way.phase}), pid "
                     f"{way.pid}; any other command finishes it, or goes back"))
    if now.busy is not None:
        rows.append(("busy", f"pid {now.busy or 'unknown'} is changing this host's VMs"))
    return rows


def _status_json(agent: Agent, now: Status) -> dict[str, object]:
    left, window = now.unfinished, now.window
    return {
        "sound": now.sound, "enforcement": now.enforcement,
        "policy": {
            "name": agent.manifest.policy.name, "version": agent.manifest.policy.version,
            "digest": agent.manifest.digest, "target": agent.manifest.target,
            "loaded": now.problem is None,
        },
        "problem": now.problem.to_json() if now.problem else None,
        "store_problem": now.store_problem.to_json() if now.store_problem else None,
        "window": {"open": window.open, "label": window.label} if window else None,
        "wall": {w.member: {"runs": w.runs, "known": w.known} for w in now.wall},
        "unknown": list(now.unknown),
        "expired": list(now.expired),
        "network": list(now.network), "points": [point.to_json() for point in now.points],
        "journal": {"vm": left.vm, "label": left.label, "pid": left.pid} if left else None,
        "journal_problem": now.journal_problem.to_json() if now.journal_problem else None,
        "update": {"old": now.update.old, "new": now.update.new, "phase": now.update.phase,
                   "pid": now.update.pid} if now.update else None,
        "busy": now.busy,
        "audit": {
            "seq": now.trail.seq if now.trail else 0, "hash": now.trail.hash if now.trail else None,
            "waiting": bool(now.trail and now.trail.reserve),
            "lost": now.trail.lost if now.trail else 0,
            "problem": now.trail_problem.to_json() if now.trail_problem else None,
        },
    }

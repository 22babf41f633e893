"""The options that every command on a host has, and the agent that they describe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from shype.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from shype.host.agent import Agent
    from shype.host.attestation.peers import Attester
    from shype.host.hypervisor import Hypervisor
    from shype.host.measurer import Measurer
    from shype.host.witness import Witness
    from shype.policy.manifest import Bundle


#: Where a Xen host has its policy and the keys that it trusts, and its agent's state.
BUNDLE, KEYS = Path("/etc/shype/policy.shype"), Path("/etc/shype/keys")
HOME = Path("/var/lib/shype")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add them."""
    command.add_argument(
        "--bundle", type=Path, default=BUNDLE, metavar="FILE",
        help="the signed bundle of the policy that the hypervisor has loaded (default %(default)s)",
    )
    command.add_argument(
        "--keys", type=Path, default=KEYS, metavar="DIR",
        help="the keys whose signatures this host trusts (default %(default)s)",
    )
    command.add_argument(
        "--state", type=Path, metavar="DIR",
        help="the agent's own state (default /var/lib/shype; with a model, beside its file)",
    )
    command.add_argument(
        "--driver", choices=("xen", "model"), default="xen",
        help="model: an in-process model instead of Xen, for what-if; enforces nothing",
    )
    command.add_argument(
        "--model-file", type=Path, metavar="FILE", help="where the model keeps its state",
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def open_agent(args: argparse.Namespace, *, resume: bool = True) -> Agent:
    """The agent, once it is sure that this host may act by the bundle.

    An update that was killed is finished before, unless ``resume`` is false.

    Raises BadInput (``bundle.*``, ``key.*``, ``model.file``), Unavailable (``host.no-xen``, ...).
    """
    from shype.base.errors import BadInput
    from shype.host.admission import admit, refusals_recorded
    from shype.host.agent import Agent
    from shype.host.loads import record_load
    from shype.host.trust import load_trusted
    from shype.host.trust_events import record_keys

    if (args.driver == "model") != (args.model_file is not None):
        raise BadInput(
            "model.file", "--driver model and --model-file FILE go together",
            "give both, or none of them on a Xen host",
        )
    if args.model_file is not None:
        output.note("MODEL: this is not a hypervisor; nothing is enforced")
        if not args.json:
            print("MODEL, not a hypervisor:")
    state, driver = place(args)
    with refusals_recorded(state, args.bundle):
        if resume:
            finish_update(args, state, driver)
        bundle = load_trusted(args.bundle, args.keys)
        agent = admit(Agent(
            bundle, driver(bundle), state, attester(state), measurer(state),
            _witness(args, bundle, state)))
        record_keys(agent, args.keys)
        record_load(agent)
        _measure(agent)
    return agent


def _measure(agent: Agent) -> None:
    """Measure what is new, and say so if that cannot be: whoever only looks may go on."""
    from shype.host.measured import observe

    error = observe(agent)
    if error is not None:
        output.note(f"shype: not measured: {error}")


def _witness(args: argparse.Namespace, bundle: Bundle, state: Path) -> Witness:
    """The meter, on a host that has begun a ledger."""
    from shype.host import witness

    try:
        begun = (state / "meter/head.json").exists()
    except PermissionError:
        begun = False  # not root: whatever wants to change the host will say so
    if not begun:
        return witness.NOBODY
    from shype.cli.meter import source_of
    from shype.host.audit.event import Event, Result
    from shype.host.audit.trail import Trail
    from shype.meter.ledger import Ledger
    from shype.meter.sampler import Whose
    from shype.meter.witness import Sampling

    return Sampling(
        Ledger(state / "meter"), source_of(args), Whose(bundle.policy, bundle.manifest),
        lambda error: Event(kind="meter.sample", result=Result.FAILED, error=error.id,
                            message=error.message, deferrable=True),
        lambda event: Trail(state / "audit").record(event))


def place(args: argparse.Namespace) -> tuple[Path, Callable[[Bundle], Hypervisor]]:
    """The agent's state directory, and what makes the driver for a bundle."""
    if args.model_file is not None:
        from shype.host.drivers.model import ModelHypervisor

        file = args.model_file
        # Never the real host's state: there, a launch may be waiting to be recovered.
        state = args.state or file.with_name(f"{file.name}.state")
        return state.absolute(), lambda bundle: ModelHypervisor(bundle, file)
    from shype.host.drivers.xen.driver import XenHypervisor, require_xen

    require_xen()
    state = (args.state or HOME).absolute()

    def driver(bundle: Bundle) -> Hypervisor:
        made = XenHypervisor()
        manager = bundle.policy.host.manager
        if manager is not None:
            from shype.host.drivers.xen.flask import Flask
            from shype.host.manager.managed import Managed
            from shype.host.manager.start import link

            made.monitor = Managed(
                link(made, bundle.manifest, manager, state), Flask(), bundle.manifest)
        return made

    return state, driver


def measurer(state: Path) -> Measurer:
    """Who measures on a host that is set up for attestation (`shype attest enrol`)."""
    from shype.host.attestation.standing import enrolled
    from shype.host.measurer import NOBODY

    if not enrolled(state):
        return NOBODY
    from shype.attest.measuring import TpmMeasurer

    return TpmMeasurer(event_log_of(state).parent)


def event_log_of(state: Path) -> Path:
    """Where the agent with the state directory ``state`` keeps this boot's event log."""
    # The registers are empty after a boot, and so is /run.
    return (Path("/run/shype/attest") if state == HOME else state / "attest/run") / "event-log"


def attester(state: Path) -> Attester | None:
    """Who proves to other hosts what this one is, if it is set up for attestation."""
    from shype.host.attestation.standing import directory, enrolled

    if not enrolled(state):
        return None
    from shype.attest.peer import TpmAttester

    return TpmAttester(directory(state))


def attesting_agent(args: argparse.Namespace) -> Agent:
    """The agent of this host in whatever state that is, after it has measured what is in force.

    A host that must not act any more can still say so to its verifier. Raises as `open_agent`, but
    for what would refuse to act.
    """
    from shype.host.agent import Agent
    from shype.host.trust import load_trusted

    state, driver = place(args)
    bundle = load_trusted(args.bundle, args.keys)
    agent = Agent(bundle, driver(bundle), state, attester(state), measurer(state))
    _measure(agent)
    return agent


def observe_host() -> None:
    """Measure what is new on this Xen host, whatever its state: nothing is refused here.

    On another host nothing happens.
    Raises BadInput (``bundle.*``, ``key.*``): what should be in force cannot even be told.
    """
    from shype.base.errors import Unavailable
    from shype.host.agent import Agent
    from shype.host.drivers.xen.driver import XenHypervisor, require_xen
    from shype.host.trust import load_trusted

    try:
        require_xen()
    except Unavailable:
        return
    bundle = load_trusted(BUNDLE, KEYS)
    _measure(Agent(bundle, XenHypervisor(), HOME, measurer=measurer(HOME)))


def finish_update(
    args: argparse.Namespace, state: Path, driver: Callable[[Bundle], Hypervisor]
) -> None:
    """If an update of the policy was killed: go on with it, or back, before anything else.

    The host's own bundle is right only afterwards. One that is still at work keeps the lock:
    whoever only looks is then told what the hypervisor has.
    """
    from shype.host.update.journal import UpdateJournal

    if not UpdateJournal(state).unfinished:
        return
    from shype.host.lock import LaunchLock
    from shype.host.update.update import unfinished

    with LaunchLock(state).hold(getattr(args, "lock_timeout", 0.0)):
        update = unfinished(state, args.keys, driver, measurer(state))
        if update is not None:
            output.note("an update of the policy was not finished: "
                        f"{update.before.manifest.policy.version} -> "
                        f"{update.after.manifest.policy.version}")
            update.resume()

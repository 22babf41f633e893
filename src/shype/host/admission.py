"""Whether this host may act by a bundle: made for its hypervisor, and no step back.

Asked before every command.  That the bundle is signed is `shype.policy.signed`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.install.trial import undecided
from shype.host.table import Table
from shype.host.versions import Accepted, advanced
from shype.policy.grammar import is_name, is_version
from shype.policy.model import Enforcement

#: Far more than any record takes, bytes.
MAX_RECORD = 1024 * 1024


def admit(agent: Agent) -> Agent:
    """``agent``, unless its bundle is for another hypervisor or older than what ran here.

    A version counts from when the hypervisor enforces it (and, where policies are booted on
    trial, it has been found good), so that a bundle may be copied to the host before the
    reboot, and back.

    Raises BadInput: ``bundle.wrong-target``, ``bundle.older``, ``bundle.version-reused``;
    Unavailable: ``accepted.corrupt``, ``state.unwritable``, what the hypervisor raises.
    """
    made_for, runs = agent.manifest.target, agent.hypervisor.target()
    if made_for != runs:
        raise BadInput(
            "bundle.wrong-target",
            f"{agent.bundle.path} was built for {made_for}, and this hypervisor is {runs}",
            f"build it again with --target {runs}",
        )
    table = accepted(agent.state)
    known = table.read()
    new = advanced(known, agent.bundle)
    # What is only on trial may be given up, and the version before must then be good enough.
    if new != known and enforced(agent) and not undecided():
        policy = agent.manifest.policy
        agent.record(Event(
            kind="bundle.accept", result=Result.DONE, object=f"bundle:{agent.bundle.path}",
            deferrable=True, details={
                "policy": policy.name, "version": policy.version, "target": made_for,
                "digest": agent.manifest.digest}))
        with table.locked():
            table.write(advanced(table.read(), agent.bundle))
    return agent


@contextmanager
def refusals_recorded(state: Path, bundle: Path) -> Iterator[None]:
    """A bundle that is not believed is put on record, though there is no agent by it."""
    try:
        yield
    except BadInput as error:
        from shype.host.audit.trail import Trail

        Trail(state / "audit").record(Event(
            kind="bundle.refuse", result=Result.REFUSED, object=f"bundle:{bundle}",
            error=error.id, message=error.message, deferrable=True))
        raise


def accepted(state: Path) -> Table[Accepted]:
    """The file ``accepted.json`` in the state directory: policy name -> `Accepted`.

    Reading it raises Unavailable (``accepted.corrupt``) if it is damaged.
    """
    return Table(state / "accepted.json", "policies", _accepted, MAX_RECORD, _corrupt)


def enforced(agent: Agent) -> bool:
    """Whether the hypervisor has this very policy loaded."""
    if agent.hypervisor.enforcement() is Enforcement.NONE:
        return False
    return agent.hypervisor.boolean(agent.manifest.booleans.digest) is not None


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "accepted.corrupt", f"the record of the policies that ran here, {path}, is damaged",
        "restore it from a backup; without it an older policy would be accepted again: "
        "remove it only if you know that the bundle is the newest",
    )


def _accepted(name: str, item: object) -> Accepted:
    if not is_name(name):
        raise ValueError("name")
    if not isinstance(item, dict) or set(item) != {"version", "digests", "renamed"}:
        raise TypeError("entry")
    version, digests, renamed = item["version"], item["digests"], item["renamed"]
    if not isinstance(version, str) or not is_version(version) or type(renamed) is not bool:
        raise ValueError("version")
    if not isinstance(digests, dict) or not all(isinstance(d, str) for d in digests.values()):
        raise TypeError("digests")
    return Accepted(version, digests, renamed)

"""Whether this host may act by a bundle: made for its hypervisor, and no step back.

Asked before every command.  That the bundle is signed is `shype.policy.signed`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.event import Event, Result
from shype.host.install.trial import undecided
from shype.host.table import Table
from shype.policy.grammar import is_name, is_version, version_order
from shype.policy.manifest import Bundle
from shype.policy.model import Enforcement

#: Far more than any record takes, bytes.
MAX_RECORD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Accepted:
    """The highest version of a policy that the hypervisor has been seen to enforce.

    ``digests`` by target: one version is one policy, which may be compiled for several releases.
    ``renamed``: a later policy took this one's place under another name with this very version.
    """

    version: str
    digests: Mapping[str, str] = field(default_factory=dict)
    renamed: bool = False


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


def advanced(known: Mapping[str, Accepted], bundle: Bundle) -> dict[str, Accepted]:
    """``known`` with ``bundle`` accepted; equal to it if that is nothing new.

    A policy that was renamed goes on where the old name stopped: its version must be higher
    than the old one's, and the old name's must then be higher than it.

    Raises BadInput: ``bundle.older``, ``bundle.version-reused``.
    """
    policy, manifest = bundle.policy, bundle.manifest
    result = dict(known)
    if policy.was is not None and policy.was != policy.name:
        before, mine = known.get(policy.was), known.get(policy.name)
        higher = before is None or version_order(before.version) < version_order(policy.version)
        if before is not None and not higher and (mine is None or not before.renamed):
            raise _older(bundle, policy.was, before)
        if higher:
            result[policy.was] = Accepted(policy.version, renamed=True)
    old = known.get(policy.name)
    if old is None or version_order(old.version) < version_order(policy.version):
        result[policy.name] = Accepted(policy.version, {manifest.target: manifest.digest})
        return result
    if old.renamed or version_order(policy.version) < version_order(old.version):
        raise _older(bundle, policy.name, old)
    if old.digests.get(manifest.target, manifest.digest) != manifest.digest:
        raise BadInput(
            "bundle.version-reused",
            f"{bundle.path} is another {policy.name} {policy.version} than the one that ran here "
            f"(digest {manifest.digest[:12]}, then {old.digests[manifest.target][:12]})",
            "give the changed policy a higher version and build it again",
        )
    digests = {**old.digests, manifest.target: manifest.digest}
    result[policy.name] = Accepted(old.version, digests)
    return result


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


def _older(bundle: Bundle, name: str, than: Accepted) -> BadInput:
    policy = bundle.policy
    return BadInput(
        "bundle.older",
        f"{bundle.path} is {policy.name} {policy.version}, and {name} {than.version} "
        f"{'was replaced' if than.renamed else 'ran'} on this host already",
        "take the newest bundle; to go back to what an old version said, build it again with a "
        "higher version",
    )


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

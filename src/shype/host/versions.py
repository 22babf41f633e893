"""Which version of a policy may follow which: no step back, and no version twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shype.base.errors import BadInput
from shype.policy.grammar import version_order
from shype.policy.manifest import Bundle


@dataclass(frozen=True, slots=True)
class Accepted:
    """The highest version of a policy that the hypervisor has been seen to enforce.

    ``digests`` by target: one version is one policy, which may be compiled for several releases.
    ``renamed``: a later policy took this one's place under another name with this very version.
    """

    version: str
    digests: Mapping[str, str] = field(default_factory=dict)
    renamed: bool = False


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


def _older(bundle: Bundle, name: str, than: Accepted) -> BadInput:
    policy = bundle.policy
    return BadInput(
        "bundle.older",
        f"{bundle.path} is {policy.name} {policy.version}, and {name} {than.version} "
        f"{'was replaced' if than.renamed else 'ran'} on this host already",
        "take the newest bundle; to go back to what an old version said, build it again with a "
        "higher version",
    )

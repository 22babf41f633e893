"""VMs that an update has paused for good: they still map what the policy forbids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import BadInput, Unavailable
from shype.host.hypervisor import Domain
from shype.host.journal import boot_id
from shype.host.table import Table, plain

#: Far more than a host's VMs take, bytes.
MAX_RECORD = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Revoked:
    """The domain ``domid`` of the boot ``boot``, paused by the update to ``policy``."""

    domid: int
    boot: str
    policy: str


def revoked(state: Path) -> Table[Revoked]:
    """The file ``revoked.json`` in the state directory: UUID -> `Revoked`.

    Reading it raises Unavailable (``revoked.corrupt``) if it is damaged.
    """
    return Table(state / "revoked.json", "vms", plain(Revoked), MAX_RECORD, _corrupt)


def remember(state: Path, domains: Mapping[int, str], policy: str) -> None:
    """These domains (id and UUID), and no others any more, may not go on."""
    table, boot = revoked(state), boot_id()
    if domains or table.path.exists():
        with table.locked():
            table.write({
                uuid: Revoked(domid, boot, policy) for domid, uuid in domains.items()})


def require_not(state: Path, domain: Domain) -> None:
    """Raises BadInput (``vm.revoked``) for a domain that may not go on."""
    row = revoked(state).read().get(domain.uuid)
    if row is not None and (row.domid, row.boot) == (domain.domid, boot_id()):
        raise BadInput(
            "vm.revoked",
            f"{domain.name} (domain {domain.domid}) was paused by the update to {row.policy}: it "
            "has memory mapped that the policy keeps from it, and would use it again",
            f"shype stop {domain.name} --force; it may start again")


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "revoked.corrupt", f"the record of VMs that an update has paused, {path}, is damaged",
        "stop the VMs that are paused; then remove it",
    )

"""How one domain can reach another: what a policy opens, and what it can never open."""

from __future__ import annotations

from enum import StrEnum


class Mechanism(StrEnum):
    """A way in which information gets from one domain to another, or power over it.

    The first six are the inter-VM mechanisms that a policy names and switches
    (NIAP Protection Profile for Virtualization, FDP_VMS_EXT.1.1); the other two
    are never given to a VM.
    """

    EVENT = "event"  # event channels
    GRANT = "grant"  # grant tables: map and copy
    ARGO = "argo"  # Argo rings
    DISK = "disk"  # a disk that two VMs have attached
    NETWORK = "network"  # frames on a bridge
    XENSTORE = "xenstore"  # a directory in XenStore that one VM writes and the other reads
    FOREIGN = "foreign"  # mapping another domain's memory without a grant
    CONTROL = "control"  # create, pause, destroy and configure another domain


#: What a coalition can open, and what a label can switch off.
SWITCHABLE = frozenset({
    Mechanism.EVENT, Mechanism.GRANT, Mechanism.ARGO, Mechanism.DISK, Mechanism.NETWORK,
    Mechanism.XENSTORE,
})
#: What a coalition opens unless it says otherwise. Few VMs need XenStore for each other, and
#: what it carries passes through a daemon in dom0.
OPENED = SWITCHABLE - {Mechanism.XENSTORE}

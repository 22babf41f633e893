"""What a subject can try on an object, and which way information moves when it does."""

from __future__ import annotations

from enum import StrEnum

from shype.policy.mechanism import Mechanism


class Flow(StrEnum):
    """The direction of an operation's information, seen from the subject.

    PULL: only the subject starts it and only reads (it may read down).  PUSH:
    only towards the object, at the subject's will, or a transfer of which the
    hypervisor cannot tell who started it (blind, it may write up where a
    coalition says so).  BOTH: two-way.  The source and sink of a copy follow
    from the operation: COPY_FROM moves from object to subject.
    """

    PULL = "pull"
    PUSH = "push"
    BOTH = "both"
    POWER = "power"  # not an exchange of information: only dom0 has it


class Operation(StrEnum):
    """An operation of a subject (who acts) on an object (another domain).

    Xen checks `COPY_FROM` and `COPY_TO` alike, from data source to data sink,
    whoever issues GNTTABOP_copy (xsm_grant_copy in xen/common/grant_table.c),
    so reading down by copy cannot be told from writing up and needs the same.
    """

    EVENT_SEND = "event.send"  # notify on an event channel, which is two-way once it is open
    MAP_READ = "grant.map_read"  # map a page of the object, read-only
    MAP_WRITE = "grant.map_write"  # map a page of the object, writable
    COPY_FROM = "grant.copy_from"  # copy out of a page of the object
    COPY_TO = "grant.copy_to"  # copy into a page of the object
    ARGO_SEND = "argo.send"  # send a message into a ring of the object
    DISK_READ = "disk.read"  # read what the object writes to a disk both have
    DISK_WRITE = "disk.write"  # write to a disk to which the object writes as well
    NETWORK_SEND = "network.send"  # send a frame to the object over a bridge
    STORE_READ = "xenstore.read"  # read and watch a directory that the object writes for it
    FOREIGN_MAP = "foreign.map"  # map a page that the object did not grant
    CONTROL = "control.domain"  # create, pause, destroy or configure the object

    @property
    def mechanism(self) -> Mechanism:
        """The mechanism that it belongs to."""
        return Mechanism(self.value.partition(".")[0])

    @property
    def flow(self) -> Flow:
        """The direction of its information."""
        return _FLOWS[self]

    @property
    def from_object(self) -> bool:
        """Whether the information moves from the object to the subject (and not back)."""
        return self in _FROM_OBJECT


_FLOWS = {
    Operation.EVENT_SEND: Flow.BOTH,
    Operation.MAP_READ: Flow.PULL,
    Operation.MAP_WRITE: Flow.BOTH,
    Operation.COPY_FROM: Flow.PUSH,
    Operation.COPY_TO: Flow.PUSH,
    Operation.ARGO_SEND: Flow.PUSH,
    Operation.DISK_READ: Flow.PULL,
    Operation.DISK_WRITE: Flow.BOTH,
    Operation.NETWORK_SEND: Flow.PUSH,
    Operation.STORE_READ: Flow.PULL,
    Operation.FOREIGN_MAP: Flow.POWER,
    Operation.CONTROL: Flow.POWER,
}
_FROM_OBJECT = frozenset({Operation.MAP_READ, Operation.COPY_FROM, Operation.DISK_READ,
                         Operation.STORE_READ})

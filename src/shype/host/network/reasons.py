"""Why a frame is refused on a bridge: the numbers under which the kernel counts them."""

from __future__ import annotations

from enum import IntEnum

#: The table's set of what was refused, with counters: sender's port, receiver's port (the sender's
#: again where there is none, or where it does not matter), number of the `Reason`.
REFUSED = "refused"


class Reason(IntEnum):
    """Stands in the elements of the table's set `refused`, beside the port that sent."""

    PAIR = 1  # to a VM by its address, and the matrix has no such pair
    FLOODED = 2  # to a group, or to an address that is not the receiver's: every broadcast
    MAC = 3
    ADDRESS = 4
    ARP = 5
    NEIGHBOUR = 6
    ROUTER = 7
    TAG = 8
    GROUP = 9
    CLOSED = 10
    STRANGER = 11
    TO_DOM0 = 12
    FROM_DOM0 = 13

    @property
    def chain(self) -> str:
        """The chain of the table that counts and drops such frames."""
        return f"refuse_{self.name.lower()}"

    @property
    def expected(self) -> bool:
        """Whether honest VMs cause it, too: then it is counted and not recorded."""
        return self in (Reason.FLOODED, Reason.CLOSED, Reason.TO_DOM0, Reason.FROM_DOM0)

    @property
    def what(self) -> str:
        """For people: what the frames were."""
        return _WHAT[self]


_WHAT = {
    Reason.PAIR: "addressed to a VM that the policy keeps apart",
    Reason.FLOODED: "broadcast or flooded, towards a VM that the policy keeps apart",
    Reason.MAC: "from an Ethernet address that is not its own",
    Reason.ADDRESS: "from an IP address that is not assigned to it",
    Reason.ARP: "ARP in another's name, or malformed",
    Reason.NEIGHBOUR: "IPv6 neighbour discovery in another's name, or malformed",
    Reason.ROUTER: "IPv6 router advertisements or redirects",
    Reason.TAG: "with a VLAN tag, or with a length in place of a type",
    Reason.GROUP: "to a link-local group (spanning tree, LLDP, 802.1X)",
    Reason.CLOSED: "at a port that is closed",
    Reason.STRANGER: "at an interface of a VM's kind that shype does not know",
    Reason.TO_DOM0: "to dom0's own interface, which the policy keeps apart",
    Reason.FROM_DOM0: "from dom0's own interface, which the policy keeps apart",
}

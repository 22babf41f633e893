"""Event channels: who can notify whom.

A channel has two ends, each labelled when it is made: with the transition of
its domain and the other one, else with the type of the other.  Making an end
asks `create` (whoever makes it, on the end's type) and `bind` (the end's type on the
other domain), each notification `send` (the domain on its own end).  One of
the two ends is always made by its own domain (EVTCHNOP_bind_interdomain), or
by the hypervisor at boot (static channels on Arm).  Source: flask_evtchn_unbound() and
flask_evtchn_interdomain() in hooks.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from shype.base import bits
from shype.compile.flask.analyze.parts import Parts
from shype.compile.flask.analyze.rights import Rights


@dataclass(frozen=True, slots=True)
class _Ends:
    """By domain, the domains to which it can have an end that it may use, of a channel.

    ``linked``: an end can be made; ``own``: by the domain itself; ``used``:
    and the domain may do on it what was asked for.
    """

    linked: dict[int, int]
    own: dict[int, int]
    used: dict[int, int]


class Channels:
    """Flows by event channels between domains, by one of the four tables of rights.

    Ends are made by ``earlier`` rights, and used by those of now.
    """

    def __init__(
        self, rights: Rights, earlier: Rights, parts: Parts, *,
        booleans: bool = False, contexts: bool = False,
    ) -> None:
        self._parts = parts
        self._rows = {
            name: whose.rows(("event", name), booleans=booleans, contexts=contexts)
            for whose, names in ((earlier, ("create", "bind")), (rights, ("send", "status")))
            for name in names
        }
        self._created = self._booted = 0
        for subject, targets in self._rows["create"].items():
            self._created |= targets
            if parts.hypervisor >> subject & 1:
                self._booted |= targets
        self._selfbound = bits.of(
            c for c, targets in self._rows["bind"].items() if targets >> c & 1
        )
        self._special = self._odd_pairs()

    def flows(self, permission: str) -> list[int]:
        """By domain, the domains to which it has a channel on which it has ``permission``."""
        parts = self._parts
        count = len(parts.names.types)
        ends = self._ends(permission)
        linked, own = (
            bits.transposed((rows.get(i, 0) for i in range(count)), count)
            for rows in (ends.linked, ends.own)
        )
        found = [0] * count
        for one in bits.each(parts.domains):
            found[one] = ends.used[one] & linked[one] & (ends.own[one] | own[one])
        for one, other in self._special:
            if self.ends(one, other, permission):
                found[one] |= 1 << other
        return found

    def _ends(self, permission: str) -> _Ends:
        """Of domains that see each other by their own types and were never relabelled."""
        parts = self._parts
        found = _Ends({}, {}, {})
        for one in bits.each(parts.domains):
            labels = parts.labels.get(one, {})
            default = parts.domains & ~bits.of(labels) & self._selfbound & self._created
            by_channel: dict[int, int] = {}
            for other, channel in labels.items():
                by_channel[channel] = by_channel.get(channel, 0) | 1 << other
            makes = self._rows["create"].get(one, 0) | self._booted
            may = self._rows[permission].get(one, 0)
            linked, own, used = default, default & makes, default & may
            for channel, others in by_channel.items():
                if not self._created >> channel & 1:
                    continue
                bound = others & parts.domains & self._rows["bind"].get(channel, 0)
                linked |= bound
                own |= bound if makes >> channel & 1 else 0
                used |= bound if may >> channel & 1 else 0
            found.linked[one], found.own[one], found.used[one] = linked, own, used
        return found

    def _odd_pairs(self) -> list[tuple[int, int]]:
        """Pairs of which one sees the other by a type of its own, or had another label before."""
        parts = self._parts
        pairs = {
            pair for subject, views in parts.seen.items() for whose in views.values()
            for other in bits.each(whose & parts.domains)
            if parts.domains >> subject & 1
            for pair in ((subject, other), (other, subject))
        }
        moved = [d for d, earlier in parts.before.items() if earlier != 1 << d]
        for one in moved:
            for other in bits.each(parts.domains):
                pairs |= {(one, other), (other, one)}
        return sorted(pairs)

    def ends(self, one: int, other: int, permission: str) -> list[tuple[int, int]]:
        """(Type of ``one``'s end, type by which it sees ``other``), if ``permission`` is had on it.

        Empty unless a channel between the two can be made.
        """
        mine, theirs = self._makable(one, other), self._makable(other, one)
        if not theirs or not (
            any(own for _, _, own in mine) or any(own for _, _, own in theirs)
        ):
            return []
        may = self._rows[permission].get(one, 0)
        possible = any(own for _, _, own in theirs)
        return [
            (channel, seen) for channel, seen, own in mine
            if may >> channel & 1 and (own or possible)
        ]

    def _makable(self, one: int, other: int) -> list[tuple[int, int, bool]]:
        """(Type, type seen, whether ``one`` itself can make it) of each end that ``one`` can have.

        Both may have had other labels when it was made.
        """
        parts = self._parts
        found = []
        was = [bits.each(parts.before.get(x, 1 << x)) for x in (one, other)]
        for former, peer in product(*(list(each) for each in was)):
            for seen in parts.as_seen(former, peer):
                channel = parts.channel(former, seen)
                if self._created >> channel & 1 and (
                    self._rows["bind"].get(channel, 0) >> seen & 1
                ):
                    makes = self._rows["create"].get(former, 0) | self._booted
                    found.append((channel, seen, bool(makes >> channel & 1)))
        return found

"""What part a type plays: which domains can carry it, or how a domain sees itself by it.

FLASK gives a domain a second type for what it does to itself (a type
transition of class domain from a type to itself), and a device model one for
its guest; see domain_target_sid() and flask_set_target() in hooks.c.  Types of
that kind are no domains: what a rule says of them, it says of the domain that
is seen so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shype.base import bits
from shype.base.errors import BadInput
from shype.compile.flask.analyze.rights import Rights
from shype.compile.flask.matrix import Names
from shype.compile.flask.reader import Binary

#: Initial SIDs through which everything reaches everything: trusted, or not one thing.
HUBS = ("xenboot", "xen", "dom0", "domio", "domxen", "security")
#: Initial SIDs that domains have without anybody's permission to create them so.
_CARRIED = ("dom0", "unlabeled")


class Parts:
    """The types of a policy by what they can be. All sets are bits over ``names.types``.

    ``domains``: some domain can carry it. ``hypervisor``: what Xen itself acts
    as. ``views``: how a domain is seen by itself or by its device model.
    ``channels``: ends of event channels, and nothing else. ``hubs``: see `HUBS`.
    """

    def __init__(
        self, binary: Binary, names: Names, rights: Rights, sids: Sequence[str]
    ) -> None:
        self.names = names
        self.by_sid = {
            sid: names.index[context.type] for sid, context in zip(sids, binary.sids, strict=False)
        }
        self._refuse(binary)
        self.domains = bits.of(self.by_sid[sid] for sid in _CARRIED if sid in self.by_sid)
        for permission in (("domain", "create"), ("domain", "transition")):
            for targets in rights.rows(permission).values():
                self.domains |= targets
        self.hypervisor = bits.of(
            self.by_sid[sid] for sid in ("xenboot", "xen") if sid in self.by_sid
        )
        self.hubs = bits.of(self.by_sid[sid] for sid in HUBS if sid in self.by_sid)
        self.before = self._relabelled(rights)
        self._transitions(binary, rights)
        ends = 0
        for name in ("send", "create", "status"):
            for targets in rights.rows(("event", name)).values():
                ends |= targets
        ends |= bits.of(rights.rows(("event", "bind")))
        self.channels = ends & ~self.domains & ~self.hypervisor

    def _transitions(self, binary: Binary, rights: Rights) -> None:
        """``labels``: types of channels, by domain and what it sees; ``views``; ``seen``.

        ``seen``: by device model and the type it meets its guest by, the guests' types. That
        type is computed when it becomes the device model, and stays.
        """
        self.labels: dict[int, dict[int, int]] = {}
        by_target: dict[int, dict[int, int]] = {}
        views = 0
        for (source, target, cls), new in binary.transitions.items():
            if cls not in ("domain", "event"):
                continue
            result = self.names.index[new]
            views |= 1 << result if cls == "domain" else 0
            into = self.labels if cls == "event" else by_target
            for one in self.names.members[source]:
                into.setdefault(one, {}).update(
                    dict.fromkeys(self.names.members[target], result))
        self.views = views & ~self.domains
        self._itself = {one: seen[one] for one, seen in by_target.items() if one in seen}
        self.seen: dict[int, dict[int, int]] = {}
        models = rights.rows(("domain", "set_target"))
        if not models:
            return
        later = self._later()
        for model, guests in models.items():
            for guest in bits.each(guests & self.domains):
                view = by_target.get(guest, {}).get(model, guest)
                for now in bits.each(later.get(model, 0)):
                    seen = self.seen.setdefault(now, {})
                    seen[view] = seen.get(view, 0) | later[guest]

    def _later(self) -> Mapping[int, int]:
        """By domain type, what its domains may be labelled afterwards, as it is included."""
        found: dict[int, int] = {}
        for now, earlier in self.before.items():
            for one in bits.each(earlier):
                found[one] = found.get(one, 0) | 1 << now
        return found

    def _relabelled(self, rights: Rights) -> Mapping[int, int]:
        """By domain type, the types that its domains may have had before, its own included."""
        found = {domain: 1 << domain for domain in bits.each(self.domains)}
        steps = rights.rows(("domain", "transition"))
        changed = bool(steps)
        while changed:
            changed = False
            for old, targets in steps.items():
                for new in bits.each(targets & self.domains):
                    earlier = found[new] | found.get(old, 1 << old)
                    changed = changed or earlier != found[new]
                    found[new] = earlier
        return found

    def objects(self, subject: int, targets: int) -> int:
        """Whose objects the types ``targets`` are for ``subject``: not its own, seen as itself."""
        found = targets & ~self.views
        for view, whose in self.seen.get(subject, {}).items():
            if targets >> view & 1:
                found |= whose
        return found

    def as_seen(self, subject: int, domain: int) -> tuple[int, ...]:
        """By which types ``subject`` may meet another domain of type ``domain``."""
        views = self.seen.get(subject, {})
        others = [v for v, whose in views.items() if whose >> domain & 1 and v != domain]
        return (domain, *others)

    def itself(self, domain: int) -> int:
        """By which type a domain meets itself."""
        return self._itself.get(domain, domain)

    def channel(self, one: int, other: int) -> int:
        """The type of a channel's end that ``one`` has to what it sees as ``other``."""
        return self.labels.get(one, {}).get(other, other)

    def _refuse(self, binary: Binary) -> None:
        """What would make every answer wrong."""
        permissive = [text.split()[1].rstrip(";") for text in binary.other
                      if text.startswith("permissive ")]
        if permissive:
            raise BadInput(
                "analyze.permissive",
                f"nothing is refused to the permissive types {', '.join(sorted(permissive))}: "
                "from and to them everything can flow",
                "remove `permissive` from the policy, then analyse it",
            )
        special = [text for text in binary.other if text.startswith("type_transition")]
        if special:
            raise BadInput(
                "analyze.transition",
                "type transitions that depend on booleans or names are not understood: "
                + "; ".join(special[:5]),
                "make them unconditional, or two policies of which each has one branch",
            )

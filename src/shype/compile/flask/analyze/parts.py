"""What part a type plays: which domains can carry it, or how a domain sees itself by it.

FLASK gives a domain a second type for what it does to itself (a type
transition of class domain from a type to itself), and a device model one for
its guest; see domain_target_sid() and flask_set_target() in hooks.c.  Types of
that kind are no domains: what a rule says of them, it says of the domain that
is seen so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shype.analysis.flows import bits
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
        self._transitions(binary)
        self.views = bits.of(v for seen in self.seen.values() for v in seen) & ~self.domains
        ends = 0
        for name in ("send", "create", "status"):
            for targets in rights.rows(("event", name)).values():
                ends |= targets
        ends |= bits.of(rights.rows(("event", "bind")))
        self.channels = ends & ~self.domains & ~self.hypervisor
        self.before = self._relabelled(rights)

    def _transitions(self, binary: Binary) -> None:
        """``seen``: by subject, (type seen: domains seen so); ``labels``: channels, likewise."""
        self.seen: dict[int, dict[int, int]] = {}
        self.labels: dict[int, dict[int, int]] = {}
        for (source, target, cls), new in binary.transitions.items():
            if cls not in ("domain", "event"):
                continue
            result = self.names.index[new]
            for one in self.names.members[source]:
                for other in self.names.members[target]:
                    if cls == "event":
                        self.labels.setdefault(one, {})[other] = result
                    else:  # the target is the subject that sees ``one`` as ``result``
                        seen = self.seen.setdefault(other, {})
                        seen[result] = seen.get(result, 0) | 1 << one

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
        """Whose objects the types ``targets`` are for ``subject``: other domains than itself."""
        found = targets & ~self.views
        for view, whose in self.seen.get(subject, {}).items():
            if targets >> view & 1:
                found |= whose & ~(1 << subject)
        return found

    def as_seen(self, subject: int, domain: int) -> tuple[int, ...]:
        """By which types ``subject`` may meet another domain of type ``domain``."""
        views = self.seen.get(subject, {})
        others = [v for v, whose in views.items() if whose >> domain & 1 and subject != domain]
        return (domain, *others)

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

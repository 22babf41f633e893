"""All direct flows between the types of a policy, by class, mechanism and bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from shype.base import bits
from shype.base.errors import BadInput
from shype.compile.flask import tables
from shype.compile.flask.analyze import unguarded
from shype.compile.flask.analyze.channels import Channels
from shype.compile.flask.analyze.parts import Parts
from shype.compile.flask.analyze.rights import Right, Rights
from shype.compile.flask.matrix import Names
from shype.compile.flask.permissions import permission_map
from shype.compile.flask.permissions.permission_map import (
    Bandwidth,
    Entry,
    Mechanism,
    PermissionMap,
)
from shype.compile.flask.reader import Access, Binary
from shype.compile.flask.tables import Tables

#: Permissions of class event that say nothing without the others (see `channels`).
_ENDS = frozenset({"send", "bind", "status", "create"})
#: Classes whose object is a domain, which may be seen by another type.
_ON_DOMAINS = frozenset({
    "domain", "domain2", "hvm", "mmu", "shadow", "event", "grant", "argo", "resource",
})
#: Classes that are asked for with one object only, the type of an initial SID.
_ON_SID = {"xen": "xen", "xen2": "xen", "version": "xen", "security": "security"}


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of flow."""

    cls: str
    mechanism: str
    bandwidth: str


#: By grant copies, past what is checked: see `unguarded`.
UNGUARDED = Kind("grant", "unguarded", "bulk")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which kinds count: ``via`` names classes, mechanisms or permissions (None: all).

    ``covert``: traces too, and what no check guards.  A permission
    (``grant.copy``) restricts the rules that count.
    """

    via: frozenset[str] | None = None
    covert: bool = False

    @property
    def unguarded(self) -> bool:
        """Whether `UNGUARDED` counts."""
        return self.covert and (
            self.via is None or bool(self.via & {"grant", "grant.copy", "unguarded"})
        )

    def takes(self, entry: Entry, bandwidth: Bandwidth) -> bool:
        """Whether this direction of a permission counts."""
        if bandwidth is Bandwidth.TRACE and not self.covert:
            return False
        return self.via is None or bool(self.via & {
            entry.cls, entry.mechanism.value, f"{entry.cls}.{entry.permission}",
        })


@dataclass(frozen=True, slots=True)
class Doubt:
    """On what a flow depends that types do not tell. Neither: it is always possible."""

    boolean: bool
    constraint: bool

    def __str__(self) -> str:
        return " and ".join(
            text for text, is_so in (("subject to a constraint", self.constraint),
                                     ("depends on a boolean", self.boolean)) if is_so
        )


class Flows:
    """The direct flows of a policy. Vertices are its types, by their index in ``names.types``.

    ``rows``: by kind, for each type the types to which information can flow.
    ``fixed``: the booleans' values now. What was made before, under any values,
    is still there (domains, channels, mappings, labels), unless ``always``: they had
    these values ever since the host booted.
    Raises `BadInput` for what cannot be analysed: ``permission-map.unknown``,
    ``analyze.permissive``, ``analyze.transition``, ``analyze.unknown-allowed``,
    ``analyze.boolean``.
    """

    def __init__(
        self, binary: Binary, known: PermissionMap, target: Tables,
        fixed: Mapping[str, bool] | None = None, wanted: Wanted | None = None,
        *, always: bool = False,
    ) -> None:
        fixed = fixed or {}
        _check(binary, known, target, fixed)
        self.binary, self.known, self.target = binary, known, target
        self.fixed, self.always = fixed, always
        self.wanted = wanted or Wanted()
        self.names = Names(binary.types, binary.attributes)
        self.rights = Rights(binary, self.names, fixed)
        self.earlier = (
            self.rights if always or not fixed else Rights(binary, self.names, {})
        )
        self._by_rule = {id(right.rule): right for right in self.rights.rules}
        self.parts = Parts(binary, self.names, self.earlier, target.initial_sids)
        self.channels = Channels(self.rights, self.earlier, self.parts)
        self.rows = self._fill()
        self._sure: dict[tuple[bool, bool], dict[Kind, list[int]]] = {}

    @property
    def subjects(self) -> int:
        """Types that act: those of domains and of the hypervisor."""
        return self.parts.domains | self.parts.hypervisor

    def now(self, rule: Access) -> Right | None:
        """The rule as it is in force under the booleans of now, or None."""
        return self._by_rule.get(id(rule))

    def union(self, kinds: Callable[[Kind], bool] = lambda kind: True) -> list[int]:
        """The rows of some kinds together."""
        found = self._empty()
        for kind, rows in self.rows.items():
            if kinds(kind):
                found = [a | b for a, b in zip(found, rows, strict=True)]
        return found

    def sure(
        self, kind: Kind, *, booleans: bool = True, contexts: bool = True
    ) -> list[int]:
        """The rows of a kind whatever the booleans, the contexts of a type, or both are."""
        rights = self.earlier
        which = (booleans and rights.conditional, contexts and bool(rights.constraints.of))
        if which == (False, False):
            return self.rows.get(kind, self._empty())
        if which not in self._sure:
            self._sure[which] = self._fill(booleans=which[0], contexts=which[1])
        return self._sure[which].get(kind, self._empty())

    def doubt(self, kind: Kind, source: int, sink: int) -> Doubt:
        """On what a flow of ``kind`` that is there depends."""
        without_boolean = bool(self.sure(kind, contexts=False)[source] >> sink & 1)
        without_constraint = bool(self.sure(kind, booleans=False)[source] >> sink & 1)
        if without_boolean and without_constraint:  # by two rules, or by one that is sure
            either = not self.sure(kind)[source] >> sink & 1
            return Doubt(either, either)
        return Doubt(not without_boolean, not without_constraint)

    def kinds(self, source: int, sink: int) -> tuple[Kind, ...]:
        """The kinds by which information flows from one type to another directly."""
        return tuple(sorted(k for k, rows in self.rows.items() if rows[source] >> sink & 1))

    def _empty(self) -> list[int]:
        return [0] * len(self.names.types)

    def _fill(self, *, booleans: bool = False, contexts: bool = False) -> dict[Kind, list[int]]:
        into: dict[Kind, list[int]] = {}
        reads: dict[Kind, list[int]] = {}
        for cls, name in self.earlier.table():
            entry = self.known.entries[cls, name]
            if cls == "event" and name in _ENDS:
                continue
            whose = self.earlier if entry.lasts else self.rights
            rows = whose.rows((cls, name), booleans=booleans, contexts=contexts)
            for bandwidth, group in ((entry.write, into), (entry.read, reads)):
                if bandwidth is not None and self.wanted.takes(entry, bandwidth):
                    kind = Kind(cls, entry.mechanism.value, bandwidth.value)
                    found = group.setdefault(kind, self._empty())
                    self._place(found, cls, rows, lasts=entry.lasts)
        for kind, found in reads.items():
            _merge(into, kind, bits.transposed(found, len(found)))
        self._events(into, booleans=booleans, contexts=contexts)
        if self.wanted.unguarded:
            copies = self.rights.rows(("grant", "copy"), booleans=booleans, contexts=contexts)
            _merge(into, UNGUARDED, unguarded.rows(copies, self.parts))
        return into

    def _place(
        self, found: list[int], cls: str, rows: Mapping[int, int], *, lasts: bool
    ) -> None:
        moved = [
            (domain, earlier) for domain, earlier in self.parts.before.items()
            if lasts and earlier != 1 << domain
        ]
        new = {
            subject: self.objects(cls, subject, targets) for subject, targets in rows.items()
            if self.subjects >> subject & 1 or any(e >> subject & 1 for _, e in moved)
        }
        for domain, earlier in moved:  # what a subject set up under another label
            for former in bits.each(earlier):
                new[domain] = new.get(domain, 0) | new.get(former, 0)
        for domain, earlier in moved:  # and what was set up on an object under another label
            for subject, objects in new.items():
                if objects & earlier:
                    new[subject] |= 1 << domain
        for subject, objects in new.items():
            if self.subjects >> subject & 1:
                found[subject] |= objects

    def objects(self, cls: str, subject: int, targets: int) -> int:
        """Whose information a permission of ``cls`` on the types ``targets`` concerns."""
        if cls in _ON_DOMAINS:
            return self.parts.objects(subject, targets)
        if cls in _ON_SID:  # the hypervisor asks for it with this object only
            sid = self.parts.by_sid.get(_ON_SID[cls])
            return targets & (0 if sid is None else 1 << sid)
        return targets & ~self.parts.views

    def _events(
        self, into: dict[Kind, list[int]], *, booleans: bool, contexts: bool
    ) -> None:
        """Domain to domain; besides, domain to channel and channel to domain."""
        channels = Channels(
            self.rights, self.earlier, self.parts, booleans=booleans, contexts=contexts)

        def rows(whose: Rights, name: str) -> Mapping[int, int]:
            return whose.rows(("event", name), booleans=booleans, contexts=contexts)

        send, status, bind = (self.known.entries["event", n] for n in ("send", "status", "bind"))
        if any(e.write and self.wanted.takes(e, e.write) for e in (send, bind)):
            found = channels.flows("send")
            for one, targets in rows(self.rights, "send").items():
                if self.parts.domains >> one & 1:
                    found[one] |= targets & self.parts.channels
            for channel, targets in rows(self.earlier, "bind").items():
                if self.parts.channels >> channel & 1:
                    found[channel] |= targets & self.parts.domains
            _merge(into, event_kind(send), found)
        if status.read and self.wanted.takes(status, status.read):
            found = channels.flows("status")
            _merge(into, event_kind(status), bits.transposed(found, len(found)))


def event_kind(entry: Entry) -> Kind:
    """The kind of flow of a permission that has one direction."""
    band = entry.write or entry.read
    assert band is not None
    return Kind(entry.cls, entry.mechanism.value, band.value)


def _merge(into: dict[Kind, list[int]], kind: Kind, rows: list[int]) -> None:
    if kind in into:
        rows = [a | b for a, b in zip(into[kind], rows, strict=True)]
    into[kind] = rows


def _check(
    binary: Binary, known: PermissionMap, target: Tables, fixed: Mapping[str, bool]
) -> None:
    own = [(cls, name) for cls, names in binary.classes.items() for name in names]
    known.require(own, "the policy")
    strange = sorted(set(fixed) - set(binary.booleans))
    if strange:
        raise BadInput(
            "analyze.boolean", f"the policy has no boolean {', '.join(strange)}",
            f"it has: {', '.join(sorted(binary.booleans)) or 'none'}",
        )
    absent = sorted(
        f"{cls}.{name}" for cls, names in target.classes.items() for name in names
        if name not in binary.classes.get(cls, ())
    )
    if absent and binary.unknown == "allow":
        raise BadInput(
            "analyze.unknown-allowed",
            "the policy permits to everybody what it does not know of the hypervisor: "
            + ", ".join(absent),
            "compile it with handle_unknown deny, or choose its release with --xen",
        )


def fitting(binary: Binary) -> Tables:
    """The tables of the release whose classes and permissions are nearest to the policy's."""
    def distance(table: Tables) -> int:
        return sum(
            len(frozenset(names) ^ binary.classes.get(cls, frozenset()))
            for cls, names in table.classes.items()
        )
    return min((tables.load(name) for name in tables.shipped()), key=distance)


def check_via(words: Iterable[str], known: PermissionMap) -> frozenset[str]:
    """Classes, mechanisms and permissions. Raises `BadInput` (``analyze.via``)."""
    mechanisms = {kind.value for kind in Mechanism} | {UNGUARDED.mechanism}
    permissions = {f"{cls}.{name}" for cls, name in known.entries}
    classes = {cls for cls, _ in known.entries}
    found = frozenset(words)
    strange = sorted(found - mechanisms - permissions - classes)
    if strange:
        raise BadInput(
            "analyze.via",
            f"there is no class, mechanism or permission {', '.join(strange)}",
            f"mechanisms: {', '.join(sorted(mechanisms))}; classes: "
            f"{', '.join(sorted(classes - mechanisms))}; permissions: see shype permission-map",
        )
    return found


def analyse(
    binary: Binary, *, xen: str | None = None, more: Iterable[Entry] = (),
    fixed: Mapping[str, bool] | None = None, via: Iterable[str] | None = None,
    covert: bool = False, always: bool = False,
) -> Flows:
    """The flows of ``binary`` for one release (None: the one that fits best); see `Flows`.

    ``more``: entries of the permission map besides shype's own. Raises `BadInput`.
    """
    target = fitting(binary) if xen is None else tables.load(
        xen if xen.startswith("xen-") else f"xen-{xen}"
    )
    known = permission_map.load(target.version, more)
    chosen = None if via is None else check_via(via, known)
    return Flows(binary, known, target, fixed, Wanted(chosen, covert), always=always)

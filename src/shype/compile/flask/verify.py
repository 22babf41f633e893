"""Translation validation: does the binary enforce what the decision code decides?

Every build ends here.  The binary is read back by `reader`; what it allows is
compared, for every subject, target and permission, with what `expected` and
`SecurityServer` say it must allow: no more and no less.  The conditions of the
launch windows are compared for every setting of all booleans.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shype.base.errors import Internal
from shype.compile.flask import conditions, expected
from shype.compile.flask.encoding import booleans, dom0_entry, label_entries
from shype.compile.flask.expected import Grants
from shype.compile.flask.matrix import Matrix, Names, Permission, bits
from shype.compile.flask.reader import Access, Binary
from shype.compile.flask.tables import Tables
from shype.decision.chinese_wall import ChineseWall
from shype.decision.security_server import SecurityServer
from shype.policy.manifest import Validation
from shype.policy.mechanism import Mechanism
from shype.policy.model import Policy
from shype.policy.names import LabelName, MemberName

#: Up to this many labels every pair is put to the security server one by one; above it,
#: labels with the same coalitions are asked about once.
EVERY_PAIR = 200
#: Mismatches that an error message spells out.
SHOWN = 20

#: Adds (subjects, targets, permissions) to a matrix; the first two are masks.
_Put = Callable[[int, int, Grants], None]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference: who on whom, through which mechanism, what each side says."""

    subject: str
    target: str
    mechanism: str
    policy: str
    binary: str

    def __str__(self) -> str:
        return (
            f"{self.subject} -> {self.target}, {self.mechanism}: "
            f"policy says {self.policy}, binary says {self.binary}"
        )


class Disagreement(Internal):
    """The binary does not enforce the policy; ``mismatches`` has every difference."""

    def __init__(self, mismatches: Sequence[Mismatch]) -> None:
        shown = "".join(f"\n  {mismatch}" for mismatch in mismatches[:SHOWN])
        more = len(mismatches) - SHOWN
        super().__init__(
            "validate.mismatch",
            f"the compiled policy does not enforce the policy ({len(mismatches)} differences)"
            + shown + (f"\n  and {more} more" if more > 0 else ""),
            "this is a defect of shype or of secilc: please report it with the policy",
        )
        self.mismatches = tuple(mismatches)


def verify(policy: Policy, tables: Tables, binary: Binary, digest: str) -> Validation:
    """Compare; raises `Disagreement` (``validate.mismatch``)."""
    found = [*_frame(policy, tables, binary, digest)]
    if not found:
        # With a wrong frame (a label without a type, an odd class) rows mean nothing.
        found = [*_Comparison(policy, tables, binary).mismatches()]
    if found:
        raise Disagreement(found)
    pairs = (len(policy.labels) + 1) ** 2
    return Validation(binary.reader, pairs, pairs * len(expected.ASKS))


def _frame(policy: Policy, tables: Tables, binary: Binary, digest: str) -> Iterator[Mismatch]:
    """Everything around the rules: classes, types, contexts, booleans, no surprises."""

    def differs(what: str, wanted: object, got: object) -> Iterator[Mismatch]:
        if wanted != got:
            yield Mismatch("policy", what, "frame", _short(wanted), _short(got))

    yield from differs("platform", ("xen", True, "deny"),
                       (binary.platform, binary.mls, binary.unknown))
    classes = {name: frozenset(perms) for name, perms in tables.classes.items()}
    yield from differs("classes", classes, dict(binary.classes))
    sid_types = tuple(f"{sid}_t" for sid in tables.initial_sids)
    yield from differs("initial SIDs", sid_types, binary.sids)
    labels = [entry.type for entry in label_entries(policy).values()]
    helpers = {*binary.transitions.values()}
    yield from differs("label types", len(policy.guests), len({*labels} - {*sid_types} - helpers))
    yield from differs("types", {*sid_types, *labels} | helpers, {*binary.types} | helpers)
    every = frozenset(binary.types)
    yield from differs("roles", {"r": every, "object_r": frozenset()}, dict(binary.roles))
    yield from differs("users", ("user u roles r level s0 range s0;",), binary.users)
    yield from differs("other statements", (), binary.other)
    names = booleans(policy, digest)
    wanted = (names.enable, *names.bits, *names.running.values(), names.digest)
    yield from differs("booleans", dict.fromkeys(wanted, False), dict(binary.booleans))


class _Comparison:
    """One run of the comparison of rules."""

    def __init__(self, policy: Policy, tables: Tables, binary: Binary) -> None:
        self.policy = policy
        self.tables = tables
        self.binary = binary
        self.server = SecurityServer(policy)
        self.wall = ChineseWall({name: w.members for name, w in policy.walls.items()})
        self.members = policy.members
        self._excluded: dict[frozenset[MemberName], frozenset[MemberName]] = {}
        self.names = Names(binary.types, binary.attributes)
        self.entries = label_entries(policy)
        self.label_of = {entry.type: name for name, entry in self.entries.items()}
        self.dom0_type = dom0_entry(policy).type
        self.label_of[self.dom0_type] = policy.host.dom0
        index = self.names.index
        self.at = {name: index[entry.type] for name, entry in self.entries.items()}
        self.dom0 = index[self.dom0_type]
        self.guests = sum(1 << i for i in self.at.values())

    def mismatches(self) -> Iterator[Mismatch]:
        """All differences, those of the rules first."""
        wrong = list(self._transitions())
        if wrong:
            yield from wrong
            return
        wanted = self._wanted()
        got, create = self._got()
        for has, lacks, policy, binary in (
            (got, wanted, "deny", "permit"), (wanted, got, "permit", "deny"),
        ):
            for permission, subject, targets in has.difference(lacks):
                yield from self._report(permission, subject, targets, policy, binary)
        yield from self._windows(create)
        yield from self._walls()

    # -- what the binary has ----------------------------------------------------------------

    def _got(self) -> tuple[Matrix, Mapping[int, list[Access]]]:
        """The rules as a matrix, except dom0's conditional `domain create`, by target."""
        matrix = Matrix()
        create: dict[int, list[Access]] = defaultdict(list)
        for rule in self.binary.allows:
            if (
                rule.condition >= 0 and rule.cls == "domain" and rule.permissions == ("create",)
                and rule.source == self.dom0_type
            ):
                for target in self.names.members[rule.target]:
                    create[target].append(rule)
            else:
                # Any other condition counts as fulfilled: nothing else may depend on one,
                # and a rule that does is then seen as a permission too many.
                condition = self.binary.expressions[rule.condition] if rule.condition >= 0 else ()
                matrix.allow(rule, self.names)
                if condition:
                    matrix.add(
                        self.names.members[rule.source], self.names.mask(rule.target),
                        rule.cls, (f"{p} (conditional)" for p in rule.permissions),
                    )
        return matrix, create

    def _transitions(self) -> Iterator[Mismatch]:
        """New types arise for a VM on itself and for dom0's channels to VMs, and nowhere else.

        They decide what every other rule means, so they are compared first.
        """
        wanted: dict[tuple[str, str, str], str] = {}
        for entry in self.entries.values():
            wanted[entry.type, entry.type, "domain"] = "self"
            wanted[self.dom0_type, entry.type, "event"] = "channel"
        roles: dict[str, set[str]] = {"self": set(), "channel": set()}
        for key, new in self.binary.transitions.items():
            if key not in wanted:
                yield Mismatch(key[0], key[1], f"new {key[2]} type", "none", new)
            else:
                roles[wanted[key]].add(new)
        for key, role in wanted.items():
            if key not in self.binary.transitions:
                yield Mismatch(key[0], key[1], f"new {key[2]} type", f"the {role} type", "none")
        known = {*self.binary.sids, *(entry.type for entry in self.entries.values())}
        taken = roles["self"] | roles["channel"]
        if self.entries and (len(taken) != 2 or taken & known or len(roles["self"]) != 1):
            yield Mismatch("VMs", "themselves and dom0", "new types", "one each",
                           _short(sorted(taken)))

    # -- what the policy wants --------------------------------------------------------------

    def _wanted(self) -> Matrix:
        """The matrix that `expected` and the security server call for."""
        matrix = Matrix()
        index, dom0, guests = self.names.index, self.dom0, self.guests

        def put(subjects: int, targets: int, grants: Grants) -> None:
            if not targets:
                return
            for cls, permissions in grants.items():
                here = permissions & frozenset(self.tables.classes[cls])
                matrix.add(bits(subjects), targets, cls, here)

        for sid, grants in expected.DOM0_ON_HOST.items():
            put(1 << dom0, 1 << index[f"{sid}_t"], grants)
        unlabeled, xen = 1 << index["unlabeled_t"], 1 << index["xen_t"]
        put(1 << index["xenboot_t"], 1 << dom0, expected.BOOT_ON_DOM0)
        put(1 << dom0, guests | unlabeled, expected.DOM0_CLEANUP)
        put(guests, guests | unlabeled, expected.VM_CLEANUP)
        put(guests, xen, expected.VM_ON_XEN)
        for name, entry in self.entries.items():
            itself = self.binary.transitions[entry.type, entry.type, "domain"]
            put(1 << self.at[name], 1 << index[itself], expected.VM_ON_ITSELF)
        host = self.policy.host.dom0
        for mechanism in expected.ASKS:
            down = up = 0
            for name, at in self.at.items():
                asked = expected.ASKS[mechanism]
                down |= self.server.permits(host, name, asked) << at
                up |= self.server.permits(name, host, expected.ASKS_UP.get(mechanism, asked)) << at
            put(1 << dom0, down, expected.DOM0_ON_VM[mechanism])
            put(up, 1 << dom0, expected.VM_ON_DOM0[mechanism])
            if mechanism is Mechanism.EVENT and down:
                first = next(iter(self.entries.values())).type
                channel = 1 << index[self.binary.transitions[self.dom0_type, first, "event"]]
                put(1 << dom0, channel, expected.DOM0_ON_CHANNEL)
                put(channel, down, expected.CHANNEL_ON_VM)
            self._between(mechanism, put)
        return matrix

    def _between(self, mechanism: Mechanism, put: _Put) -> None:
        """Every ordered pair of VM labels, the same label twice included."""
        groups: dict[object, list[LabelName]] = defaultdict(list)
        for label in self.policy.guests:
            key = label.name if len(self.at) <= EVERY_PAIR else label.coalitions
            groups[key].append(label.name)
        masks = [
            (names[0], sum(1 << self.at[name] for name in names)) for names in groups.values()
        ]
        for a, subjects in masks:
            targets = 0
            for b, mask in masks:
                if self.server.permits(a, b, expected.ASKS[mechanism]):
                    targets |= mask
            grants = expected.BETWEEN_VMS[mechanism]
            if targets and not grants:
                # The policy permits what the encoding cannot grant: never happens silently.
                grants = {"(no rule exists)": frozenset({str(mechanism)})}
            put(subjects, targets, grants)

    # -- launch windows and walls -----------------------------------------------------------

    def _windows(self, create: Mapping[int, list[Access]]) -> Iterator[Mismatch]:
        """dom0 may create a VM iff its window is open and no conflicting member runs."""
        names = booleans(self.policy, "")
        for target in create.keys() - {*self.at.values()}:
            yield self._create(target, "never", "under a condition")
        for label, entry in self.entries.items():
            rules = create.get(self.at[label], [])
            if not self.server.authorize(label).permitted:
                if rules:
                    yield self._create(self.at[label], "never", "under a condition")
                continue
            cube = {names.enable: True}
            for i, bit in enumerate(names.bits):
                cube[bit] = bool(entry.window >> i & 1)
            for member in sorted(self._excluding(self.policy.labels[label].members)):
                cube[names.running[member]] = False
            either = []
            for rule in rules:
                tokens = self.binary.expressions[rule.condition]
                either.append(tokens if rule.branch else (*tokens, "!"))
            yield from self._window(self.at[label], either, cube)

    def _window(
        self, target: int, either: list[tuple[str, ...]], cube: Mapping[str, bool]
    ) -> Iterator[Mismatch]:
        wanted = " ".join(name if value else f"!{name}" for name, value in cube.items())
        got = " | ".join(" ".join(tokens) for tokens in either) or "never"
        try:
            same = bool(either) and conditions.equivalent(either, cube)
        except (conditions.Undecided, ValueError):
            same, got = False, f"{got} (cannot be decided)"
        if not same:
            yield self._create(target, f"iff {wanted}", f"iff {got}")

    def _create(self, target: int, policy: str, binary: str) -> Mismatch:
        return Mismatch(
            self._name(self.dom0), self._name(target), "control, domain { create }",
            _short(policy), _short(binary),
        )

    def _walls(self) -> Iterator[Mismatch]:
        """For every two labels: the members that keep them apart are those the wall names.

        The members were compared label by label before; this asks the security
        server about pairs, so a sample serves when very many sets of members occur.
        """
        samples = {label.members: label.name for label in self.policy.guests}
        step = 1 + len(samples) // EVERY_PAIR
        chosen = dict(list(samples.items())[::step])
        for members, name in chosen.items():
            for others, other in chosen.items():
                apart = bool(self._excluding(members) & others)
                together = self.server.together(name, other).permitted
                if apart is together:
                    yield Mismatch(name, other, "wall", "together" if together else "apart",
                                   "apart" if apart else "together")

    def _excluding(self, own: frozenset[MemberName]) -> frozenset[MemberName]:
        """Members whose running keeps a label with ``own`` from starting, by the decision code."""
        found = self._excluded.get(own)
        if found is None:
            found = self._excluded[own] = frozenset(
                member for member in self.members
                if any(self.wall.excluders(mine, frozenset({member})) for mine in own)
            )
        return found

    # -- reporting --------------------------------------------------------------------------

    def _report(
        self, permission: Permission, subject: int, targets: int, policy: str, binary: str
    ) -> Iterator[Mismatch]:
        cls, name = permission
        mechanism = expected.MECHANISM_OF.get(cls)
        what = f"{cls} {{ {name} }}"
        for target in bits(targets):
            yield Mismatch(
                self._name(subject), self._name(target),
                f"{mechanism}, {what}" if mechanism else what, policy, binary,
            )

    def _name(self, index: int) -> str:
        type_ = self.names.types[index]
        return self.label_of.get(type_, type_)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."

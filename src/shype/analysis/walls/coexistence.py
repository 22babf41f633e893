"""Which labels can run on one host at once, and the starts and stops that lead there.

The model is one host and any order of starts and stops, as the Chinese Wall
permits them (`shype.decision.chinese_wall`, the only place that has the rule).
A state is what runs.  A domain that stopped leaves no history, so whether a VM
may start depends on what runs now, and on each running domain by itself: the
wall's counters are sums over the running domains, and a start is refused iff
one of them excludes one of its members.  Of a wall, a label of the policy
language holds one member at most; then exclusion is symmetric, and a set of
labels can run together iff any two of them can.  tests/analysis/walls checks
that by searching all states, and shows the sets of members, which the
language rejects, for which it is false.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shype.base import bits
from shype.base.errors import BadInput
from shype.decision.chinese_wall import ChineseWall, WallState
from shype.decision.security_server import SecurityServer, unknown_label
from shype.policy.names import LabelName, MemberName, WallName


@dataclass(frozen=True, slots=True)
class State:
    """What runs on one host, and how it differs from the state before.

    ``running``: labels, each of which at least one VM carries (two, where a
    path goes from a label to itself), in the order of their start.
    ``started`` and ``stopped`` lead here from the state before: first the
    stops, then the starts.  ``step`` is the step of the path that happens in
    this state: information moves from ``path[step]`` to ``path[step + 1]``.
    """

    running: tuple[LabelName, ...]
    started: tuple[LabelName, ...]
    stopped: tuple[LabelName, ...]
    step: int

    def to_json(self) -> dict[str, object]:
        """Shape of a state in ``--json`` output."""
        return {
            "step": self.step, "stop": list(self.stopped), "start": list(self.started),
            "running": list(self.running),
        }


@dataclass(frozen=True, slots=True)
class Separation:
    """One wall between two labels: the first holds ``member``, the second ``other`` of it."""

    wall: WallName
    member: MemberName
    other: MemberName

    def to_json(self) -> dict[str, object]:
        """Shape in ``--json`` output."""
        return {"wall": self.wall, "member": self.member, "other": self.other}


class Walls:
    """Who may run beside whom, by the wall alone. Immutable; works on classes of labels.

    A class is all labels that hold the same members, numbered from 0: ``of``
    gives the number of a label, ``names`` the labels of a number in file
    order, ``held`` its members.  ``beside[c]`` has bit d set iff labels of the
    classes c and d may run at once (always so for c itself: two VMs may carry
    one label).  The relation is symmetric.

    dom0's label is one of them, and always runs; it holds no members, so it
    is beside everybody.  A retired label (tombstone) is one too, in a class of
    its own kind: no VM of it starts, but one may run from before the policy
    was loaded, until it stops.  It may hold several members of one wall, and
    it is beside all that may start while it runs.  It is no guest's class
    even if a label holds the same members.

    Whether dom0 is authorized to run a label does not matter here, nor whether
    a driver domain ever stops: the states are all that the wall permits, so
    what is impossible here is impossible on every host with this policy.
    """

    def __init__(self, server: SecurityServer) -> None:
        policy = server.policy
        self.server = server
        numbers: dict[tuple[bool, frozenset[MemberName]], int] = {}
        self.of: dict[LabelName, int] = {}
        names: list[list[LabelName]] = []
        for name, retired, held in (
            *((label.name, False, label.members) for label in policy.labels.values()),
            *((tomb.name, True, tomb.members) for tomb in policy.retired.values()),
        ):
            number = numbers.setdefault((retired, held), len(numbers))
            self.of[name] = number
            if number == len(names):
                names.append([])
            names[number].append(name)
        self.names = tuple(map(tuple, names))
        self.held = tuple(held for _, held in numbers)
        self.retired = bits.of(n for (retired, _), n in numbers.items() if retired)
        #: By member, the classes that hold it.
        self.holders: dict[MemberName, int] = dict.fromkeys(policy.members, 0)
        for number, held in enumerate(self.held):
            for member in held:
                self.holders[member] |= 1 << number
        sets = {name: wall.members for name, wall in policy.walls.items()}
        self._wall = ChineseWall(sets)
        self._excluded = _Excluded(self._wall, sets, self.holders)
        #: All classes.
        self.everyone = everyone = (1 << len(names)) - 1
        out = [self._excluded.by(held) for held in self.held]
        self._refuse_self_conflicts()
        # A tombstone started before anybody else did, so only what it excludes counts.
        kept = everyone & ~self.retired
        self.beside = tuple(
            everyone & ~(out[n] & kept) if self.retired >> n & 1
            else everyone & ~(out[n] & kept) & ~self._tombs_against(n, out)
            for n in range(len(names))
        )

    def excluded_by(self, wall: WallName, number: int) -> int:
        """The classes with a member that ``wall`` excludes while class ``number`` runs."""
        return self._excluded.through(wall, self.held[number])

    def separations(self, a: LabelName, b: LabelName) -> tuple[Separation, ...]:
        """What keeps ``a`` from starting while ``b`` runs, member by member of ``a``."""
        theirs = self.held[self._number(b)]
        return tuple(
            Separation(wall, member, other)
            for member in sorted(self.held[self._number(a)])
            for wall, other in self._wall.excluders(member, theirs)
        )

    def coexist(self, a: LabelName, b: LabelName) -> bool:
        """Whether some reachable state of a host has a VM of ``a`` and another of ``b`` running.

        The verdict of `SecurityServer.together`, which also says why; here,
        retired labels can be asked about.  ``coexist(a, a)`` is true: two VMs
        carry one label.  Constant time.  Raises BadInput ``label.unknown``.
        """
        return bool(self.beside[self._number(a)] >> self._number(b) & 1)

    def reachable(self, labels: Iterable[LabelName]) -> bool:
        """Whether some reachable state has VMs of all ``labels`` running at once.

        True for none and for one.  Raises BadInput ``label.unknown``.
        """
        return self.reachable_classes(bits.of(map(self._number, labels)))

    def reachable_classes(self, classes: int) -> bool:
        """As `reachable`, of a set of classes as bits."""
        return all(classes & ~self.beside[number] == 0 for number in bits.each(classes))

    def possible(self, path: Sequence[LabelName], apart: Collection[int] = ()) -> bool:
        """Whether `trace` gives states: both ends of every step that is not ``apart`` coexist.

        False with a retired label: nothing goes to or from one.
        """
        numbers = [self._number(name) for name in path]
        return not bits.of(numbers) & self.retired and all(
            step in apart or self.beside[a] >> b & 1
            for step, (a, b) in enumerate(pairwise(numbers))
        )

    def trace(
        self, path: Sequence[LabelName], apart: Collection[int] = ()
    ) -> tuple[State, ...]:
        """The states of one host in which information goes along ``path``, in order.

        ``path`` is at least two labels; step i goes from ``path[i]`` to
        ``path[i + 1]``.  ``apart`` has the numbers of the steps for which the
        two need not run at once, because a disk keeps or a network carries
        what is moved.

        One state for each step, in which both of its ends run.  A step in
        ``apart`` whose ends do not coexist gives two: one with the source
        running, one with the sink.  Whoever received in one state and sends in
        the next runs all the time between (never in ``stopped`` of the later
        one): a VM that stopped has lost what it knew.  Nothing is stopped
        without need: only those that exclude who has to start, so if nobody is
        ever in ``stopped``, all the path's labels run at once.  The host is
        empty before the first state (but for dom0, which is listed as started
        where it is on the path).

        Raises BadInput ``walls.never-together`` or ``walls.retired`` if it is
        not `possible`, and ``label.unknown``.
        """
        for name in path:
            if self.retired >> self._number(name) & 1:
                raise BadInput(
                    "walls.retired", f"{name} is retired: no VM of it starts or shares",
                    "leave it out",
                )
        states: list[State] = []
        running: list[LabelName] = []
        for step, (source, sink) in enumerate(pairwise(path)):
            if self.coexist(source, sink):
                states.append(self._next(running, (source, sink), step))
                continue
            if step not in apart:
                raise BadInput(
                    "walls.never-together",
                    f"{source} and {sink} never run on one host at the same time, so nothing "
                    "moves between them directly",
                    "ask `shype explain` for the wall between them",
                )
            for end in (source, sink):
                # The source of a later step runs already; then this state repeats it.
                states.append(self._next(running, (end,), step))
        return tuple(states)

    def _next(self, running: list[LabelName], needed: Sequence[LabelName], step: int) -> State:
        """Make all of ``needed`` run, in their order; ``running`` becomes what runs then."""
        missing = tuple(dict.fromkeys(name for name in needed if name not in running))
        wanted = [self._number(name) for name in needed]
        stopped = tuple(
            name for name in running
            if any(not self.beside[number] >> self.of[name] & 1 for number in wanted)
        )
        running[:] = [*(name for name in running if name not in stopped), *missing]
        return State(tuple(running), missing, stopped, step)

    def _number(self, name: LabelName) -> int:
        try:
            return self.of[name]
        except KeyError:
            raise unknown_label(name, self.of) from None

    def _tombs_against(self, number: int, out: Sequence[int]) -> int:
        return bits.of(tomb for tomb in bits.each(self.retired) if out[tomb] >> number & 1)

    def _refuse_self_conflicts(self) -> None:
        """The readers reject such labels; for them the order of starts would matter."""
        for number, held in enumerate(self.held):
            if self.retired >> number & 1 or len(held) < 2:
                continue
            for wall in self.server.policy.walls.values():
                if len(held & wall.members) > 1:
                    raise BadInput(
                        "walls.self-conflict",
                        f"the label {self.names[number][0]} holds two members of the wall "
                        f"{wall.name}",
                        "see `shype check`",
                    )


class _Excluded:
    """Which classes are excluded while a domain runs, asked of the wall's own counters."""

    def __init__(
        self, wall: ChineseWall, sets: dict[WallName, frozenset[MemberName]],
        holders: dict[MemberName, int],
    ) -> None:
        self._sets = sets
        self._holders = holders
        self._single = {name: ChineseWall({name: members}) for name, members in sets.items()}
        self._walls = wall
        # What a wall excludes depends on the domain's members in it alone; few combinations occur.
        self._known: dict[tuple[WallName, frozenset[MemberName]], int] = {}

    def through(self, wall: WallName, held: frozenset[MemberName]) -> int:
        mine = held & self._sets[wall]
        key = (wall, mine)
        found = self._known.get(key)
        if found is None:
            found = 0
            for member in self._single[wall].account(WallState(), mine).aggregate:
                found |= self._holders[member]
            self._known[key] = found
        return found

    def by(self, held: frozenset[MemberName]) -> int:
        result = 0
        for wall in self._walls.walls_of(held):
            result |= self.through(wall, held)
        return result

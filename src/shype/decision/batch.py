"""Decisions by the million: arrays in, array out, the same answers as one by one.

The one module of this layer that needs numpy; `SecurityServer.decide_many`
imports it when it is first used, so a host that only enforces never does.

What two ordinary classes may do to each other follows from a few bits: what
their common coalitions open, what both have switched on, and which of the two
dominates. These bits are computed for whole arrays of pairs here; what they
mean is asked from `Sharing`, once per combination that occurs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from shype.base.errors import BadInput
from shype.decision import wording
from shype.decision.ids import PERMISSIONS, DecisionId
from shype.decision.rights import Classes, Rights
from shype.decision.sharing import INDEX, UNRELATED, AccessVector, Sharing
from shype.policy.lattice import LevelRange
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.names import LabelName

#: Anything that numpy takes for an array of whole numbers, or one number for all questions.
Indices: TypeAlias = npt.ArrayLike
Verdicts: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.uint8]
_Ints: TypeAlias = npt.NDArray[np.integer[Any]]
_Words: TypeAlias = npt.NDArray[np.uint64]

#: The ids that codes stand for: ``IDS[code]``.
IDS: tuple[DecisionId, ...] = tuple(DecisionId)
#: Up to so many classes the vectors of all pairs are kept in one table, 2 bytes each (32 MiB).
DENSE_LIMIT = 4096

#: Questions answered at a time, so that what is computed on the way stays in the CPU's caches.
_BLOCK = 1 << 14
#: Pairs whose verdicts depend on a guard are remembered up to so many.
_GUARDED_LIMIT = 1_000_000
#: Memberships looked at in one go while coalitions are compared.
_MEMBERSHIPS = 1 << 20

_BIT: Mapping[Mechanism, int] = {m: 1 << i for i, m in enumerate(sorted(SWITCHABLE))}
_ALL = len(_BIT)
#: A pair's bits: what is opened, what of it for a write up, whether anything is shared at all.
_SHARED = 1 << 2 * _ALL
#: A key's further bits, once it is known that they share: what both have switched on, and the
#: four dominances.
_ON, _DOMINANCE = 2 * _ALL, 3 * _ALL
_KEYS = 1 << _DOMINANCE + 4
_PERMITTED = np.array([id in PERMISSIONS for id in IDS])


class Batch:
    """Decides arrays of questions by one policy. Safe to share between threads.

    Labels are given by their index in `order`, operations by theirs in
    `Operation`. With up to ``dense`` classes it keeps a table of all pairs;
    with more, memory grows with the memberships of labels in coalitions.
    """

    def __init__(self, classes: Classes, sharing: Sharing, *, dense: int = DENSE_LIMIT) -> None:
        self.order: tuple[LabelName, ...] = tuple(classes.of)
        self._of = {name: index for index, name in enumerate(self.order)}
        self._classes = np.array([*classes.of.values()], np.int64)
        self._pairs = _Pairs(classes, sharing)
        self._count = len(classes.rights)
        self._table = self._pairs.table() if self._count <= dense else None

    def indices(self, labels: Iterable[str]) -> npt.NDArray[np.int64]:
        """The indices of labels by name. Raises BadInput ``label.unknown``."""
        names = list(labels)
        found = np.array([self._of.get(LabelName(n), -1) for n in names], np.int64)
        _refuse(found < 0, "label.unknown", "the policy has no label",
                lambda at: f"{names[at]!r} (position {at})", "see `labels:` of the policy")
        return found

    def permits(self, subjects: Indices, objects: Indices, operations: Indices) -> Verdicts:
        """The verdict of each question (true: permitted). Raises as `decide`."""
        s, o, op = self._questions(subjects, objects, operations)
        verdicts = np.empty(s.shape, np.bool_)
        self._answer(verdicts, s, o, op, lambda: self._pairs.permitted)
        return verdicts

    def decide(self, subjects: Indices, objects: Indices, operations: Indices) -> Codes:
        """The code of each decision; the arrays have one shape, or are broadcast to one.

        Raises BadInput ``batch.index`` for what is no index and ``batch.shape``.
        """
        s, o, op = self._questions(subjects, objects, operations)
        codes = np.empty(s.shape, np.uint8)
        self._answer(codes, s, o, op, lambda: self._pairs.codes)
        return codes

    def _questions(
        self, subjects: Indices, objects: Indices, operations: Indices
    ) -> tuple[_Ints, _Ints, _Ints]:
        s = _checked("subjects", subjects, len(self.order))
        o = _checked("objects", objects, len(self.order))
        op = _checked("operations", operations, len(INDEX))
        try:
            s, o, op = np.broadcast_arrays(s, o, op)
        except ValueError as error:
            raise BadInput(
                "batch.shape",
                f"subjects, objects and operations have the shapes {s.shape}, {o.shape} and "
                f"{op.shape}", "give arrays of one length, or one number for all",
            ) from error
        return s, o, op

    def _answer(
        self, out: npt.NDArray[Any], s: _Ints, o: _Ints, op: _Ints,
        answers: Callable[[], npt.NDArray[Any]],
    ) -> None:
        """Fill ``out`` from ``answers``, flat by vector number and operation."""
        flat, s, o, op = out.reshape(-1), s.reshape(-1), o.reshape(-1), op.reshape(-1)
        for start in range(0, flat.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            numbers = self._numbers(self._classes.take(s[block]), self._classes.take(o[block]))
            flat[block] = answers().take(numbers * len(INDEX) + op[block])

    def _numbers(self, subjects: _Ints, objects: _Ints) -> _Ints:
        if self._table is None:
            return self._pairs.numbers(subjects, objects)
        return self._table.take(subjects * self._count + objects)


class _Pairs:
    """The number of the access vector of any pair of classes. Memory linear in memberships."""

    def __init__(self, classes: Classes, sharing: Sharing) -> None:
        self._sharing = sharing
        rights = classes.rights
        self._count = len(rights)
        coalitions = {name: n for n, name in enumerate(sharing.coalitions)}
        self._opens = np.array([
            _SHARED | sum(_BIT[m] * (1 + (c.write_up << _ALL)) for m in c.mechanisms)
            for c in sharing.coalitions.values()
        ], np.int32)
        held = [sorted(coalitions[c] for c in r.coalitions) if not r.dom0 else []
                for r in rights]
        self._length = np.array([len(h) for h in held], np.int64)
        self._first = np.cumsum(self._length) - self._length
        self._coalition = np.array([c for h in held for c in h], np.int64)
        # Every membership as one number, ascending: looked up by bisection.
        owner = np.repeat(np.arange(self._count), self._length)
        self._held = owner * len(coalitions) + self._coalition
        # A coalition is one bit of 64: classes whose bits do not meet share none.
        self._signature = np.array(
            [sum({1 << (c * 0x9E3779B1 >> 16) % 64 for c in h}) for h in held], np.uint64
        )
        self._on = np.array([sum(_BIT[m] for m in r.mechanisms) for r in rights], np.int32)
        self._guard = np.array([r.guard is not None for r in rights])
        self._levels = _Dominance([r.level for r in rights])
        self._integrity = _Dominance([r.integrity for r in rights])

        self._lock = threading.Lock()
        self._known: dict[AccessVector, int] = {}
        self._of_key = np.full(_KEYS, -1, np.int16)
        self._guarded: dict[int, int] = {}
        #: By vector number times the number of operations plus operation; they grow.
        self.codes: Codes = np.empty(0, np.uint8)
        self.permitted: Verdicts = np.empty(0, np.bool_)
        self._unrelated = self._number(UNRELATED)
        #: dom0 and tombstones, of which there is one class each: their numbers on every class.
        self._rows = {
            n: (self._row(rights, n, subject=True), self._row(rights, n, subject=False))
            for n, r in enumerate(rights) if r.dom0 or r.retired
        }

    def _row(self, rights: Sequence[Rights], one: int, *, subject: bool) -> npt.NDArray[np.int16]:
        pairs = ((one, n) if subject else (n, one) for n in range(len(rights)))
        return np.array([self._number(self._sharing.vector(*pair)) for pair in pairs], np.int16)

    def table(self) -> npt.NDArray[np.int16]:
        """The numbers of all pairs, flat: subject times the number of classes plus object."""
        count = self._count
        everybody = np.arange(count)
        rows = max(1, _BLOCK // count)
        table = np.empty(count * count, np.int16)
        for start in range(0, count, rows):
            some = everybody[start:start + rows]
            numbers = self.numbers(np.repeat(some, count), np.tile(everybody, len(some)))
            table[start * count:(start + len(some)) * count] = numbers
        return table

    def numbers(self, s: _Ints, o: _Ints) -> npt.NDArray[np.int16]:
        """The vector number of each pair of a subject's and an object's class."""
        result = np.full(len(s), self._unrelated, np.int16)
        meet = np.flatnonzero(self._signature[s] & self._signature[o])
        result[meet] = self._ordinary(s[meet], o[meet])
        chain = np.flatnonzero(self._guard[s] | self._guard[o])
        if len(chain):
            result[chain] = self._at_guards(s[chain], o[chain])
        for one, (as_subject, as_object) in self._rows.items():
            for mine, theirs, row in ((s, o, as_subject), (o, s, as_object)):
                at = np.flatnonzero(mine == one)
                # A tombstone's verdict goes before dom0's, and every row already knows it.
                result[at] = row[theirs[at]]
        return result

    def _ordinary(self, s: _Ints, o: _Ints) -> npt.NDArray[np.int16]:
        key = self._opened(s, o)
        result = np.full(len(s), self._unrelated, np.int16)
        some = np.flatnonzero((key != 0) & ~self._guard[s] & ~self._guard[o])
        if not len(some):
            return result
        s, o, key = s[some], o[some], key[some]
        key = key & (_SHARED - 1) | (self._on[s] & self._on[o]) << _ON
        for bit, (order, a, b) in enumerate((
            (self._levels, s, o), (self._levels, o, s),
            (self._integrity, s, o), (self._integrity, o, s),
        )):
            if order.matters:
                key |= order.flows(a, b).astype(np.int32) << (_DOMINANCE + bit)
        found = self._of_key[key]
        if (found < 0).any():
            for new in np.unique(key[found < 0]):
                at = int(np.argmax(key == new))
                self._of_key[new] = self._number(self._sharing.vector(int(s[at]), int(o[at])))
            found = self._of_key[key]
        result[some] = found
        return result

    def _opened(self, s: _Ints, o: _Ints) -> npt.NDArray[np.int32]:
        """The bits of all coalitions that each pair shares; 0: it shares none."""
        first = self._length[s] <= self._length[o]
        few, many = np.where(first, s, o), np.where(first, o, s)
        lengths = self._length[few]
        total = int(lengths.sum())
        if total > _MEMBERSHIPS and len(s) > 1:
            # Labels in very many coalitions, which are few: every pair once, in pieces.
            pairs, back = np.unique(s * self._count + o, return_inverse=True)
            middle = len(pairs) // 2 or 1
            halves = [self._opened(*np.divmod(half, self._count))
                      for half in (pairs[:middle], pairs[middle:]) if len(half)]
            return np.concatenate(halves)[back]
        result = np.zeros(len(s), np.int32)
        if not total:
            return result
        starts = np.cumsum(lengths) - lengths
        at = np.arange(total) + np.repeat(self._first[few] - starts, lengths)
        coalition = self._coalition[at]
        wanted = np.repeat(many, lengths) * len(self._opens) + coalition
        place = np.searchsorted(self._held, wanted)
        place[place == len(self._held)] = 0
        bits = np.where(self._held[place] == wanted, self._opens[coalition], 0)
        some = lengths > 0
        result[some] = np.bitwise_or.reduceat(bits, starts[some])
        return result

    def _at_guards(self, s: _Ints, o: _Ints) -> npt.NDArray[np.int16]:
        pairs, back = np.unique(s * self._count + o, return_inverse=True)
        if len(self._guarded) > _GUARDED_LIMIT:
            self._guarded = {}
        known = self._guarded
        for pair in pairs.tolist():
            if pair not in known:
                known[pair] = self._number(self._sharing.vector(*divmod(pair, self._count)))
        return np.array([known[pair] for pair in pairs.tolist()], np.int16)[back]

    def _number(self, vector: AccessVector) -> int:
        with self._lock:
            number = self._known.get(vector)
            if number is None:
                row = np.array([IDS.index(id) for id in vector], np.uint8)
                self.codes = np.concatenate([self.codes, row])
                self.permitted = _PERMITTED[self.codes]
                number = self._known[vector] = len(self._known)
        return number


class _Dominance:
    """Who dominates whom, among ranges by class, in one lattice.

    A class without a level (dom0's) stands in the way of nothing.
    """

    def __init__(self, ranges: Sequence[LevelRange | None]) -> None:
        held = [r for r in ranges if r is not None]
        names = sorted({c for r in held for c in r.high.categories | r.low.categories})
        bit = {name: 1 << n for n, name in enumerate(names)}
        everything = (1 << len(names)) - 1
        words = max(1, (len(names) + 63) // 64)

        def row(categories: int) -> list[int]:
            return [categories >> 64 * word & (1 << 64) - 1 for word in range(words)]

        #: Whether any class has a level at all.
        self.matters = bool(held)
        self._low = np.array([r.low.rank if r else -1 for r in ranges], np.int32)
        self._high = np.array([r.high.rank if r else 1 << 30 for r in ranges], np.int32)
        self._needs: _Words = np.array(
            [row(sum(bit[c] for c in r.low.categories) if r else 0) for r in ranges], np.uint64
        )
        self._lacks: _Words = np.array([
            row(everything & ~sum(bit[c] for c in r.high.categories) if r else 0) for r in ranges
        ], np.uint64)

    def flows(self, lower: _Ints, upper: _Ints) -> npt.NDArray[np.bool_]:
        """Whether the high end of ``upper`` dominates the low end of ``lower``."""
        ranks: npt.NDArray[np.bool_] = self._high[upper] >= self._low[lower]
        missing = (self._needs[lower] & self._lacks[upper]).any(axis=1)
        return ranks & ~missing


def _checked(what: str, given: Indices, limit: int) -> _Ints:
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise BadInput("batch.shape", f"{what} are no array: {error}", "") from error
    if array.dtype.kind not in "iu" and array.size:
        raise BadInput(
            "batch.index", f"{what} are no whole numbers ({array.dtype})",
            "turn names of labels into numbers with `SecurityServer.indices`",
        )
    if array.size and (int(array.min()) < 0 or int(array.max()) >= limit):
        flat = array.reshape(-1)
        _refuse((flat < 0) | (flat >= limit), "batch.index", f"in {what} are no indices:",
                lambda at: f"{flat[at]} (position {at})", f"they go from 0 to {limit - 1}")
    return array.astype(np.int64, copy=False)


def _refuse(
    bad: npt.NDArray[np.bool_], id: str, what: str, show: Callable[[int], str], fix: str
) -> None:
    """Raise BadInput that names the first of the ``bad`` positions and counts the others."""
    places = np.flatnonzero(bad)
    if len(places):
        raise BadInput(id, f"{what} {wording.listed([show(int(at)) for at in places])}", fix)

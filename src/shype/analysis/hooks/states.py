"""What the walk carries: checks passed, and the effects that were met with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Check:
    """A call of a hook. ``default``: who may without FLASK (``XSM_PRIV`` and so on)."""

    file: Path
    line: int
    hook: str
    default: str
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class State:
    """Checks passed on every way to a place, and on some way.

    ``guarded``: on every way at least one, though perhaps not the same one.
    ``failing``: the line at which the result became an error, after which the operation does no
    more than clean up; 0 if it is none. ``success``: the state if the result is no error, where
    ways met of which one had an error as its result and the other had not.
    """

    must: frozenset[Check] = frozenset()
    may: frozenset[Check] = frozenset()
    guarded: bool = False
    failing: int = 0
    success: State | None = None

    def then(self, later: State) -> State:
        """After what ``later`` passed as well."""
        return State(self.must | later.must, self.may | later.may,
                     self.guarded or later.guarded, self.failing,
                     self.success.then(later) if self.success else None)

    def result(self, line: int) -> tuple[State, State]:
        """The states where the result, tested in ``line``, is an error and where it is none."""
        return (replace(self, failing=self.failing or line, success=None),
                replace(self.success or self, failing=0, success=None))


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that the operation changes or gives out, with the checks passed before."""

    file: Path
    line: int
    what: str
    state: State


@dataclass(frozen=True, slots=True)
class Summary:
    """What a function does: its effects, and the checks passed where it ends well."""

    effects: tuple[Effect, ...]
    end: State | None


def join(*states: State | None) -> State | None:
    """Where ways meet. None: no way leads here."""
    real = [state for state in states if state is not None]
    if not real:
        return None
    fine = [state.success or state for state in real if not state.failing]
    split = fine and (len(fine) < len(real) or any(state.success for state in real))
    return State(frozenset.intersection(*(state.must for state in real)),
                 frozenset.union(*(state.may for state in real)),
                 all(state.guarded for state in real), min(state.failing for state in real),
                 join(*(replace(state, success=None) for state in fine)) if split else None)


def ending(*states: State | None) -> State | None:
    """Where ways meet that have left something: those that fail count only where all do."""
    return join(*(state for state in states if state is not None and not state.failing)) \
        or join(*states)


def distinct(effects: list[Effect]) -> tuple[Effect, ...]:
    """One effect per set of checks, the first; more of those that no check guards."""
    kept: dict[tuple[State, int], Effect] = {}
    free = 0
    for effect in effects:
        number = 0
        if not effect.state.guarded:
            free += 1
            number = min(free, 8)
        kept.setdefault((effect.state, number), effect)
    return tuple(kept.values())

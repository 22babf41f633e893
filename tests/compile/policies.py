"""Policies as values, for tests that do not want to read YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import Mechanism
from shype.policy.model import Coalition, Enforcement, Guard, Host, Label, Policy, Retired, Wall
from shype.policy.names import (
    CategoryName,
    CoalitionName,
    LabelName,
    MemberName,
    SensitivityName,
    WallName,
)
from shype.policy.source import Span

SPAN = Span("test.yaml", 1, 1)


def policy(
    labels: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    walls: Mapping[str, Sequence[str]] | None = None,
    dom0: str = "manager",
    drivers: Sequence[str] = (),
) -> Policy:
    """``labels`` maps a name to its coalitions and its members of walls."""
    coalitions = sorted({c for shares, _ in labels.values() for c in shares})
    return Policy(
        name="test",
        version="1.0",
        source="test.yaml",
        coalitions={CoalitionName(c): Coalition(CoalitionName(c), SPAN) for c in coalitions},
        walls={
            WallName(name): Wall(WallName(name), frozenset(map(MemberName, members)), SPAN)
            for name, members in (walls or {}).items()
        },
        labels={
            LabelName(name): Label(
                LabelName(name), frozenset(map(CoalitionName, shares)),
                frozenset(map(MemberName, members)), SPAN,
            )
            for name, (shares, members) in labels.items()
        },
        host=Host(
            LabelName(dom0), frozenset(map(LabelName, drivers)), Enforcement.ENFORCING, SPAN
        ),
    )


BANKS = policy(
    {
        "manager": (["bank-a", "bank-b", "market"], []),
        "bank-a-db": (["bank-a"], ["bank-a"]),
        "bank-a-desk": (["bank-a", "market"], ["bank-a"]),
        "bank-b-db": (["bank-b"], ["bank-b"]),
        "bank-b-desk": (["bank-b", "market"], ["bank-b"]),
        "market-data": (["market"], []),
    },
    {"banks": ["bank-a", "bank-b"]},
)

#: Policies at the edges: what secilc would refuse if it were written down as it is.
EDGES: Mapping[str, Policy] = {
    "no guests": policy({"manager": (["a"], [])}),
    "one guest": policy({"manager": (["a"], []), "vm": (["a"], [])}),
    "guest without coalition": policy({"manager": (["a"], []), "alone": ([], [])}),
    "dom0 without coalition": policy({"manager": ([], []), "vm": (["a"], []), "b": ([], [])}),
    "dom0 may run nobody": policy({"manager": ([], []), "vm": (["a"], [])}),
    "wall without labels": policy({"manager": (["a"], []), "vm": (["a"], [])}, {"w": ["x", "y"]}),
    "member in two walls": policy(
        {"manager": (["a"], []), "x": (["a"], ["m"]), "y": (["a"], ["n", "o"]), "z": ([], ["p"])},
        {"w": ["m", "n"], "v": ["m", "p"], "u": ["o", "p", "q"]},
    ),
    "driver domain": policy(
        {"manager": (["a", "b"], []), "net": (["a", "b"], []), "x": (["a"], []), "y": (["b"], [])},
        drivers=["net"],
    ),
    "unlabeled": policy({"manager": (["a"], []), "unlabeled": (["a"], []), "xen": (["a"], [])}),
    "names that CIL uses": policy(
        {"dom0": (["self", "label"], []), "allow": (["self"], ["and"]), "label": (["label"], [])},
        {"not": ["and", "or"]}, dom0="dom0",
    ),
    "seventy in one wall": policy(
        {"manager": (["a"], []), **{f"l{i}": (["a"], [f"m{i}"]) for i in range(70)}},
        {"w": [f"m{i}" for i in range(70)]},
    ),
}

_CONFIDENTIALITY = Lattice(
    tuple(map(SensitivityName, ("public", "internal", "secret"))),
    tuple(map(CategoryName, ("crew", "finance"))), SPAN,
)
_INTEGRITY = Lattice(
    tuple(map(SensitivityName, ("any", "checked", "trusted"))), (CategoryName("signed"),), SPAN
)


def at(rank: int, *categories: str) -> LevelRange:
    """The single level of this rank."""
    level = Level(rank, frozenset(map(CategoryName, categories)))
    return LevelRange(level, level)


def between(low: LevelRange, high: LevelRange) -> LevelRange:
    """The range from one single level to another."""
    return LevelRange(low.low, high.high)


_TRUSTED = at(2, "signed")


def _leveled() -> Policy:
    """Levels, integrity, write-up, switches, a driver with a range, two guards, a tombstone."""
    base = policy(
        {
            "manager": (["ops", "press", "feed"], []),
            "low": (["ops"], []), "high": (["ops"], []), "low-crew": (["ops"], []),
            "high-crew": (["ops", "feed"], []), "high-twin": (["ops"], []),
            "dirty": (["ops"], []), "source": (["feed"], []), "mixed": (["ops", "feed"], []),
            "deaf": (["ops", "feed"], []), "desk": (["press"], []), "wall-desk": (["press"], []),
            "both": (["ops", "press"], []), "netd": (["ops", "press", "feed"], []),
            "release": ([], []), "plain-guard": ([], []),
        },
        drivers=["netd"],
    )
    levels = {
        "low": (at(0), _TRUSTED), "high": (at(1), _TRUSTED), "low-crew": (at(0, "crew"), _TRUSTED),
        "high-crew": (at(1, "crew"), _TRUSTED), "high-twin": (at(1), _TRUSTED),
        "dirty": (at(0), at(1)), "source": (at(0), _TRUSTED), "mixed": (at(1, "crew"), at(1)),
        "deaf": (at(0), _TRUSTED), "desk": (at(2, "crew"), _TRUSTED), "wall-desk": (at(0), at(0)),
        "both": (at(1), _TRUSTED),
        "netd": (between(at(0), at(2, "crew", "finance")), between(at(0), _TRUSTED)),
        "release": (between(at(0), at(1, "crew")), between(at(1), _TRUSTED)),
        "plain-guard": (at(0), _TRUSTED),
    }
    off = {"deaf": Mechanism.EVENT, "plain-guard": Mechanism.ARGO}
    labels = {
        name: replace(
            label, level=levels.get(name, (None, None))[0],
            integrity=levels.get(name, (None, None))[1],
            mechanisms=label.mechanisms - {off[name]} if name in off else label.mechanisms,
            was=LabelName("high-old") if name == "high-crew" else None,
        )
        for name, label in base.labels.items()
    }
    coalitions = {
        name: replace(
            coalition, write_up=name == "feed",
            mechanisms=coalition.mechanisms - {Mechanism.ARGO if name == "press" else None},
        )
        for name, coalition in base.coalitions.items()
    }
    return replace(
        base, labels=labels, coalitions=coalitions, levels=_CONFIDENTIALITY, integrity=_INTEGRITY,
        guards={
            LabelName(name): Guard(
                LabelName(name), CoalitionName(source), CoalitionName(sink), "r", None, SPAN
            )
            for name, source, sink in (
                ("release", "ops", "press"), ("plain-guard", "feed", "press"),
            )
        },
        retired={LabelName("gone"): Retired(LabelName("gone"), SPAN)},
    )


#: Everything at once; see `_leveled`.
LEVELED = _leveled()

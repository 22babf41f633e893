"""Policies as values, for tests that do not want to read YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shype.policy.model import Coalition, Enforcement, Host, Label, Policy, Wall
from shype.policy.names import CoalitionName, LabelName, MemberName, WallName
from shype.policy.source import Span

_SPAN = Span("test.yaml", 1, 1)


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
        coalitions={CoalitionName(c): Coalition(CoalitionName(c), _SPAN) for c in coalitions},
        walls={
            WallName(name): Wall(WallName(name), frozenset(map(MemberName, members)), _SPAN)
            for name, members in (walls or {}).items()
        },
        labels={
            LabelName(name): Label(
                LabelName(name), frozenset(map(CoalitionName, shares)),
                frozenset(map(MemberName, members)), _SPAN,
            )
            for name, (shares, members) in labels.items()
        },
        host=Host(
            LabelName(dom0), frozenset(map(LabelName, drivers)), Enforcement.ENFORCING, _SPAN
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

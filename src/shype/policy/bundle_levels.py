"""Levels as JSON: a rank and sorted categories; lattices and ranges of them."""

from __future__ import annotations

from shype.policy.json_values import names, number, obj, order, span, span_out
from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.names import CategoryName, SensitivityName


def lattice_out(points: Lattice | None) -> dict[str, object] | None:
    """A lattice, or null."""
    if points is None:
        return None
    return {
        "order": list(points.order), "categories": list(points.categories),
        "span": span_out(points.span),
    }


def lattice(value: object, where: str) -> Lattice | None:
    """What `lattice_out` wrote."""
    if value is None:
        return None
    entry = obj(value, where, "order", "categories", "span")
    return Lattice(
        tuple(SensitivityName(n) for n in order(entry["order"], f"{where}.order")),
        tuple(CategoryName(n) for n in order(entry["categories"], f"{where}.categories")),
        span(entry["span"], where),
    )


def range_out(levels: LevelRange | None) -> dict[str, object] | None:
    """A range, or null."""
    if levels is None:
        return None
    return {"low": level_out(levels.low), "high": level_out(levels.high)}


def level_out(point: Level) -> dict[str, object]:
    """A level."""
    return {"rank": point.rank, "categories": sorted(point.categories)}


def level_range(value: object, where: str) -> LevelRange | None:
    """What `range_out` wrote."""
    if value is None:
        return None
    entry = obj(value, where, "low", "high")
    return LevelRange(level(entry["low"], f"{where}.low"), level(entry["high"], f"{where}.high"))


def level(value: object, where: str) -> Level:
    """What `level_out` wrote."""
    entry = obj(value, where, "rank", "categories")
    found = names(entry["categories"], f"{where}.categories")
    return Level(number(entry["rank"], f"{where}.rank"), frozenset(CategoryName(n) for n in found))

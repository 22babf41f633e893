"""What the hypervisor's own lines say of the ways between two guests."""

from __future__ import annotations

from shype.demo.lab_stage import CLASSES, refused_channels
from shype.lab.probe import SHARING


def denial(source: str, target: str, cls: str, rule: str | None) -> dict[str, object]:
    """An item of `shype denials --json`, as far as it is looked at."""
    decision = None if rule is None else {"id": rule, "sentence": f"{rule}.", "rules": ["p:1:1"]}
    return {"source": {"label": source}, "target": {"label": target}, "class": cls,
            "permissions": ["any"], "raw": "avc: denied", "decision": decision}


def test_every_way_has_a_class() -> None:
    assert {*CLASSES} == {*SHARING}


def test_a_rule_counts_for_its_class_and_both_directions() -> None:
    found = refused_channels([
        denial("a", "b", "grant", "ste.disjoint"), denial("b", "a", "grant", "ste.disjoint"),
        denial("a", "b", "argo", "mechanism.closed"),
        denial("a", "c", "event", None),
    ])
    assert found == {
        (frozenset("ab"), "grant"): ("ste.disjoint. (p:1:1)", "ste.disjoint"),
        (frozenset("ab"), "argo"): ("mechanism.closed. (p:1:1)", "mechanism.closed"),
        (frozenset("ac"), "event"): ("avc: denied", ""),
    }


def test_no_rule_is_named_where_the_directions_differ() -> None:
    found = refused_channels([
        denial("low", "high", "grant", "mls.write-up"),
        denial("high", "low", "grant", "mls.write-down"),
        denial("high", "low", "grant", "mls.write-down"),
    ])
    assert found == {(frozenset(("low", "high")), "grant"): ("", "")}

"""The same policy for general policy engines, each in the form in which it is fastest.

What they are told: per label the coalitions through which each mechanism is
open to it, its rank and categories; per operation its mechanism and whether
levels must be equal or the subject's must dominate. So they do not have to
know mechanisms, switches or write-ups, only to intersect and to compare.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

from shype.decision.operation import Flow, Operation
from shype.policy.model import Policy

#: Subject, object and operation by name.
Question = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Facts:
    """A policy without guards, ranges, integrity and write-ups, as every engine can take it.

    ``labels``: by name, with the keys `Mechanism`, ``rank`` and ``categories``.
    ``rules``: mechanism of each operation between VMs, and ``equal`` or ``dominates``.
    """

    labels: dict[str, dict[str, Any]]
    rules: dict[str, tuple[str, str]]


def facts(policy: Policy) -> Facts:
    """The facts of ``policy``."""
    labels = {}
    for label in policy.guests:
        level = label.level.low if label.level else None
        labels[str(label.name)] = {
            **{
                str(m): sorted(c for c in label.coalitions if m in label.mechanisms
                               and m in policy.coalitions[c].mechanisms)
                for m in {op.mechanism for op in Operation if op.flow is not Flow.POWER}
            },
            "rank": level.rank if level else 0,
            "categories": sorted(level.categories) if level else [],
        }
    rules = {
        str(op): (str(op.mechanism), "dominates" if op.flow is Flow.PULL else "equal")
        for op in Operation if op.flow is not Flow.POWER
    }
    return Facts(labels, rules)


class Peer(Protocol):
    """An engine with the policy loaded."""

    name: str
    #: Whether one call takes many questions.
    batches: bool

    def prepare(self, questions: Sequence[Question]) -> Sequence[Any]:
        """The questions in the engine's own form; not part of what is timed."""

    def ask(self, prepared: Sequence[Any]) -> list[bool]:
        """The answers, in order."""


class Cedar:
    """cedarpy: one policy per operation, sets as attributes, parsed handles, requests as dicts."""

    name, batches = "cedarpy", True

    def __init__(self, facts: Facts) -> None:
        self._engine = importlib.import_module("cedarpy")
        levels = {
            "equal": "principal.rank == resource.rank && "
                     "principal.categories == resource.categories",
            "dominates": "principal.rank >= resource.rank && "
                         "principal.categories.containsAll(resource.categories)",
        }
        self._policies = self._engine.PolicySet.from_str("\n".join(
            f'permit(principal, action == Action::"{operation}", resource) when '
            f"{{ principal.{mechanism}.containsAny(resource.{mechanism}) && {levels[level]} }};"
            for operation, (mechanism, level) in facts.rules.items()
        ))
        self._entities = self._engine.Entities.from_json_str(json.dumps([
            {"uid": {"type": "Label", "id": name}, "attrs": attributes, "parents": []}
            for name, attributes in facts.labels.items()
        ]))

    def prepare(self, questions: Sequence[Question]) -> Sequence[Any]:
        return [
            {"principal": {"type": "Label", "id": subject}, "action": {"type": "Action", "id": op},
             "resource": {"type": "Label", "id": object}}
            for subject, object, op in questions
        ]

    def ask(self, prepared: Sequence[Any]) -> list[bool]:
        results = self._engine.is_authorized_batch(prepared, self._policies, self._entities)
        return [result.allowed for result in results]


_CASBIN = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = act, mechanism, level
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.act == p.act && share(r.sub, r.obj, p.mechanism) && level(r.sub, r.obj, p.level)
"""


class Casbin:
    """pycasbin: one rule per operation; sets are intersected by Python functions.

    Roles (``g``) for coalitions are more usual and slower: the matcher then
    runs once per coalition and operation.
    """

    name, batches = "casbin", False

    def __init__(self, facts: Facts) -> None:
        engine = importlib.import_module("casbin")
        model = engine.Model()
        model.load_model_from_text(_CASBIN)
        self._enforcer = engine.Enforcer(model)
        self._enforcer.add_policies(
            [[op, mechanism, level] for op, (mechanism, level) in facts.rules.items()]
        )
        held = {
            name: {key: frozenset(value) if isinstance(value, list) else value
                   for key, value in attributes.items()}
            for name, attributes in facts.labels.items()
        }

        def share(subject: str, object: str, mechanism: str) -> bool:
            return not held[subject][mechanism].isdisjoint(held[object][mechanism])

        def level(subject: str, object: str, rule: str) -> bool:
            s, o = held[subject], held[object]
            if rule == "equal":
                return bool(s["rank"] == o["rank"] and s["categories"] == o["categories"])
            return bool(s["rank"] >= o["rank"] and s["categories"] >= o["categories"])

        self._enforcer.add_function("share", share)
        self._enforcer.add_function("level", level)

    def prepare(self, questions: Sequence[Question]) -> Sequence[Any]:
        return questions

    def ask(self, prepared: Sequence[Any]) -> list[bool]:
        enforce = self._enforcer.enforce
        return [enforce(subject, object, operation) for subject, object, operation in prepared]


_REGO = """
package shype
default allow := false
allow if {
  rule := data.rules[input.operation]
  s := data.labels[input.subject]
  o := data.labels[input.object]
  some coalition
  s[rule.mechanism][coalition]
  o[rule.mechanism][coalition]
  level(rule.level, s, o)
}
level("equal", s, o) if { s.rank == o.rank; s.categories == o.categories }
level("dominates", s, o) if {
  s.rank >= o.rank
  object.keys(o.categories) & object.keys(s.categories) == object.keys(o.categories)
}
"""


class Rego:
    """regopy: sets as objects in the data document, the rule compiled to a bundle once."""

    name, batches = "regopy", False

    def __init__(self, facts: Facts) -> None:
        self._engine = importlib.import_module("regopy")
        self._interpreter = self._engine.Interpreter()
        self._interpreter.add_data({
            "rules": {op: {"mechanism": mechanism, "level": level}
                      for op, (mechanism, level) in facts.rules.items()},
            "labels": {
                name: {key: dict.fromkeys(value, True) if isinstance(value, list) else value
                       for key, value in attributes.items()}
                for name, attributes in facts.labels.items()
            },
        })
        self._interpreter.add_module("shype.rego", _REGO)
        self._bundle = self._interpreter.build(None, ["shype/allow"])

    def prepare(self, questions: Sequence[Question]) -> Sequence[Any]:
        return [
            self._engine.Input({"subject": subject, "object": object, "operation": operation})
            for subject, object, operation in questions
        ]

    def ask(self, prepared: Sequence[Any]) -> list[bool]:
        answers = []
        for question in prepared:
            self._interpreter.set_input(question)
            output = self._interpreter.query_bundle_entrypoint(self._bundle, "shype/allow")
            answers.append(output.results[0].expressions[0] is True)
        return answers


#: The engines by the name of their package.
PEERS = (Cedar, Casbin, Rego)


def version(package: str) -> str | None:
    """The installed version of an engine, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

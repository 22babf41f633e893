"""The section ``attestation`` as JSON."""

from __future__ import annotations

import re

from shype.policy import grammar
from shype.policy.json_values import corrupt, items, keyed, name, number, obj, span, span_out
from shype.policy.json_values import spelled as _spelled
from shype.policy.model import Attestation, Lost, Policy, Verifier
from shype.policy.names import UNLABELED, VerifierName

_KEY = re.compile(r"[0-9a-f]{64}")


def attestation_out(section: Attestation | None) -> dict[str, object] | None:
    """The section, or null."""
    if section is None:
        return None
    return {
        "verifiers": [
            {"name": one.name, "key": one.key, "span": span_out(one.span)}
            for one in section.verifiers.values()
        ],
        "fresh": section.fresh, "lost": str(section.lost), "refuges": list(section.refuges),
        "span": span_out(section.span),
    }


def attestation(value: object) -> Attestation | None:
    """What `attestation_out` wrote. Raises BadInput (``bundle.corrupt``)."""
    if value is None:
        return None
    entry = obj(value, "attestation", "verifiers", "fresh", "lost", "refuges", "span")
    lost = entry["lost"]
    if lost not in frozenset(map(str, Lost)):
        corrupt("attestation.lost is none of its words")
    return Attestation(
        keyed(entry["verifiers"], "attestation.verifiers", _verifier, lambda one: one.name),
        span(entry["span"], "attestation"), number(entry["fresh"], "attestation.fresh"),
        Lost(str(lost)),
        tuple(_spelled(host, "attestation.refuges", grammar.is_host)
              for host in items(entry["refuges"], "attestation.refuges")),
    )


def _verifier(value: object, where: str) -> Verifier:
    entry = obj(value, where, "name", "key", "span")
    return Verifier(
        VerifierName(name(entry["name"], where)),
        _spelled(entry["key"], where, lambda text: _KEY.fullmatch(text) is not None),
        span(entry["span"], where),
    )


def check(policy: Policy) -> None:
    """The rules of the section that decisions rely on. Raises BadInput (``bundle.corrupt``)."""
    attested = {label.name for label in policy.labels.values() if label.attested}
    if attested & {policy.host.dom0, policy.host.manager, UNLABELED}:
        corrupt("dom0's label, the manager's or `unlabeled` is attested")
    section = policy.attestation
    if section is None:
        if attested:
            corrupt("a label is attested, and nobody is named who attests")
        return
    keys = [one.key for one in section.verifiers.values()]
    if not keys or len(set(keys)) != len(keys):
        corrupt("there is no verifier, or two have one key")
    if not section.fresh:
        corrupt("attestation.fresh is 0")
    if bool(section.refuges) != (section.lost is Lost.EVACUATE):
        corrupt("there are refuges without evacuation, or evacuation without refuges")
    if len(set(section.refuges)) != len(section.refuges):
        corrupt("a refuge is named twice")

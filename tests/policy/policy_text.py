"""A policy file that says what a given `Policy` says: the inverse of the loader.

Plain on purpose (every entry in flow style, every name quoted), so that what
the loader makes of it does not depend on how clever the writer is.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from shype.policy.lattice import Lattice, Level, LevelRange
from shype.policy.mechanism import OPENED, SWITCHABLE, Mechanism
from shype.policy.model import (
    Attestation,
    Coalition,
    Label,
    Policy,
    ResourceLabel,
    Retired,
    Updates,
)
from shype.policy.quotas import Amount, Quota, Quotas
from shype.policy.source import Span

_K = TypeVar("_K", bound=str)


def policy_yaml(policy: Policy) -> str:
    """A policy file that says what ``policy`` says (whatever its spans are)."""
    return layout(policy)[0]


class _Page:
    """The lines of a policy file, and where each part stands."""

    def __init__(self, source: str) -> None:
        self.lines: list[str] = []
        self._source = source

    def put(self, line: str) -> Span:
        """One more line; the span of what stands in it after blanks and `- `."""
        self.lines.append(line)
        return Span(self._source, len(self.lines), 1 + len(line) - len(line.lstrip(" -")))

    def entry(self, indent: str, name: str, parts: Iterable[str]) -> Span:
        """A name with a mapping of ``parts``."""
        return self.put(f"{indent}{_quoted(name)}: {{{', '.join(part for part in parts if part)}}}")


def layout(policy: Policy) -> tuple[str, Policy]:
    """The text, and ``policy`` with the spans that its parts have in the text."""
    page = _Page(policy.source)
    page.put("# drawn at random")
    page.put("shype: 1")
    page.entry("", "policy", [
        f"name: {_quoted(policy.name)}", f"version: {_quoted(policy.version)}",
        f"from: {_quoted(policy.replaces)}" if policy.replaces else "", _was(policy.was),
    ])
    page.put("coalitions:")
    plain = all(c == Coalition(c.name, c.span) for c in policy.coalitions.values())
    coalitions = {
        name: replace(c, span=page.put(f"  - {_quoted(name)}") if plain else page.entry(
            "  ", name,
            [_switches(c.mechanisms, OPENED), "write-up: true" if c.write_up else "", _was(c.was)],
        ))
        for name, c in policy.coalitions.items()
    }
    walls = {}
    if policy.walls:
        page.put("walls:")
        for name, wall in policy.walls.items():
            members = _flow(wall.members)
            walls[name] = replace(
                wall, span=page.put(f"  {_quoted(name)}: {members}") if wall.was is None
                else page.entry("  ", name, [f"members: {members}", _was(wall.was)]),
            )
    levels = _lattice_out(page, "levels", policy.levels)
    integrity = _lattice_out(page, "integrity", policy.integrity)
    page.put("labels:")
    labels = {}
    for label_name, label in policy.labels.items():
        if label_name in policy.guards:
            continue
        privileged = label_name == policy.host.dom0 or label_name in policy.host.drivers
        shares = f"coalitions: {_flow(label.coalitions)}" if label.coalitions else ""
        if privileged and label.coalitions == policy.coalitions.keys():
            shares = "coalitions: all"
        span = page.entry("  ", label_name, [shares, *_carried(policy, label)])
        labels[label_name] = replace(label, span=span)
    guards = {}
    if policy.guards:
        page.put("guards:")
        for label_name, guard in policy.guards.items():
            span = page.entry("  ", label_name, [
                f"from: {_quoted(guard.source)}", f"to: {_quoted(guard.sink)}",
                f"reason: {_quoted(guard.reason)}",
                f"expires: {_quoted(guard.expires.isoformat())}" if guard.expires else "",
                *_carried(policy, policy.labels[label_name]),
            ])
            guards[label_name] = replace(guard, span=span)
            labels[label_name] = replace(policy.labels[label_name], span=span)
    resource_labels = {}
    if policy.resource_labels:
        page.put("resource-labels:")
        for kept_name, kept in policy.resource_labels.items():
            span = page.entry("  ", kept_name, [*_borne(policy, kept), _was(kept.was)])
            resource_labels[kept_name] = replace(kept, span=span)
    resources = []
    if policy.resources:
        page.put("resources:")
        for entry in policy.resources:
            carried = entry.label.name
            parts = [f"{entry.kind}: {_quoted(entry.pattern)}"]
            parts += (
                _borne(policy, entry.label) if carried is None else [f"label: {_quoted(carried)}"]
            )
            span = page.put(f"  - {{{', '.join(part for part in parts if part)}}}")
            borne = (
                replace(entry.label, span=span) if carried is None else resource_labels[carried]
            )
            resources.append(replace(entry, label=borne, span=span))
    retired = {}
    if policy.retired:
        page.put("retired:")
        for old_name in policy.retired:
            held = sorted(policy.retired[old_name].members)
            holds = f"wall: [{', '.join(map(_quoted, held))}]" if held else ""
            retired[old_name] = Retired(
                old_name, page.put(f"  {_quoted(old_name)}: {{{holds}}}"), frozenset(held))
    host_span = page.put("host:")
    page.put(f"  dom0: {_quoted(policy.host.dom0)}")
    if policy.host.drivers:
        page.put(f"  drivers: {_flow(policy.host.drivers)}")
    page.put(f"  minimum: {policy.host.minimum}")
    if policy.host.updates is Updates.LIVE:
        page.put("  updates: live")
        page.put(f"  revocation: {policy.host.revocation}")
    assignments = {}
    if policy.assignments:
        page.put("vms:")
        for vm, assignment in policy.assignments.items():
            span = page.put(f"  {_quoted(vm)}: {_quoted(assignment.label)}")
            assignments[vm] = replace(assignment, span=span)
    if policy.static:
        page.put("static: true")
    vectors = {}
    if policy.vectors:
        page.put("vectors:")
        everyone = policy.labels.keys() - {policy.host.dom0}
        for vector_name, vector in policy.vectors.items():
            word = "all" if vector.labels == everyone else _flow(vector.labels)
            span = page.put(f"  {_quoted(vector_name)}: {word}")
            vectors[vector_name] = replace(vector, span=span)
    attestation = policy.attestation
    if attestation is not None:
        attestation = _attestation_out(page, attestation)
    quotas = policy.quotas
    if quotas is not None:
        quotas = _quotas_out(page, quotas)
    placed = replace(
        policy, coalitions=coalitions, walls=walls, labels=labels, guards=guards, levels=levels,
        integrity=integrity, host=replace(policy.host, span=host_span), assignments=assignments,
        resource_labels=resource_labels, resources=tuple(resources), retired=retired,
        vectors=vectors, attestation=attestation, quotas=quotas,
    )
    return "\n".join(page.lines) + "\n", placed


def _attestation_out(page: _Page, section: Attestation) -> Attestation:
    span = page.put("attestation:")
    page.put(f"  fresh: {section.fresh} seconds")
    page.put(f"  lost: {section.lost}")
    if section.refuges:
        page.put(f"  refuges: {_flow(section.refuges, ordered=True)}")
    page.put("  verifiers:")
    start = bytes.fromhex("302a300506032b6570032100")
    verifiers = {
        name: replace(one, span=page.put(
            f"    {_quoted(name)}: "
            f"{base64.b64encode(start + bytes.fromhex(one.key)).decode()}"))
        for name, one in section.verifiers.items()
    }
    return replace(section, verifiers=verifiers, span=span)


def _quotas_out(page: _Page, section: Quotas) -> Quotas:
    span = page.put("quotas:")
    host = section.host
    if host is not None:
        host = replace(host, span=page.put(f"  host: {{{', '.join(_amounts(host.most))}}}"))
    coalitions = _owned_out(page, "coalitions", section.coalitions)
    labels = _owned_out(page, "labels", section.labels)
    return replace(section, span=span, host=host, coalitions=coalitions, labels=labels)


def _owned_out(page: _Page, key: str, quotas: Mapping[_K, Quota]) -> dict[_K, Quota]:
    if quotas:
        page.put(f"  {key}:")
    return {name: replace(quota, span=page.entry("    ", name, _quota(quota)))
            for name, quota in quotas.items()}


def _quota(quota: Quota) -> list[str]:
    reserved, each = ", ".join(_amounts(quota.reserved)), quota.each
    parts = [
        f"cpu: {each.cpu} %" if each.cpu else "", f"weight: {each.weight}" if each.weight else "",
        f"bandwidth: {each.bandwidth // 1000} kbit/s" if each.bandwidth else ""]
    said = ", ".join(part for part in parts if part)
    return [*_amounts(quota.most), f"reserved: {{{reserved}}}" if reserved else "",
            f"each: {{{said}}}" if said else ""]


def _amounts(amounts: Mapping[Amount, int]) -> list[str]:
    said = {Amount.MEMORY: lambda n: f"{n} KiB", Amount.BANDWIDTH: lambda n: f"{n // 1000} kbit/s"}
    return [f"{a}: {said.get(a, str)(n)}" for a, n in amounts.items()]


def _lattice_out(page: _Page, section: str, lattice: Lattice | None) -> Lattice | None:
    if lattice is None:
        return None
    span = page.entry("", section, [
        f"order: {_flow(lattice.order, ordered=True)}",
        f"categories: {_flow(lattice.categories, ordered=True)}" if lattice.categories else "",
    ])
    return replace(lattice, span=span)


def _carried(policy: Policy, label: Label) -> list[str]:
    """What a label and a guard have in common."""
    return [
        f"wall: {_flow(label.members)}" if label.members else "",
        _range_out("level", policy.levels, label.level),
        _range_out("integrity", policy.integrity, label.integrity),
        _switches(label.mechanisms, SWITCHABLE), _was(label.was),
        "locked: true" if label.locked else "",
        "object-manager: true" if label.object_manager else "",
        "attested: true" if label.attested else "",
        "vtpm: true" if label.vtpm else "",
    ]


def _borne(policy: Policy, label: ResourceLabel) -> list[str]:
    """What a resource label has, and an entry without one."""
    parts = [
        f"coalitions: {_flow(label.coalitions)}" if label.coalitions else "",
        "inaccessible: true" if label.inaccessible else "",
    ]
    for key, lattice, level in (
        ("level", policy.levels, label.level), ("integrity", policy.integrity, label.integrity)
    ):
        if lattice is not None and level is not None:
            parts.append(f"{key}: {_level_out(lattice, level)}")
    return parts


def _range_out(key: str, lattice: Lattice | None, levels: LevelRange | None) -> str:
    if lattice is None or levels is None:
        return ""
    low, high = _level_out(lattice, levels.low), _level_out(lattice, levels.high)
    return f"{key}: {low}" if levels.single else f"{key}: [{low}, {high}]"


def _level_out(lattice: Lattice, level: Level) -> str:
    if level.categories and level.categories == frozenset(lattice.categories):
        return _quoted(f"{lattice.order[level.rank]} {{all}}")
    return _quoted(lattice.show(level))


def _switches(mechanisms: frozenset[Mechanism], default: frozenset[Mechanism]) -> str:
    return "" if mechanisms == default else f"mechanisms: {_flow(mechanisms)}"


def _was(name: str | None) -> str:
    return "" if name is None else f"was: {_quoted(name)}"


def _flow(items: Iterable[str], *, ordered: bool = False) -> str:
    return "[" + ", ".join(_quoted(item) for item in (items if ordered else sorted(items))) + "]"


def _quoted(text: str) -> str:
    return json.dumps(text)

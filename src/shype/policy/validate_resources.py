"""Rules about resources and the labels that they carry."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from shype.policy import grammar, resources
from shype.policy.draft import Draft, DraftResource, DraftResourceLabel, Ref
from shype.policy.findings import Id, error, show, warning
from shype.policy.model import ResourceKind
from shype.policy.names import UNLABELED_RESOURCE
from shype.policy.rules import Case, Rule, lattice, level_range
from shype.policy.source import Finding

_KINDS = "`disk`, `network`, `pci`, `irq`, `ioport` and `memory`"


def _labels(draft: Draft) -> Iterator[DraftResourceLabel]:
    """Every resource label, those inside entries included."""
    yield from (draft.resource_labels or {}).values()
    yield from (entry.inline for entry in draft.resources if entry.inline.said)


def resources_are_of_one_kind(case: Case) -> Iterator[Finding]:
    """An entry names resources of one kind."""
    for entry in case.draft.resources:
        if len(entry.kinds) != 1:
            second = entry.kinds[1][0] if entry.kinds else None
            yield error(
                Id.RESOURCE_KIND, second.span if second is not None else entry.span,
                f"this entry says both `{entry.kinds[0][0].text}` and `{second.text}`"
                if second is not None else "this resource has no kind",
                "write an entry for each" if second is not None else f"add one of {_KINDS}",
            )


def resources_are_spelled(case: Case) -> Iterator[Finding]:
    """A name, pattern or range is one of its kind."""
    for entry in case.draft.resources:
        for key, value in entry.kinds:
            if value is None:
                continue
            try:
                resources.canonical(ResourceKind(key.text), value.text)
            except ValueError as problem:
                yield error(
                    Id.RESOURCE_NAME, value.span,
                    f"{show(value.text)} names no {key.text}: {problem}",
                    f"write for example `{_EXAMPLES[ResourceKind(key.text)]}`",
                )


_EXAMPLES = {
    ResourceKind.DISK: "/dev/vg0/bank-a-*",
    ResourceKind.NETWORK: "br-web",
    ResourceKind.PCI: "0000:03:00.0",
    ResourceKind.IRQ: "16-19",
    ResourceKind.IOPORT: "0x2f8-0x2ff",
    ResourceKind.MEMORY: "0xfed40000-0xfed40fff",
}


def resources_have_one_label(case: Case) -> Iterator[Finding]:
    """An entry names a label, or says itself what a label would."""
    for entry in case.draft.resources:
        if entry.label is not None and entry.inline.said:
            yield error(
                Id.RESOURCE_LABEL, entry.inline.said[0].span,
                f"this resource has the label {show(entry.label.text)} and "
                f"{show(entry.inline.said[0].text)} of its own",
                "keep one of the two",
            )
        elif entry.label is None and not entry.inline.said and not entry.label_written:
            yield error(
                Id.RESOURCE_LABEL, entry.kinds[0][0].span if entry.kinds else entry.span,
                "this resource has no label",
                "add `label: NAME`, or `coalitions: [...]`, or `inaccessible: true`",
            )


def resource_labels_are_declared(case: Case) -> Iterator[Finding]:
    """An entry's label is declared under ``resource-labels``."""
    declared = case.draft.resource_labels
    if declared is not None:
        refs = [entry.label for entry in case.draft.resources if entry.label is not None]
        yield from case.undeclared(
            refs, declared, Id.RESOURCE_LABEL_UNDECLARED, "resource label", "resource-labels"
        )


def resource_coalitions_are_declared(case: Case) -> Iterator[Finding]:
    """A resource's coalitions are declared under ``coalitions``."""
    for label in _labels(case.draft):
        for ref in label.coalitions:
            if ref.text == grammar.ALL:
                yield error(
                    Id.NAME_RESERVED, ref.span,
                    "`all` stands for every coalition; a resource names its own",
                    "name the coalitions",
                )
            elif case.draft.coalitions:
                yield from case.undeclared(
                    [ref], case.draft.coalitions, Id.COALITION_UNDECLARED, "coalition",
                    "coalitions",
                )


def inaccessible_says_it_all(case: Case) -> Iterator[Finding]:
    """What nobody may use has neither coalitions nor levels."""
    for label in _labels(case.draft):
        others = [ref for ref in label.said if ref.text != "inaccessible"]
        if label.inaccessible is not None and others:
            yield error(
                Id.RESOURCE_INACCESSIBLE, others[0].span,
                f"what is inaccessible has no {show(others[0].text)}: nobody may use it",
                f"delete {show(others[0].text)} or `inaccessible`",
            )


def _entries(case: Case) -> list[tuple[DraftResource, ResourceKind, str, Hashable]]:
    """The entries that can be compared: one kind, spelled, with a label."""
    draft = case.draft
    levels, integrity = lattice(draft.levels), lattice(draft.integrity)
    result = []
    for entry in draft.resources:
        if len(entry.kinds) != 1 or entry.kinds[0][1] is None:
            continue
        kind = ResourceKind(entry.kinds[0][0].text)
        try:
            pattern = resources.canonical(kind, entry.kinds[0][1].text)
        except ValueError:
            continue
        inline, label = entry.inline, entry.label
        key: Hashable = label.text if label is not None else (
            frozenset(ref.text for ref in inline.coalitions), level_range(levels, inline.level),
            level_range(integrity, inline.integrity), inline.inaccessible is not None,
        )
        result.append((entry, kind, pattern, key))
    return result


def one_resource_has_one_label(case: Case) -> Iterator[Finding]:
    """Where precedence does not decide, entries for one resource carry one label."""
    entries = _entries(case)
    told = set()
    try:
        for index, other in resources.conflicts([entry[1:] for entry in entries]):
            if index in told:
                continue
            told.add(index)
            (late, kind, pattern, _), (early, _, before, _) = entries[index], entries[other]
            same = pattern == before
            yield error(
                Id.RESOURCE_CONFLICT, _name(late).span,
                f"the {kind} {show(pattern)} has another label in line {early.span.line}" if same
                else f"{show(pattern)} and {show(before)} (line {early.span.line}) can name the "
                f"same {kind}, and their labels differ",
                "delete one of the two" if same
                else "make one of them narrower, give both one label, or name the resource itself",
            )
    except resources.TooManyPatterns as problem:
        entry, kind, _, _ = entries[problem.index]
        yield error(
            Id.RESOURCE_TOO_MANY, _name(entry).span,
            f"the {kind} patterns are too many, or too complicated, to compare each with each",
            f"use at most {resources.PATTERN_LIMIT}, and text before and after `*` instead of "
            "`?` and `[...]`; exact names are not limited",
        )


def _name(entry: DraftResource) -> Ref:
    value = entry.kinds[0][1]
    assert value is not None
    return value


def resources_are_named_once(case: Case) -> Iterator[Finding]:
    """A second entry for the same adds nothing."""
    first: dict[tuple[ResourceKind, str], DraftResource] = {}
    for entry, kind, pattern, _ in _entries(case):
        early = first.setdefault((kind, pattern), entry)
        if early is not entry:
            yield warning(
                Id.RESOURCE_DUPLICATE, _name(entry).span,
                f"the {kind} {show(pattern)} stands here a second time (first in line "
                f"{early.span.line})",
                "delete one of the two",
            )


def resource_labels_are_used(case: Case) -> Iterator[Finding]:
    """A label that no entry names labels nothing."""
    used = {entry.label.text for entry in case.draft.resources if entry.label is not None}
    for name, label in (case.draft.resource_labels or {}).items():
        if name not in used and name != UNLABELED_RESOURCE:
            yield warning(
                Id.RESOURCE_LABEL_UNUSED, label.name.span,
                f"no resource has the label {show(name)}",
                "name it under `resources`, or delete it",
            )


RULES: tuple[Rule, ...] = (
    resources_are_of_one_kind,
    resources_are_spelled,
    resources_have_one_label,
    resource_labels_are_declared,
    resource_coalitions_are_declared,
    inaccessible_says_it_all,
    one_resource_has_one_label,
)
ADVICE: tuple[Rule, ...] = (resources_are_named_once, resource_labels_are_used)

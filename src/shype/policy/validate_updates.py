"""Rules about what a policy replaces: its version, and what has been renamed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from shype.policy import grammar
from shype.policy.draft import Ref
from shype.policy.findings import Id, error, show
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding


def versions_grow(case: Case) -> Iterator[Finding]:
    """A policy replaces a lower version: a rollback is a new version too."""
    old, new = case.draft.replaces, case.draft.version
    if old is None or new is None:
        return
    if not (grammar.is_version(old.text) and grammar.is_version(new.text)):
        return  # the structure's findings say so
    if grammar.version_order(old.text) >= grammar.version_order(new.text):
        yield error(
            Id.POLICY_FROM, old.span,
            f"version {new.text} cannot replace version {old.text}: versions grow",
            "raise `version`, or name the version that this policy replaces",
        )


def renamed_things_have_one_name(case: Case) -> Iterator[Finding]:
    """What was renamed is gone under its old name, and became one thing."""
    draft = case.draft
    if draft.was is not None and draft.name is not None and draft.was.text == draft.name.text:
        yield error(
            Id.WAS_EXISTS, draft.was.span,
            f"the policy is still named {show(draft.was.text)}", "delete `was`",
        )
    coalitions = (draft.coalitions or {}).values()
    walls = (draft.walls or {}).values()
    yield from _renamed("coalition", [c.was for c in coalitions], draft.coalitions or {})
    yield from _renamed("conflict set", [w.was for w in walls], draft.walls or {})
    kept = draft.resource_labels or {}
    yield from _renamed("resource label", [label.was for label in kept.values()], kept)
    yield from _renamed("label", [label.was for label in draft.carried], case.vm_labels)


def _renamed(
    kind: str, claims: Iterable[Ref | None], present: Collection[str]
) -> Iterator[Finding]:
    first: dict[str, Ref] = {}
    for ref in claims:
        if ref is None:
            continue
        if ref.text in present:
            yield error(
                Id.WAS_EXISTS, ref.span,
                f"there still is a {kind} {show(ref.text)}, so nothing else was it",
                "delete `was`, or the old entry",
            )
        elif ref.text in first:
            yield error(
                Id.WAS_TWICE, ref.span,
                f"the {kind} {show(ref.text)} became two (first in line "
                f"{first[ref.text].span.line})",
                "delete one of the two `was`",
            )
        first.setdefault(ref.text, ref)


def retired_labels_are_gone(case: Case) -> Iterator[Finding]:
    """A tombstone stands for a label that the policy has no more, under any name."""
    renamed = {label.was.text: label.name for label in case.draft.carried if label.was is not None}
    present = {label.name.text: label.name for label in case.draft.carried}
    for ref in (tomb.name for tomb in case.draft.retired):
        if ref.text in present:
            yield error(
                Id.RETIRED_EXISTS, ref.span,
                f"{show(ref.text)} is still a label (line {present[ref.text].span.line})",
                "delete it here, or delete the label",
            )
        elif ref.text in renamed:
            yield error(
                Id.RETIRED_EXISTS, ref.span,
                f"{show(ref.text)} is now named {show(renamed[ref.text].text)} (line "
                f"{renamed[ref.text].span.line}), so that VMs keep it",
                "delete it here, or delete that `was`",
            )


RULES: tuple[Rule, ...] = (
    versions_grow,
    renamed_things_have_one_name,
    retired_labels_are_gone,
)

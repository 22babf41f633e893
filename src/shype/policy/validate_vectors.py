"""Rules about the configuration vectors of a static policy."""

from __future__ import annotations

from collections.abc import Iterator

from shype.policy import grammar
from shype.policy.findings import Id, error, show, warning
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding


def vectors_are_of_static_policies(case: Case) -> Iterator[Finding]:
    """Vectors say all that may change on a host, so that nothing else may: `static: true`."""
    first = next(iter(case.draft.vectors.values()), None)
    if first is not None and case.draft.static is None:
        yield error(
            Id.VECTOR_NOT_STATIC, first.name.span,
            "the policy has vectors and is not static, so that they would not bound what a host "
            "can become",
            "add `static: true`, or delete `vectors`",
        )


def vectors_are_few(case: Case) -> Iterator[Finding]:
    """There are at most as many vectors as somebody can evaluate one by one."""
    for entry in [*case.draft.vectors.values()][grammar.VECTOR_LIMIT:]:
        yield error(
            Id.VECTOR_TOO_MANY, entry.name.span,
            f"{show(entry.name.text)} is one vector more than the {grammar.VECTOR_LIMIT} that a "
            "policy can have",
            "delete some",
        )


def vectors_name_declared_labels(case: Case) -> Iterator[Finding]:
    """What may start in a vector is a label that a VM can carry."""
    if case.draft.labels is None:
        return
    dom0 = case.draft.dom0
    for entry in case.draft.vectors.values():
        yield from case.undeclared(
            entry.labels, case.vm_labels, Id.VECTOR_UNDECLARED_LABEL, "label", "labels"
        )
        for ref in entry.labels:
            if dom0 is not None and ref.text == dom0.text:
                yield error(
                    Id.VECTOR_DOM0, ref.span,
                    f"{show(ref.text)} is dom0's label: dom0 runs in every vector",
                    "delete it here",
                )


def every_label_starts_in_some_vector(case: Case) -> Iterator[Finding]:
    """A label that no vector has can never start on a host of this policy."""
    vectors, dom0 = case.draft.vectors.values(), case.draft.dom0
    if not vectors or any(entry.everything is not None for entry in vectors):
        return
    somewhere = {ref.text for entry in vectors for ref in entry.labels}
    for label in case.draft.carried:
        if label.name.text not in somewhere and (dom0 is None or label.name.text != dom0.text):
            yield warning(
                Id.VECTOR_UNUSED_LABEL, label.name.span,
                f"no vector has {show(label.name.text)}, so that no VM of it ever starts",
                "add it to a vector, or delete the label",
            )


RULES: tuple[Rule, ...] = (
    vectors_are_of_static_policies,
    vectors_are_few,
    vectors_name_declared_labels,
)
ADVICE: tuple[Rule, ...] = (every_label_starts_in_some_vector,)

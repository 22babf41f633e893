"""``from``: which label of the policy before has become which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shype.policy.acm.findings import Id, error
from shype.policy.acm.model import UNLABELED, Name
from shype.policy.acm.names import assign
from shype.policy.findings import show
from shype.policy.names import UNLABELED as UNLABELED_LABEL
from shype.policy.source import Finding


def renames(
    kind: str, labels: Sequence[tuple[Name, Name | None]], new: Mapping[str, str]
) -> tuple[dict[str, str], list[Finding]]:
    """For each of ``labels`` (name, name before) that was renamed: what to write as ``was``.

    ``new`` maps the labels' names.  The name before is mapped as if nothing had
    collided with it in the policy before, which is not at hand.
    """
    result: dict[str, str] = {}
    findings = []
    claimed: dict[str, str] = {}
    current = set(new.values())
    for name, before in labels:
        if before is None or before.text == name.text:
            continue
        if before.text == UNLABELED:
            was = str(UNLABELED_LABEL)
        else:
            was = assign([before.text], taken=[UNLABELED_LABEL])[before.text]
        if was == new[name.text]:
            continue  # only the spelling changed, in what shype does not spell
        problem = None
        if was in current:
            problem = f"{show(before.text)} is still a {kind}"
        elif was in claimed:
            problem = f"{show(claimed[was])} says the same"
        if problem is not None:
            findings.append(error(
                Id.FROM_NAME, before.span,
                f"the {kind} {show(name.text)} says that it was {show(before.text)}, but {problem};"
                " it is left out, as ACM's hypervisor and tools disagreed on what follows",
                "keep one `from` for each label that is gone",
            ))
            continue
        claimed[was] = name.text
        result[name.text] = was
    return result, findings



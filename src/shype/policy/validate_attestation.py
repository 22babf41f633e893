"""Rules about attested labels, and about whose word counts for them."""

from __future__ import annotations

from collections.abc import Iterator

from shype.policy import grammar
from shype.policy.findings import Id, error, show, warning
from shype.policy.model import LONGEST_RESULT, Lost
from shype.policy.names import UNLABELED
from shype.policy.rules import Case, Rule
from shype.policy.source import Finding


def somebody_attests(case: Case) -> Iterator[Finding]:
    """Where a label is attested, the policy says whose word counts."""
    if case.draft.attestation is not None:
        return
    for label in case.draft.carried:
        if label.attested is not None:
            yield error(
                Id.ATTESTED_NOBODY, label.attested.span,
                f"{show(label.name.text)} is attested, and the policy names no verifier, so that "
                "no host could ever run it",
                "add `attestation: {verifiers: {NAME: KEY}}`, or delete `attested`",
            )


def hosts_own_labels_are_not_attested(case: Case) -> Iterator[Finding]:
    """dom0 and the manager run before a host can be attested, and VMs without a label need a name.
    """
    own = {
        ref.text: what for ref, what in
        ((case.draft.dom0, "dom0's label"), (case.draft.manager, "the manager's label"))
        if ref is not None
    }
    own[UNLABELED] = "the label of VMs that have none"
    for label in case.draft.carried:
        if label.attested is not None and label.name.text in own:
            why = (
                "whoever wants evidence gives them a label" if label.name.text == UNLABELED
                else "it runs before there is evidence of its host"
            )
            yield error(
                Id.ATTESTED_HOST, label.attested.span,
                f"{show(label.name.text)} is {own[label.name.text]}, which cannot be attested: "
                f"{why}", "delete `attested` here",
            )


def verifiers_have_keys_of_their_own(case: Case) -> Iterator[Finding]:
    """Two names for one key would look like two who agree."""
    section = case.draft.attestation
    first: dict[str, str] = {}
    for name, key in section.verifiers if section is not None else ():
        if key.text in first:
            yield error(
                Id.VERIFIER_KEY, key.span,
                f"{show(name.text)} has the key of {show(first[key.text])}",
                "give its own key, or delete one of the two",
            )
        first.setdefault(key.text, name.text)


def evacuation_has_refuges(case: Case) -> Iterator[Finding]:
    """VMs are evacuated to somewhere, and only by `lost: evacuate`."""
    section = case.draft.attestation
    if section is None:
        return
    evacuates = section.lost is not None and section.lost.text == Lost.EVACUATE
    if evacuates and not section.refuges and section.lost is not None:
        yield error(
            Id.ATTESTATION_REFUGES, section.lost.span,
            "VMs would be evacuated, and there is no host to evacuate them to",
            "add `refuges: [HOST]`, or say `lost: pause`",
        )
    if section.refuges and not evacuates:
        yield error(
            Id.ATTESTATION_REFUGES, section.refuges[0].span,
            "refuges are where VMs are evacuated to, and nothing is evacuated here",
            "add `lost: evacuate`, or delete `refuges`",
        )


def results_live_as_long(case: Case) -> Iterator[Finding]:
    """To wait longer for a new result than any result holds promises what nobody keeps."""
    section = case.draft.attestation
    if section is None or section.fresh is None:
        return
    seconds = grammar.as_seconds(section.fresh.text)
    if seconds is not None and seconds > LONGEST_RESULT:
        yield warning(
            Id.ATTESTATION_FRESH, section.fresh.span,
            f"a verifier's result holds a day at most, and {show(section.fresh.text)} is longer, "
            "so that it means a day", "write `1 day` or less",
        )


def something_is_attested(case: Case) -> Iterator[Finding]:
    """A section that no label asks for does nothing."""
    section = case.draft.attestation
    if section is not None and all(label.attested is None for label in case.draft.carried):
        yield warning(
            Id.ATTESTATION_UNUSED, section.key.span,
            "no label is attested, so that nothing depends on what verifiers say",
            "add `attested: true` to labels, or delete the section",
        )


RULES: tuple[Rule, ...] = (
    somebody_attests,
    hosts_own_labels_are_not_attested,
    verifiers_have_keys_of_their_own,
    evacuation_has_refuges,
)
ADVICE: tuple[Rule, ...] = (something_is_attested, results_live_as_long)

"""Guards: each id, with its sentence and lines."""

from __future__ import annotations

from datetime import date

import pytest

from shype.decision.operation import Operation
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.names import LabelName

from .examples import read

TEXT = """\
shype: 1
policy: {name: guarded, version: "1.0"}
coalitions:
  ward: {}
  office: {}
  archive: {mechanisms: [disk]}
levels: {order: [low, mid, high]}
integrity: {order: [raw, checked]}
labels:
  host: {coalitions: all}
  nurse: {coalitions: [ward], level: mid, integrity: checked}
  chief: {coalitions: [ward], level: high, integrity: checked}
  probe: {coalitions: [ward], level: mid, integrity: raw}
  clerk: {coalitions: [office], level: low, integrity: checked}
  boss: {coalitions: [office], level: high, integrity: checked}
  silent: {coalitions: [ward], level: mid, integrity: checked, mechanisms: [grant]}
  both: {coalitions: [ward, office], level: mid, integrity: checked}
  archivist: {coalitions: [ward, archive], level: mid, integrity: checked}
  stranger: {level: mid, integrity: checked}
guards:
  release: {from: ward, to: office, level: [low, mid], integrity: checked, reason: letters}
  other: {from: office, to: ward, level: mid, integrity: checked, reason: orders}
  shelve: {from: ward, to: archive, level: mid, integrity: checked, reason: law}
  trial: {from: ward, to: office, level: [low, mid], integrity: checked,
          reason: a test, expires: "2030-06-01"}
host: {dom0: host}
"""
BEFORE, AFTER = date(2030, 5, 31), date(2030, 6, 1)
POLICY = read(TEXT)
SERVER = SecurityServer(POLICY, today=BEFORE)
LATE = SecurityServer(POLICY, today=AFTER)


#: Subject, object, and verdict with id for each operation asked.
TABLE = {
    # In: from a member of the source, whose level the guard's high end dominates.
    ("nurse", "release"): {
        "event.send": "+guard.passes", "grant.copy_to": "+guard.passes",
        "grant.map_read": "-guard.direction", "grant.map_write": "-guard.direction",
        "grant.copy_from": "-guard.direction", "argo.send": "+guard.passes",
        "disk.read": "-guard.direction", "disk.write": "-guard.direction",
        "network.send": "+guard.passes", "foreign.map": "-host.only",
    },
    ("release", "nurse"): {
        "event.send": "-guard.direction", "grant.map_read": "+guard.passes",
        "grant.copy_from": "+guard.passes", "grant.copy_to": "-guard.direction",
        "grant.map_write": "-guard.direction", "argo.send": "-guard.direction",
        "disk.read": "+guard.passes", "control.domain": "-host.only",
    },
    # Out: to members of the sink, whose level dominates the guard's low end.
    ("release", "clerk"): {"event.send": "+guard.passes", "argo.send": "+guard.passes",
                           "grant.copy_to": "+guard.passes", "grant.map_read": "-guard.direction"},
    ("clerk", "release"): {"event.send": "-guard.direction", "grant.map_read": "+guard.passes",
                           "argo.send": "-guard.direction"},
    ("release", "boss"): {"argo.send": "+guard.passes"},  # up needs no write-up at a guard
    # Levels: what comes in is above the range, or goes out below it.
    ("chief", "release"): {"argo.send": "-mls.write-down", "event.send": "-mls.write-down"},
    ("release", "chief"): {"grant.map_read": "-mls.read-up"},
    ("other", "clerk"): {"disk.read": "+guard.passes", "argo.send": "-guard.direction"},
    ("shelve", "probe"): {"grant.map_read": "-biba.read-down"},
    ("probe", "release"): {"argo.send": "-biba.write-up"},
    # Two ways: only for a member of both coalitions, at one level with the guard.
    ("both", "release"): {"grant.map_write": "+guard.passes", "disk.write": "+guard.passes"},
    # Mechanisms.
    ("silent", "release"): {"event.send": "-mechanism.off", "grant.copy_to": "+guard.passes"},
    ("shelve", "archivist"): {"argo.send": "-mechanism.closed", "disk.read": "+guard.passes",
                              "disk.write": "+guard.passes"},
    # Who has nothing to do with it, and guards among themselves.
    ("stranger", "release"): {"argo.send": "-ste.disjoint", "grant.map_read": "-ste.disjoint"},
    ("release", "other"): {"argo.send": "-guard.chain", "grant.map_read": "-guard.chain"},
    ("release", "release"): {"event.send": "-guard.chain"},
    ("host", "release"): {"control.domain": "+auth.dom0", "grant.map_read": "+auth.dom0"},
}


@pytest.mark.parametrize(("pair", "expected"), TABLE.items(), ids=lambda value: str(value)[:40])
def test_who_passes_what(pair: tuple[str, str], expected: dict[str, str]) -> None:
    found = {
        operation: f"{'+' if decision.permitted else '-'}{decision.id}"
        for operation in expected
        for decision in [
            SERVER.decide(LabelName(pair[0]), LabelName(pair[1]), Operation(operation))
        ]
    }
    assert found == expected


def ask(subject: str, object: str, operation: Operation) -> tuple[str, list[int]]:
    """The sentence, and the lines it follows from."""
    decision = SERVER.decide(LabelName(subject), LabelName(object), operation)
    return decision.sentence, [span.line for span in decision.rules]


def test_a_passage_names_the_guard_its_coalitions_and_its_reason() -> None:
    sentence, lines = ask("nurse", "release", Operation.ARGO_SEND)
    assert "release passes information from ward to office (letters)" in sentence
    assert lines == [21, 11, 4, 5]


def test_a_refusal_against_the_direction_says_which_it_is() -> None:
    sentence, lines = ask("clerk", "release", Operation.ARGO_SEND)
    assert sentence.endswith("the guard release passes information from ward to office only.")
    assert lines == [21, 14]


def test_a_two_way_refusal_does_not_claim_a_direction() -> None:
    """A guard that would also learn from a higher peer by a writable mapping writes nothing down.

    Found by the reference model: it was called ``mls.write-down``.
    """
    up = SecurityServer(read(
        TEXT.replace("to: office, level: [low, mid]", "to: office, level: low")
    ))
    decision = up.decide(LabelName("release"), LabelName("both"), Operation.MAP_WRITE)
    assert (decision.permitted, decision.id) == (False, "mls.not-equal")
    assert "two-way" in decision.sentence
    assert up.decide(LabelName("both"), LabelName("release"), Operation.DISK_WRITE).id == (
        "mls.not-equal")


def test_a_closed_mechanism_is_put_on_the_coalition_that_closes_it() -> None:
    """Found by the reference model: the sentence named the guard's other coalition too."""
    sentence, lines = ask("shelve", "archivist", Operation.ARGO_SEND)
    assert sentence.endswith("they share the coalition archive, which opens no argo.")
    assert lines == [23, 18, 6]


def test_an_expired_guard_neither_starts_nor_passes() -> None:
    trial, nurse = LabelName("trial"), LabelName("nurse")
    for server, id in ((SERVER, "guard.passes"), (LATE, "guard.expired")):
        assert server.decide(nurse, trial, Operation.ARGO_SEND).id == id
        assert server.decide(trial, nurse, Operation.MAP_READ).id == id
    running = [Running(1, "ward-1", nurse)]
    assert SERVER.launch(trial, running).id == "wall.free"
    denied = LATE.launch(trial, running)
    assert (denied.permitted, denied.id) == (False, "guard.expired")
    assert "expired on 2030-06-01" in denied.sentence
    assert [span.line for span in denied.rules] == [24]
    assert SecurityServer(POLICY).launch(trial, []).permitted, "no date: nothing expires"
    assert LATE.decide(LabelName("host"), trial, Operation.CONTROL).permitted, "dom0 can end it"


def test_a_guard_runs_only_where_dom0_has_both_its_coalitions() -> None:
    text = TEXT.replace("host: {coalitions: all}", "host: {coalitions: [ward]}")
    server = SecurityServer(read(text))
    denied = server.launch(LabelName("release"), [])
    assert (denied.permitted, denied.id) == (False, "auth.not-authorized")
    assert "office" in denied.sentence

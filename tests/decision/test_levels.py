"""Levels and integrity: each id, with its sentence and lines."""

from __future__ import annotations

import pytest

from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.names import LabelName

from .examples import read

TEXT = """\
shype: 1
policy: {name: levels, version: "1.0"}
coalitions:
  work: {}
  blind: {write-up: true, mechanisms: [argo, grant]}
levels: {order: [low, high], categories: [c, d]}
integrity: {order: [raw, clean]}
labels:
  host: {coalitions: all}
  lo: {coalitions: [work], level: low, integrity: clean}
  lo-c: {coalitions: [work], level: "low {c}", integrity: clean}
  lo-d: {coalitions: [work], level: "low {d}", integrity: clean}
  hi: {coalitions: [work, blind], level: high, integrity: clean}
  hi-c: {coalitions: [work], level: "high {c}", integrity: clean}
  raw: {coalitions: [work], level: low, integrity: raw}
  sender: {coalitions: [work, blind], level: low, integrity: clean}
  net: {coalitions: all, level: [low, "high {all}"], integrity: clean}
host: {dom0: host, drivers: [net]}
"""
SERVER = SecurityServer(read(TEXT))
TWO_WAY = (Operation.EVENT_SEND, Operation.MAP_WRITE, Operation.DISK_WRITE)
READS = (Operation.MAP_READ, Operation.DISK_READ)
PUSHES = (Operation.COPY_TO, Operation.ARGO_SEND, Operation.NETWORK_SEND)
PULLED_COPY = (Operation.COPY_FROM,)

#: What two-way operations, reads, pushes and copies from the object get.
TABLE = {
    ("lo", "lo"): "+ste.shared +ste.shared +ste.shared +ste.shared",
    ("lo", "hi"): "-mls.not-equal -mls.read-up -mls.write-up -mls.read-up",
    ("hi", "lo"): "-mls.not-equal +ste.shared -mls.write-down -mls.write-up",
    ("lo", "lo-c"): "-mls.not-equal -mls.read-up -mls.write-up -mls.read-up",
    ("lo-c", "hi"): "-mls.not-equal -mls.read-up -mls.write-down -mls.read-up",
    ("lo-c", "lo-d"): "-mls.not-equal -mls.read-up -mls.write-down -mls.read-up",
    ("hi-c", "lo-c"): "-mls.not-equal +ste.shared -mls.write-down -mls.write-up",
    ("raw", "lo"): "-biba.not-equal +ste.shared -biba.write-up -biba.write-down",
    ("lo", "raw"): "-biba.not-equal -biba.read-down -biba.write-down -biba.read-down",
    ("hi", "raw"): "-mls.not-equal -biba.read-down -mls.write-down -biba.read-down",
    ("net", "lo"): "+ste.shared +ste.shared +ste.shared +ste.shared",
    ("lo-c", "net"): "+ste.shared +ste.shared +ste.shared +ste.shared",
    ("host", "hi-c"): "+auth.dom0 +auth.dom0 +auth.dom0,-host.no-argo +auth.dom0",
}


def told(subject: str, object: str, operations: tuple[Operation, ...]) -> str:
    """The ids, one if they agree."""
    found = []
    for operation in operations:
        decision = SERVER.decide(LabelName(subject), LabelName(object), operation)
        found.append(f"{'+' if decision.permitted else '-'}{decision.id}")
    return ",".join(dict.fromkeys(found))


@pytest.mark.parametrize("pair", TABLE, ids="-".join)
def test_directions(pair: tuple[str, str]) -> None:
    groups = (TWO_WAY, READS, PUSHES, PULLED_COPY)
    assert " ".join(told(*pair, group) for group in groups) == TABLE[pair]


def test_a_blind_write_up_where_a_coalition_opens_it() -> None:
    assert told("sender", "hi", (Operation.ARGO_SEND, Operation.COPY_TO)) == "+ste.shared"
    assert told("hi", "sender", (Operation.COPY_FROM,)) == "+ste.shared"
    # `blind` opens no network, and `work` no writing up.
    assert told("sender", "hi", (Operation.NETWORK_SEND,)) == "-mls.write-up"
    assert told("sender", "hi", TWO_WAY) == "-mls.not-equal"
    assert told("hi", "sender", (Operation.ARGO_SEND,)) == "-mls.write-down"


@pytest.mark.parametrize(("subject", "object", "operation", "words", "lines"), [
    ("lo", "hi", Operation.MAP_READ, "reading up (lo: low, integrity clean; hi: high, integrity",
     [10, 13, 6, 7]),
    ("hi", "lo", Operation.ARGO_SEND, "writing down (hi: high, integrity", [13, 10, 6, 7]),
    ("lo", "hi", Operation.MAP_WRITE, "a two-way exchange, which needs equal levels",
     [10, 13, 6, 7]),
    ("lo", "hi", Operation.ARGO_SEND, "lets VMs write to higher levels", [10, 13, 4, 6, 7]),
    ("hi", "lo", Operation.COPY_FROM, "cannot tell this copy from such a write",
     [13, 10, 4, 6, 7]),
    ("lo", "raw", Operation.MAP_READ, "reading from a lower integrity", [10, 15, 6, 7]),
    ("raw", "lo", Operation.ARGO_SEND, "writing to a higher integrity", [15, 10, 6, 7]),
    ("net", "hi-c", Operation.MAP_READ, "low to high {c, d}", [17, 14, 4, 6, 7]),
])
def test_sentences_and_lines(
    subject: str, object: str, operation: Operation, words: str, lines: list[int]
) -> None:
    decision = SERVER.decide(LabelName(subject), LabelName(object), operation)
    assert words in decision.sentence
    assert [span.line for span in decision.rules] == lines

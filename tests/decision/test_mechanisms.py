"""Switches of mechanisms, and labels that are retired: each id, with its sentence and lines."""

from __future__ import annotations

import pytest

from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.mechanism import SWITCHABLE
from shype.policy.names import LabelName

from .examples import read

TEXT = """\
shype: 1
policy: {name: switches, version: "1.0"}
coalitions:
  open: {}
  feed: {mechanisms: [event, network]}
  store: {mechanisms: [disk]}
  shut: {mechanisms: []}
  tree: {mechanisms: [xenstore]}
labels:
  host: {coalitions: all}
  a: {coalitions: [feed]}
  b: {coalitions: [feed, store]}
  c: {coalitions: [store, feed], mechanisms: [disk]}
  d: {coalitions: [open, feed]}
  e: {coalitions: [open], mechanisms: []}
  f: {coalitions: [shut]}
  g: {coalitions: [tree]}
  h: {coalitions: [tree], mechanisms: [event]}
host: {dom0: host}
retired: [old]
"""
SERVER = SecurityServer(read(TEXT))
ONE_OF_EACH = {
    "event": Operation.EVENT_SEND, "grant": Operation.MAP_WRITE, "argo": Operation.ARGO_SEND,
    "disk": Operation.DISK_WRITE, "network": Operation.NETWORK_SEND,
    "xenstore": Operation.STORE_READ,
}

#: The mechanisms that two labels can use, and the id for all others.
TABLE = {
    ("a", "a"): ("event network", "mechanism.closed"),
    ("a", "b"): ("event network", "mechanism.closed"),
    ("b", "b"): ("event network disk", "mechanism.closed"),
    ("d", "d"): ("event grant argo disk network", "mechanism.closed"),
    ("a", "d"): ("event network", "mechanism.closed"),
    ("c", "c"): ("disk", "mechanism.closed mechanism.off"),
    ("b", "c"): ("disk", "mechanism.closed mechanism.off"),
    ("a", "c"): ("", "mechanism.closed mechanism.off"),
    ("d", "e"): ("", "mechanism.closed mechanism.off"),
    ("e", "e"): ("", "mechanism.closed mechanism.off"),
    ("f", "f"): ("", "mechanism.closed"),
    ("g", "g"): ("xenstore", "mechanism.closed"),
    ("g", "h"): ("", "mechanism.closed mechanism.off"),
    ("f", "a"): ("", "ste.disjoint"),
    ("old", "a"): ("", "label.retired"),
    ("a", "old"): ("", "label.retired"),
    ("old", "old"): ("", "label.retired"),
    ("host", "old"): ("", "label.retired"),
}


@pytest.mark.parametrize("pair", TABLE, ids="-".join)
def test_what_is_open(pair: tuple[str, str]) -> None:
    assert {*ONE_OF_EACH} == {*SWITCHABLE}
    opened, refused = TABLE[pair]
    for back in (pair, pair[::-1]):
        found = {
            mechanism: SERVER.decide(LabelName(back[0]), LabelName(back[1]), operation)
            for mechanism, operation in ONE_OF_EACH.items()
        }
        assert {m for m, decision in found.items() if decision.permitted} == {*opened.split()}
        denied = {str(decision.id) for decision in found.values() if not decision.permitted}
        assert denied == {*refused.split()}


@pytest.mark.parametrize(("subject", "object", "operation", "words", "lines"), [
    ("a", "b", Operation.ARGO_SEND, "they share the coalition feed, which opens no argo",
     [11, 12, 5]),
    ("b", "b", Operation.MAP_READ, "they share the coalitions feed and store, which open no grant",
     [12, 5, 6]),
    ("a", "c", Operation.EVENT_SEND, "event is switched off for c", [11, 13]),
    ("e", "e", Operation.COPY_TO, "grant is switched off for e", [15]),
    ("a", "b", Operation.EVENT_SEND, "they share the coalition feed", [11, 12, 5]),
    ("old", "a", Operation.EVENT_SEND, "the label old is retired", [20]),
])
def test_sentences_and_lines(
    subject: str, object: str, operation: Operation, words: str, lines: list[int]
) -> None:
    decision = SERVER.decide(LabelName(subject), LabelName(object), operation)
    assert words in decision.sentence
    assert [span.line for span in decision.rules] == lines


def test_nobody_starts_with_a_retired_label() -> None:
    for decision in (SERVER.launch(LabelName("old"), []), SERVER.authorize(LabelName("old"))):
        assert (decision.permitted, decision.id) == (False, "label.retired")
        assert [span.line for span in decision.rules] == [20]

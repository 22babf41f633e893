"""Hostile files are refused at once and in little memory; nothing but our own errors comes out."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.base.errors import BadInput
from shype.policy.acm import xml
from shype.policy.acm.errors import AcmUnreadable
from shype.policy.acm.importer import import_documents, import_files
from tests.policy.acm.spoiled import GOOD

_BOMB = "<!DOCTYPE a [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 12)
) + "]><a>&a11;</a>"

ATTACKS = {
    "external entity": ("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
                        "acm.doctype"),
    "external subset": ("<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/x.dtd'><a/>", "acm.doctype"),
    "parameter entity": ("<!DOCTYPE a [<!ENTITY % x SYSTEM 'file:///dev/zero'> %x;]><a/>",
                         "acm.doctype"),
    "entities that expand": (_BOMB, "acm.doctype"),
    "harmless document type": ("<!DOCTYPE a><a/>", "acm.doctype"),
    "undefined entity": ("<a>&x;</a>", "acm.xml"),
    "depth": ("<a>" * 500_000, "acm.limit"),
    "elements": ("<r>" + "<a/>" * 900_000, "acm.limit"),
    "attributes": ("<r " + " ".join(f"a{i}='>'" for i in range(300_000)) + "/>", "acm.limit"),
    "some attributes": ("<r " + " ".join(f"a{i}=''" for i in range(40)) + "/>", "acm.limit"),
    "namespaces": ("<r " + " ".join(f"xmlns:a{i}='u'" for i in range(200_000)) + "/>", "acm.limit"),
    "a long name": (f"<{'r' * 4_000_000}/>", "acm.limit"),
    "a long value": (f"<r a='{'x' * 4_000_000}'/>", "acm.limit"),
    "a long text": (f"<r>{'x' * 4_000_000}</r>", "acm.limit"),
    "a long comment": (f"<r><!--{'x' * 4_000_000}--></r>", "acm.limit"),
    "brackets": ("<" * 4_000_000, "acm.xml"),
    "size": (" " * (xml.SIZE_LIMIT + 1), "acm.too-large"),
    "codec": ("<?xml version='1.0' encoding='zlib'?><a/>", "acm.encoding"),
    "no XML": ("shype: 1\n", "acm.xml"),
    "nothing": ("", "acm.xml"),
    "zeros": ("\0" * 100_000, "acm.xml"),
    "wrong encoding": ("<?xml version='1.0' encoding='UTF-16'?><a/>", "acm.xml"),
    "another document": ("<html xmlns='http://www.w3.org/1999/xhtml'/>", "acm.root"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_refused_quickly(attack: str) -> None:
    text, id = ATTACKS[attack]
    data, start = text.encode(), time.process_time()
    with pytest.raises(AcmUnreadable) as caught:
        import_documents([(data, "evil.xml")])
    assert caught.value.id == id
    assert caught.value.span.file == "evil.xml"
    assert time.process_time() - start < 5, "seconds; alone it takes one at most"


def test_memory_stays_bounded() -> None:
    """The largest trees that the limits allow."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in (
        "<SecurityPolicyDefinition>" + "<a b='c'>d</a>" * (xml.ELEMENT_LIMIT - 1)
        + "</SecurityPolicyDefinition>",
    ):
        with pytest.raises(AcmUnreadable):
            import_documents([(text.encode(), "evil.xml")])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, "KiB"


def test_a_file_of_50_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "big.xml"
    with path.open("wb") as file:
        file.truncate(50 * 1024 * 1024)
    with pytest.raises(AcmUnreadable) as caught:
        import_files([path])
    assert caught.value.id == "acm.too-large"


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(AcmUnreadable) as caught:
            import_files([path])
        assert caught.value.id == "acm.file"


_PATIENT = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)


@given(st.binary(max_size=300))
@_PATIENT
def test_any_bytes_give_a_policy_or_our_error(data: bytes) -> None:
    with pytest.raises(BadInput):
        import_documents([(data, "x")])


_PIECES = GOOD.replace("<", "\0<").split("\0")


@given(st.lists(st.tuples(
    st.integers(0, len(_PIECES) - 1),
    st.one_of(st.sampled_from(_PIECES), st.text("<>&;/='\" aZ_-\n", max_size=6), st.just("")),
), min_size=1, max_size=5))
@_PATIENT
def test_a_policy_with_mistakes_gives_a_policy_or_our_error(changes: list[tuple[int, str]]) -> None:
    pieces = list(_PIECES)
    for index, piece in changes:
        pieces[index] = piece
    try:
        done = import_documents([("".join(pieces).encode(), "x")])
    except BadInput as refusal:
        assert refusal.id.startswith("acm.")  # noqa: PT017
        return
    assert done.policy.labels

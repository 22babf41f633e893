"""AVC lines as Xen prints them, and as a damaged ring gives them back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.host.avc import AvcDenial, parse

CREATE = (
    "(XEN) avc:  denied  { create } for current=d0 scontext=u:r:dom0_t:s0 "
    "tcontext=u:r:l_bank_b_db_t:s0 tclass=domain"
)


@pytest.mark.parametrize(("line", "expected"), [
    (CREATE, AvcDenial(
        CREATE, ("create",), "u:r:dom0_t:s0", "u:r:l_bank_b_db_t:s0", "domain", source=0)),
    ("avc: denied { map_read map_write } for source=d3 target=d1 scontext=u:r:l_a_t "
     "tcontext=u:r:l_b_t tclass=grant", AvcDenial(
        "", ("map_read", "map_write"), "u:r:l_a_t", "u:r:l_b_t", "grant", source=3, target=1)),
    ("(XEN) [2026-11-23 10:00:00.123] avc:  denied  { use_noiommu } for current=d0 "
     "range=0x2f8-0x2ff scontext=u:r:l_b1_t tcontext=u:r:com2_t tclass=resource", AvcDenial(
        "", ("use_noiommu",), "u:r:l_b1_t", "u:r:com2_t", "resource", source=0,
        details={"range": "0x2f8-0x2ff"})),
    ("avc:  denied  { create } for source=d2v1 target=d12 scontext=u:r:a_t:s0:c0.c2 "
     "tcontext=u:object_r:b_t:s0 tclass=event", AvcDenial(
        "", ("create",), "u:r:a_t:s0:c0.c2", "u:object_r:b_t:s0", "event", source=2, target=12)),
    ("avc:  denied  { map_write } for source=d3 target=d1 scontext=u:r:l_a_t:s1:c0,c3,c5.c8 "
     "tcontext=u:r:l_b_t:s0-s2:c0.c12 tclass=grant", AvcDenial(
        "", ("map_write",), "u:r:l_a_t:s1:c0,c3,c5.c8", "u:r:l_b_t:s0-s2:c0.c12", "grant",
        source=3, target=1)),
    ("avc:  denied  { 0x80000000 } for domid=5 ssid=17 tcontext=u:r:b_t:s0 tclass=hvm", AvcDenial(
        "", ("0x80000000",), "", "u:r:b_t:s0", "hvm", source=5, details={"ssid": "17"})),
    ("avc:  denied  { cr", AvcDenial("")),
    ("avc: denied", AvcDenial("")),
    ("avc: denied { } for current=dXYZ scontext=:: tclass=", AvcDenial("", (), "::")),
])
def test_lines(line: str, expected: AvcDenial) -> None:
    found = parse(line)
    assert found is not None
    assert found.raw == line
    for name in ("permissions", "source_context", "target_context", "tclass", "source", "target"):
        assert getattr(found, name) == getattr(expected, name), name
    assert dict(found.details) == dict(expected.details)


@pytest.mark.parametrize(("line", "garbled"), [
    (CREATE, False), (CREATE[:-20], True), (CREATE.replace("{ create }", ""), True),
    (CREATE.replace("u:r:dom0_t:s0", "?"), True),
])
def test_garbled(line: str, garbled: bool) -> None:
    found = parse(line)
    assert found is not None
    assert found.garbled is garbled


@pytest.mark.parametrize("line", [
    "", "(XEN) Xen version 4.17.5",
    # What a guest prints itself (port 0xe9, where guest_loglvl lets it) has its own prefix.
    f"(d3) {CREATE}", "(d3) avc:  denied  { create } for current=d0", f"(XEN) d3v0 {CREATE[6:]}",
    f"(d3) [2026-11-23 10:00:00.123] {CREATE[6:]}",
    "avc:  granted  { setenforce } for current=d0", "denied",
])
def test_other_lines_are_no_denials(line: str) -> None:
    assert parse(line) is None


@given(st.text(max_size=200), st.integers(0, len(CREATE)), st.integers(0, len(CREATE)))
def test_nothing_crashes_it(noise: str, start: int, end: int) -> None:
    for line in (noise, f"avc: denied {noise}", CREATE[:start] + noise + CREATE[end:]):
        found = parse(line)
        if found is not None:
            assert isinstance(found.garbled, bool)


def test_a_line_without_end_is_cut() -> None:
    found = parse("avc: denied " + "{ x " * 10**6)
    assert found is not None
    assert found.garbled

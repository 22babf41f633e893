"""The hypervisor's print of its grant tables, as Xen 4.17 writes it, whole and spoiled."""

from __future__ import annotations

import pytest

from shype.host.mapped import Mapped, Mapping, parse

#: `xl debug-keys g` on the lab's Xen: domain 1 maps a page of domain 2 for reading.
PRINT = """\
(XEN) gnttab_usage_print_all [ key 'g' pressed
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d0 (v1)
(XEN)   1 frames (64 max), 1 maptrack frames (1024 max)
(XEN) no active grant table entries
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d1 (v1)
(XEN)   1 frames (64 max), 1 maptrack frames (1024 max)
(XEN) [0x000]      0 0x79802 0x00000002          0 0x079802 0x19
(XEN) [0x001]      0 0x79801 0x00000002          0 0x079801 0x19
(XEN)       -------- active --------       -------- shared --------
(XEN) [ref] localdom mfn      pin          localdom gmfn     flags
(XEN) grant-table for remote d2 (v1)
(XEN)   1 frames (64 max), 0 maptrack frames (1024 max)
(XEN) [0x008]      1 0x64dc8 0x00000100          1 0x064dc8 0x09
(XEN) gnttab_usage_print_all ] done
"""
FOUND = (Mapping(0, 1, write=True), Mapping(1, 2, write=False))
LINE = "(XEN) [0x008]      1 0x64dc8 0x00000100          1 0x064dc8 0x09\n"


def test_who_maps_whose_pages() -> None:
    assert parse(PRINT) == Mapped(FOUND, complete=True)


def test_a_later_print_counts() -> None:
    assert parse(PRINT.replace(LINE, "") + PRINT) == Mapped(FOUND, complete=True)
    assert parse("(XEN) something before\n" + PRINT + "(XEN) something after\n").complete


def test_times_do_not_matter() -> None:
    stamped = PRINT.replace("(XEN) ", "(XEN) [2026-11-29 08:51:43] ")
    assert parse(stamped) == Mapped(FOUND, complete=True)


@pytest.mark.parametrize("pin", ["0x00000001", "0x00010000", "0x00010100"])
def test_a_page_that_is_mapped_writable_is_so(pin: str) -> None:
    assert Mapping(1, 2, write=True) in parse(PRINT.replace("0x00000100", pin)).found


@pytest.mark.parametrize("spoiled", [
    "", PRINT[:-30], PRINT[PRINT.index("\n") + 1:],
    PRINT.replace(LINE, LINE.replace("0x00000100", "0x0000")),
    PRINT.replace(LINE, LINE + "(XEN) d2: something new\n"),
    PRINT.replace("(XEN) [0x008]", "(XEN) [0x0\n(XEN) 08]"),
], ids=["none", "no end", "no begin", "another form", "a strange line", "torn"])
def test_what_is_not_whole_is_told_as_such(spoiled: str) -> None:
    assert not parse(spoiled).complete


def test_what_a_guest_gets_printed_is_no_line_of_xens() -> None:
    forged = "(d2) gnttab_usage_print_all ] done\n(d2) (XEN) grant-table for remote d1 (v1)\n"
    assert parse(PRINT.replace(LINE, forged + LINE)) == Mapped(FOUND, complete=True)
    assert parse(PRINT.replace("(XEN) gnttab_usage_print_all ] done\n", forged)).complete is False


def test_a_denial_on_another_processor_is_no_part_of_it() -> None:
    denial = ("(XEN) avc:  denied  { map_read } for source=d1 target=d2 scontext=u:r:l_a_t:s0 "
              "tcontext=u:r:l_b_t:s0 tclass=grant\n")
    assert parse(PRINT.replace(LINE, denial + LINE)) == Mapped(FOUND, complete=True)

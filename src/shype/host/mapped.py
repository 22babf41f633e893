"""Who maps whose pages, as the hypervisor prints its grant tables.

A page that is mapped was checked when it was mapped, and stays so through a reload of the
policy.  Xen 4.17 has no call that tells who maps what; its debug key ``g`` prints every grant
that is in use (gnttab_usage_print() in xen/common/grant_table.c), to the console ring.
What a guest gets printed there (an HVM guest's debug port) begins with its domain's number and
holds no line break (hvm_print_line()), so no guest can forge a line.  A print that did not fit
into the ring, or into which the hypervisor wrote something else, is not complete, and is told so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The first and last line of the print: handle_keypress() and gnttab_usage_print_all().
_BEGIN = re.compile(r"gnttab_usage_print_all \[ key '.' pressed")
_END = "gnttab_usage_print_all ] done"
#: Before each domain's grants.
_TABLE = re.compile(r"grant-table for remote d(\d+) \(v\d\)")
#: ref, domain that uses it, frame, pins; then the shared entry: domain, frame, flags.
_GRANT = re.compile(
    r"\[0x[0-9a-f]+\] +(\d+) 0x[0-9a-f]+ 0x([0-9a-f]{8}) +\d+ 0x[0-9a-f]+ 0x[0-9a-f]+")
#: What else belongs to the print, and what another processor may print meanwhile.
_REST = re.compile(
    r"-------- active --------.*|\[ref\] .*|no active grant table entries"
    r"|\d+ frames \(\d+ max\), \d+ maptrack frames \(\d+ max\)|avc: .*|")
#: Pins for writing: GNTPIN_hstw and GNTPIN_devw in xen/common/grant_table.c.
_WRITES = 0x00FF00FF
#: Xen's own lines, with or without a time (console_timestamps=).
_OWN = re.compile(r"\(XEN\) (?:\[[ \d.:-]+\] )?")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Domain ``by`` has pages of domain ``of`` mapped; ``write``: some of them writable."""

    by: int
    of: int
    write: bool


@dataclass(frozen=True, slots=True)
class Mapped:
    """What is mapped, by (``by``, ``of``). Unless ``complete``, there may be more."""

    found: tuple[Mapping, ...]
    complete: bool


def parse(text: str) -> Mapped:
    """What the console says between the key and the end of its print."""
    found: dict[tuple[int, int], bool] = {}
    begun, ended, strange, of = False, False, False, None
    for raw in text.splitlines():
        own = _OWN.match(raw)
        if own is None:
            continue  # a guest's
        line = raw[own.end():].strip()
        if _BEGIN.fullmatch(line):
            begun, ended, strange, of, found = True, False, False, None, {}
        elif not begun or ended:
            continue
        elif line == _END:
            ended = True
        elif (table := _TABLE.fullmatch(line)) is not None:
            of = int(table[1])
        elif (grant := _GRANT.fullmatch(line)) is not None and of is not None:
            pair = int(grant[1]), of
            found[pair] = found.get(pair, False) or bool(int(grant[2], 16) & _WRITES)
        elif not _REST.fullmatch(line):
            strange = True
    listed = tuple(Mapping(by, of, write) for (by, of), write in sorted(found.items()))
    return Mapped(listed, begun and ended and not strange)

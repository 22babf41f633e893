"""What grant copies carry beside what is checked.

GNTTABOP_copy asks for the owner of the source and the owner of the destination, as the
two domains that the call names.  Two things follow (xen/common/grant_table.c):

- Who issues the copy is not asked for (gnttab_copy_lock_domains()). A domain to which two
  others granted a page chooses what goes from one to the other, and when.
- A transitive grant leads on to a page of a third domain, and that one is not asked for
  either (acquire_grant_for_copy(); the boot option gnttab=no-transitive forbids them).

So with the help of others information can get from any domain to each that somebody may
copy to, and to any domain from each that may copy to somebody; a domain that may copy to
itself is one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from shype.base import bits
from shype.compile.flask.analyze.parts import Parts


def ends(copies: Mapping[int, int], parts: Parts) -> tuple[int, int]:
    """(Domains that may copy to somebody, domains that somebody may copy to), by ``copies``.

    ``copies``: who may use `grant copy` on what, with the types that domains see. That
    somebody must help, which the hubs are trusted not to do.
    """
    senders = receivers = 0
    for subject, targets in copies.items():
        if not parts.domains >> subject & 1:
            continue
        found = parts.objects(subject, targets) & parts.domains
        if targets >> parts.itself(subject) & 1:
            found |= 1 << subject
        if found & ~parts.hubs:
            senders |= 1 << subject
        if not parts.hubs >> subject & 1:
            receivers |= found
    return senders, receivers


def rows(copies: Mapping[int, int], parts: Parts) -> list[int]:
    """By type, the domains that information gets to so."""
    senders, receivers = ends(copies, parts)
    found = [0] * len(parts.names.types)
    if senders | receivers:
        for domain in bits.each(parts.domains):
            found[domain] = parts.domains if senders >> domain & 1 else receivers
    return found

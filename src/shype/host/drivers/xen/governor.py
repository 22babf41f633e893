"""Xen's credit2 scheduler by xl, and Linux' traffic control by tc.

Towards the guest a token bucket (tbf) delays, from the guest a policer drops: what a guest sends
is already there when dom0 sees it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from shype.base import child
from shype.base.errors import Unavailable
from shype.host.governor import Share

_LIMIT = 60
#: ``xl sched-credit2``: name, domid, weight, cap. Read from the right: names may have blanks.
_ROW = re.compile(r".*?\s(?P<id>\d+)\s+(?P<weight>\d+)\s+(?P<cap>\d+)\s*")
_POLICE = re.compile(r"\bpolice\b.*?\brate (\d+)([KMGT]?)bit\b", re.DOTALL)
_UNIT = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
#: Of both: 50 ms of the rate, and at least two of the largest packets (GSO) of 64 KiB. The policer
#: must be told that packets can be so long: by default it drops what is longer than 2 KiB.
_BURST_SECONDS = 0.05
_LEAST_BURST = 128 * 1024


class XenGovernor:
    """Implements `shype.host.governor.Governor`."""

    def share(self, domid: int) -> Share | None:
        """See the protocol. Of one domain: a list of all ends at the first that dom0 may not see.
        """
        return shares(_run("xl", "sched-credit2", "-d", str(domid), may_fail=True).out).get(domid)

    def set_share(self, domid: int, share: Share) -> None:
        """See the protocol."""
        _run("xl", "sched-credit2", "-d", str(domid), "-w", str(share.weight),
             "-c", str(share.cpu))

    def rates(self, vif: str) -> tuple[int, int]:
        """See the protocol."""
        shown = _run("tc", "-j", "qdisc", "show", "dev", vif).out
        filters = _run("tc", "filter", "show", "dev", vif, "parent", "ffff:", may_fail=True).out
        return towards(shown), policed(filters)

    def set_rate(self, vif: str, rate: int) -> None:
        """See the protocol."""
        burst = str(max(int(rate / 8 * _BURST_SECONDS), _LEAST_BURST))
        _run("tc", "qdisc", "replace", "dev", vif, "root", "handle", "1:", "tbf",
             "rate", f"{rate}bit", "burst", burst, "latency", "50ms")
        _run("tc", "qdisc", "del", "dev", vif, "ingress", may_fail=True)
        _run("tc", "qdisc", "add", "dev", vif, "handle", "ffff:", "ingress")
        _run("tc", "filter", "add", "dev", vif, "parent", "ffff:", "protocol", "all", "prio", "1",
             "matchall", "action", "police", "rate", f"{rate}bit", "burst", burst,
             "mtu", str(_LEAST_BURST), "conform-exceed", "drop")


def shares(text: str) -> dict[int, Share]:
    """The output of ``xl sched-credit2``; headings have no numbers."""
    found = (_ROW.fullmatch(line) for line in text.splitlines())
    return {int(m["id"]): Share(int(m["weight"]), int(m["cap"])) for m in found if m is not None}


def towards(text: str) -> int:
    """The rate of the token bucket in the output of ``tc -j qdisc show`` (bytes/s there)."""
    try:
        found: list[dict[str, Any]] = json.loads(text or "[]")
        return next((int(item["options"]["rate"]) * 8 for item in found
                     if item.get("kind") == "tbf" and item.get("root")), 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _failed(f"tc printed {text[:200]!r}") from error


def policed(text: str) -> int:
    """The rate of the policer in the output of ``tc filter show``."""
    found = _POLICE.search(text)
    return 0 if found is None else int(found[1]) * _UNIT[found[2]]


def _run(*words: str, may_fail: bool = False) -> child.Completed:
    try:
        return child.run(words, timeout=_LIMIT, check=not may_fail)
    except child.ChildFailed as error:
        raise _failed(error.done.err.strip() or error.message) from error


def _failed(what: str) -> Unavailable:
    return Unavailable(
        "quota.governor", f"VMs cannot be held to what `each` of a quota says: {what[-800:]}",
        "Xen must run its credit2 scheduler (the default), and dom0 have tc (iproute2) and the "
        "kernel modules sch_tbf, sch_ingress, cls_matchall and act_police")

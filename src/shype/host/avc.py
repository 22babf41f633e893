"""The hypervisor's ``avc: denied`` lines as values.

Format: xen/xsm/flask/avc.c, avc_audit().  Everything after the permissions is
a list of ``key=value`` words, of which only some are always there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Xen's own lines begin with (XEN), and a time if it is told to; what a guest prints begins with
#: the guest's number. The first line that a ring still shows may lack its beginning.
OURS = "(XEN) "
_DENIED = re.compile(r"(?:\(XEN\) +)?(?:\[[^\]]*\] *)?avc:\s*denied\b")
#: Xen limits its messages (xen/drivers/char/console.c, __printk_ratelimit()): the next one that
#: is printed says first how many were not.
_HELD_BACK = re.compile(r"(?:\(XEN\) +)?(?:\[[^\]]*\] *)?printk: (\d{1,10}) messages suppressed\b")
_PERMISSIONS = re.compile(r"\{([^{}]*)\}")
_PAIR = re.compile(r"([a-z][a-z_]*)=(\S+)")
_DOMAIN = re.compile(r"(?:d|dom)?(\d{1,5})(?:v\d+)?")
_TYPE = re.compile(r"[^:\s]+:[^:\s]+:([^:\s]+)(?::\S+)?")
_WHO = ("source", "target", "current", "domid")
#: Longer lines are cut: no real one comes near, but for those with very many categories.
_LONGEST = 10_000


@dataclass(frozen=True, slots=True)
class AvcDenial:
    """One denial. Missing pieces are empty or None: a line may have been cut by the ring.

    ``source`` acted on ``target`` (domids, if the hypervisor named them);
    ``source_type`` and ``target_type`` are the FLASK types of the contexts.
    """

    raw: str
    permissions: tuple[str, ...] = ()
    source_context: str = ""
    target_context: str = ""
    tclass: str = ""
    source: int | None = None
    target: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def garbled(self) -> bool:
        """Whether the line lacks what every AVC line has."""
        return not (self.permissions and self.source_type and self.target_type and self.tclass)

    @property
    def source_type(self) -> str:
        """FLASK type of the source, or empty."""
        return _type(self.source_context)

    @property
    def target_type(self) -> str:
        """FLASK type of the target, or empty."""
        return _type(self.target_context)


def parse(line: str) -> AvcDenial | None:
    """The denial in ``line``, or None if it reports none. Never raises."""
    start = _DENIED.match(line.lstrip())
    if start is None:
        return None
    rest = line.lstrip()[start.end():][:_LONGEST]
    found = _PERMISSIONS.search(rest)
    pairs = dict(_PAIR.findall(rest[found.end():] if found else rest))
    current = _domid(pairs, "current", "domid")
    return AvcDenial(
        raw=line.strip(),
        permissions=tuple(found.group(1).split()) if found else (),
        source_context=pairs.pop("scontext", ""),
        target_context=pairs.pop("tcontext", ""),
        tclass=pairs.pop("tclass", ""),
        source=_domid(pairs, "source") if "source" in pairs else current,
        target=_domid(pairs, "target"),
        details={k: v for k, v in pairs.items() if k not in _WHO},
    )


def held_back(line: str) -> int:
    """How many messages Xen has not printed, if ``line`` says so; else 0. Never raises."""
    found = _HELD_BACK.match(line.lstrip())
    return 0 if found is None else int(found[1])


def _domid(pairs: Mapping[str, str], *keys: str) -> int | None:
    for key in keys:
        match = _DOMAIN.fullmatch(pairs.get(key, ""))
        if match is not None:
            return int(match.group(1))
    return None


def _type(context: str) -> str:
    match = _TYPE.fullmatch(context)
    return match.group(1) if match else ""

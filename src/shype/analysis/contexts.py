"""How the hypervisor writes labels down, as far as a reload depends on it.

A reload converts the security context of every running domain by name: its
type (a renamed label's old type is an alias of the new one), its sensitivity
and its categories (convert_context() in xen/xsm/flask/ss/services.c).  So a
running VM keeps the *text* of its level, whatever that text means in the new
policy.  The texts themselves are the compiler's business: whoever plans gives
them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shype.policy.names import LabelName

_NUMBERED = re.compile(r"\b([sc])([0-9]+)")


@dataclass(frozen=True, slots=True)
class Contexts:
    """Of one policy: ``types`` by label (retired ones too), ``levels`` as text by label.

    ``dom0`` is the text of dom0's range, which spans every level there is.
    """

    types: Mapping[LabelName, str]
    levels: Mapping[LabelName, str]
    dom0: str

    def label_of(self, context: str) -> LabelName | None:
        """The label whose type ``context`` has, at any level."""
        parts = context.split(":", 3)
        if len(parts) != 4:
            return None
        return next((name for name, type_ in self.types.items() if type_ == parts[2]), None)

    def expresses(self, levels: str) -> bool:
        """Whether the text ``levels`` stands for anything in this policy."""
        there = _highest(self.dom0)
        return all(number <= there.get(kind, -1) for kind, number in _highest(levels).items())


def levels_of(context: str) -> str:
    """``s1:c0`` of ``u:r:l_web_t:s1:c0``."""
    return context.split(":", 3)[3]


def _highest(levels: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, number in _NUMBERED.findall(levels):
        found[kind] = max(found.get(kind, -1), int(number))
    return found

"""Loading another policy on a running host: who may, and when.

With ``updates: live``, the reference monitor (dom0, or the manager) may load a policy, and have
the hypervisor print who maps whose pages, while the boolean `encoding.LOADING` is on. It is off at
boot, and the monitor turns it on for the moment of an update. Without, nobody may ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shype.compile.flask import conditions
from shype.compile.flask import encoding as enc
from shype.compile.flask.mismatch import Mismatch, short
from shype.compile.flask.reader import Access
from shype.compile.flask.rules import Allow, applicable
from shype.compile.flask.tables import Tables
from shype.compile.flask.world import World
from shype.policy.model import Policy


def rules(subject: str) -> tuple[Allow, ...]:
    """What ``subject``, the reference monitor (`encoding.monitor`), may do under the boolean."""
    return (
        Allow(subject, enc.sid_type("security"), "security", ("load_policy",),
              "an update of the running host replaces the policy"),
        Allow(subject, enc.sid_type("xen"), "xen", ("debug",),
              "the hypervisor prints its grant tables: who goes on mapping whose pages"),
    )


#: What `Loading` expects, written from xen/xsm/flask/flask_op.c (security_load_policy()) and
#: flask_sysctl() (XEN_SYSCTL_debug_keys): class, permission, and the type of the target.
_MEANT = frozenset({("security", "load_policy", "security_t"), ("xen", "debug", "xen_t")})


def lines(policy: Policy, tables: Tables) -> Iterator[str]:
    """The boolean and its rules, in CIL."""
    name = enc.booleans(policy, "").loading
    if name is None:
        return
    yield "; -- Loading another policy"
    yield f"(boolean {name} false)"
    for rule in applicable(rules(enc.monitor(policy)), tables):
        yield f"(booleanif {name} (true {rule}))"


def concerns(rule: Access) -> bool:
    """Whether ``rule`` is a conditional one that `Loading` looks at."""
    return rule.condition >= 0 and (rule.cls, rule.permissions) in {
        (cls, (name,)) for cls, name, _ in _MEANT}


class Loading:
    """The comparison of a binary's conditional rules ``given`` with the policy."""

    def __init__(self, world: World, given: Sequence[Access]) -> None:
        self._world, self._given = world, given
        manager = world.policy.host.manager
        self._subject = world.dom0_type if manager is None else world.entries[manager].type

    def mismatches(self) -> Iterator[Mismatch]:
        """All differences."""
        name = enc.booleans(self._world.policy, "").loading
        missing = set(_MEANT) if name is not None else set()
        for rule in self._given:
            tokens = self._world.binary.expressions[rule.condition]
            right = (rule.cls, rule.permissions[0], rule.target)
            meant = (
                name is not None and rule.source == self._subject and right in missing
                and rule.branch and conditions.equivalent([tokens], [{name: True}])
            )
            if meant:
                missing.discard(right)
            else:
                yield Mismatch(rule.source, rule.target, f"{rule.cls} {{ {right[1]} }}",
                               "never", short(" ".join(tokens)))
        for cls, permission, target in sorted(missing):
            yield Mismatch(self._subject, target, f"{cls} {{ {permission} }}",
                           f"iff {name}", "never")

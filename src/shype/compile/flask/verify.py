"""Translation validation: does the binary enforce what the decision code decides?

Every build ends here.  The binary is read back by `reader`.  What it lets
happen (its rules, less what its constraints take away, evaluated at the
contexts that the labels' VMs carry) is compared, for every subject, target
and permission, with what `expected` and `SecurityServer` say it must: no more
and no less.  Event channels are followed step by step besides.  Hardware is
looked up as the hypervisor does.  The conditions of the launch windows are
compared for every setting of all booleans.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from shype.compile.flask import expected, frame
from shype.compile.flask.channels import Channels
from shype.compile.flask.effective import Effective
from shype.compile.flask.hardware import Hardware
from shype.compile.flask.loading import Loading
from shype.compile.flask.mismatch import SHOWN, Disagreement, Mismatch, verdict
from shype.compile.flask.reader import Binary
from shype.compile.flask.tables import Tables
from shype.compile.flask.wanted import Wanted
from shype.compile.flask.windows import Windows
from shype.compile.flask.world import World
from shype.policy.manifest import Validation
from shype.policy.model import Policy

__all__ = ["SHOWN", "Disagreement", "Mismatch", "verify"]


def verify(policy: Policy, tables: Tables, binary: Binary, digest: str) -> Validation:
    """Compare; raises `Disagreement` (``validate.mismatch``)."""
    if any(label.object_manager for label in policy.guests):
        tables = replace(tables, classes={**tables.classes, **expected.OBJECT_CLASSES})
    found = [*frame.compare(policy, tables, binary, digest)]
    if not found:
        # With a wrong frame (a label without a type, an odd class) rows mean nothing.
        found = [*_rules(World(policy, tables, binary))]
    if found:
        raise Disagreement(found)
    pairs = (len(policy.labels) + 1) ** 2
    return Validation(binary.reader, pairs, pairs * len(expected.ASKS))


def _rules(world: World) -> Iterator[Mismatch]:
    """All differences of transitions; else all those of rules, channels and windows."""
    wanted, effective = Wanted(world), Effective(world)
    hardware = Hardware(world)
    wrong = [
        *wanted.consistent(), *wanted.transitions(), *effective.malformed(), *hardware.order(),
    ]
    if wrong:
        yield from wrong
        return
    needs, has = wanted.matrix(hardware), effective.matrix()
    for got, more, less in ((True, has, needs), (False, needs, has)):
        for (cls, name), subject, targets in more.difference(less):
            mechanism = expected.MECHANISM_OF.get(cls)
            what = f"{cls} {{ {name} }}"
            yield from world.report(
                subject, targets, f"{mechanism}, {what}" if mechanism else what,
                verdict(not got), verdict(got),
            )
    for (cls, name), targets in effective.unlawful():
        yield from world.report(
            world.dom0, targets, f"control, {cls} {{ {name} }}", "no constraint", "a constraint")
    yield from Channels(world, effective).mismatches()
    yield from hardware.mismatches(effective)
    yield from Loading(world, effective.loading).mismatches()
    yield from Windows(world, effective.windowed).mismatches()

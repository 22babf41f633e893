"""Event channels, step by step as the hypervisor opens and uses them.

Source: flask_evtchn_unbound(), flask_evtchn_interdomain() and
flask_evtchn_send() in xen/xsm/flask/hooks.c, security_compute_sid() and
mls_compute_sid() in xen/xsm/flask/ss.  Each end has a label of its own: by
default the type of the remote, the role object_r and the low level of the
domain whose end it is.  That domain needs `create` on it, it needs `bind` on
the remote, and its owner needs `send` on it to notify.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from shype.base.bits import each
from shype.compile.flask.effective import Effective
from shype.compile.flask.mismatch import Mismatch, verdict
from shype.compile.flask.mls import MlsRange
from shype.compile.flask.reader import Context
from shype.compile.flask.world import OBJECT_ROLE, World
from shype.decision.operation import Operation

_CREATE, _BIND, _SEND = ("event", "create"), ("event", "bind"), ("event", "send")


class Channels:
    """Who can notify whom. Labels with the same rights and levels are represented by one."""

    def __init__(self, world: World, effective: Effective) -> None:
        self._world, self._effective = world, effective
        rows = effective.rules.rows.get(_BIND, {})
        self._self_bind = sum(1 << i for i, targets in rows.items() if targets >> i & 1)
        self._transitions: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        index = world.names.index
        for (source, target, cls), new in world.binary.transitions.items():
            if cls == "event":
                self._transitions[index[source]][index[new]] |= 1 << index[target]
        kinds = {
            (world.server.classes.of[name], world.contexts[i].range): name
            for name, i in world.at.items()
        }
        self._labels = {world.at[name]: name for name in kinds.values()}
        self._labels[world.dom0] = world.policy.host.dom0

    def mismatches(self) -> Iterator[Mismatch]:
        """Every ordered pair: notifying works iff the security server permits it."""
        world, permits = self._world, self._world.server.permits
        chosen = sum(1 << i for i in self._labels)
        ends = {i: self._ends(i) for i in self._labels}
        opened = {i: ends[i][0] & chosen for i in ends}
        back = dict.fromkeys(opened, 0)
        for i, peers in opened.items():
            for peer in each(peers):
                back[peer] |= 1 << i
        rows = world.permitted(Operation.EVENT_SEND)
        host = world.policy.host.dom0
        served = sum(
            1 << i for i, name in self._labels.items()
            if i != world.dom0 and permits(host, name, Operation.EVENT_SEND)
        )
        for i, name in self._labels.items():
            tells = opened[i] & back[i] & ends[i][1]
            if i == world.dom0:
                tells, wanted = tells & ~(1 << i), served
            else:
                wanted = rows[world.server.classes.of[name]] & chosen
                wanted |= permits(name, host, Operation.EVENT_SEND) << world.dom0
            for got, extra in ((True, tells & ~wanted), (False, wanted & ~tells)):
                yield from world.report(
                    i, extra, "event, open a channel and notify", verdict(not got), verdict(got)
                )
            if i != world.dom0 and wanted >> world.dom0 & 1 and not self._for_guest(i):
                yield Mismatch(
                    world.name(world.dom0), name, "event, open the VM's end of a channel",
                    verdict(True), verdict(False),
                )

    def _ends(self, owner: int) -> tuple[int, int]:
        """With whom ``owner`` can open its end of a channel, and whom it could notify then."""
        effective, context = self._effective, self._world.contexts[owner]
        low = context.range.low
        create = effective.allowed(_CREATE, owner) & effective.lawful(_CREATE, context, fixed=low)
        send = effective.allowed(_SEND, owner) & effective.lawful(_SEND, context, fixed=low)
        end = Context(context.user, OBJECT_ROLE, context.type, MlsRange(low, low))
        bind = self._self_bind & effective.lawful(_BIND, end, follow=True)
        special = self._transitions.get(owner, {})
        usual = -1
        for peers in special.values():
            usual &= ~peers
        opens, tells = create & bind & usual, send & usual
        for new, peers in special.items():
            typed = Context(context.user, OBJECT_ROLE, self._world.names.types[new], end.range)
            bound = effective.allowed(_BIND, new) & effective.lawful(_BIND, typed)
            opens |= peers & bound if create >> new & 1 else 0
            tells |= peers if send >> new & 1 else 0
        return opens, tells

    def _for_guest(self, guest: int) -> bool:
        """Whether dom0 can open a VM's end of a channel to itself, as it does at creation."""
        dom0, low = self._world.dom0, self._world.contexts[guest].range.low
        effective = self._effective
        lawful = effective.lawful(_CREATE, self._world.contexts[dom0], fixed=low)
        return bool(effective.allowed(_CREATE, dom0) & lawful & 1 << dom0)

"""Why information flows from one type to another: the rules that let it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shype.base import bits
from shype.compile.flask import conditions
from shype.compile.flask.analyze.flows import UNGUARDED, Doubt, Flows, event_kind
from shype.compile.flask.analyze.rights import Right
from shype.compile.flask.analyze.unguarded import ends
from shype.compile.flask.permissions.permission_map import Permission
from shype.compile.flask.reader import Access


@dataclass(frozen=True, slots=True)
class Step:
    """One way by which information flows from ``source`` to ``sink`` directly.

    ``permissions`` of class ``cls`` carry it, by ``rules`` (their text).
    ``how``: how the sink is met, if not by its own type: a channel, or a view.
    """

    source: str
    sink: str
    cls: str
    permissions: tuple[str, ...]
    mechanism: str
    bandwidth: str
    rules: tuple[str, ...]
    doubt: Doubt
    why: str
    how: str = ""

    def to_json(self) -> dict[str, object]:
        """Shape of a step in ``--json``."""
        return {
            "from": self.source, "to": self.sink, "class": self.cls,
            "permissions": list(self.permissions), "mechanism": self.mechanism,
            "bandwidth": self.bandwidth, "rules": list(self.rules), "how": self.how,
            "why": self.why, "constraint": self.doubt.constraint, "boolean": self.doubt.boolean,
        }


def steps(flows: Flows, source: int, sink: int) -> tuple[Step, ...]:
    """All ways from one type to another in one step, the widest first."""
    found = [
        *_plain(flows, source, sink), *_events(flows, source, sink),
        *_unguarded(flows, source, sink),
    ]
    order = {"bulk": 0, "record": 1, "signal": 2, "trace": 3}
    return tuple(sorted(found, key=lambda step: (order[step.bandwidth], step.cls)))


def _plain(flows: Flows, source: int, sink: int) -> Iterator[Step]:
    for subject, other, direction in ((source, sink, "write"), (sink, source, "read")):
        if not flows.subjects >> subject & 1:
            continue
        for former, peer in _labels(flows, subject, other):
            moved = (former, peer) != (subject, other)
            for right in flows.earlier.rules:
                for names, kind in _carrying(flows, right.rule, former, peer, direction, moved):
                    yield _step(flows, source, sink, right, names, kind, former, peer)


def _labels(flows: Flows, subject: int, other: int) -> Iterator[tuple[int, int]]:
    """The two, and what they may have been labelled when something that lasts was set up."""
    before = flows.parts.before
    yield subject, other
    for former in bits.each(before.get(subject, 1 << subject)):
        for peer in bits.each(before.get(other, 1 << other)):
            if (former, peer) != (subject, other):
                yield former, peer


def _carrying(
    flows: Flows, rule: Access, subject: int, other: int, direction: str, moved: bool
) -> Iterator[tuple[list[str], tuple[str, str]]]:
    """The permissions of a rule that carry something that way, by mechanism and bandwidth."""
    if subject not in flows.names.members[rule.source]:
        return
    if not flows.objects(rule.cls, subject, flows.names.mask(rule.target)) >> other & 1:
        return
    found: dict[tuple[str, str], list[str]] = {}
    gone = flows.now(rule) is None
    for name in rule.permissions:
        entry = flows.known.entries[rule.cls, name]
        if gone and not entry.lasts:
            continue
        band = entry.write if direction == "write" else entry.read
        if band is None or (rule.cls == "event" and name != "reset") or moved > entry.lasts:
            continue
        if flows.wanted.takes(entry, band) and _may(flows, rule, name, subject, other):
            found.setdefault((entry.mechanism.value, band.value), []).append(name)
    for kind, names in found.items():
        yield names, kind


def _step(
    flows: Flows, source: int, sink: int, right: Right, names: list[str],
    kind: tuple[str, str], subject: int, other: int,
) -> Step:
    rule, types = right.rule, flows.names.types
    how = _seen(flows, rule, subject, other)
    if {subject, other} != {source, sink}:
        how = f"set up while they were {types[subject]} and {types[other]}, and it stays"
    elif flows.now(rule) is None:
        how = "set up while the boolean had another value, and it stays"
    return Step(
        types[source], types[sink], rule.cls, tuple(names), *kind, (text(flows, rule),),
        Doubt(not (flows.now(rule) or right).sure, any(
            not _may(flows, rule, name, subject, other, sure=True) for name in names
        )),
        "; ".join(flows.known.entries[rule.cls, name].why for name in names), how,
    )


def _may(
    flows: Flows, rule: Access, name: str, subject: int, other: int, *, sure: bool = False
) -> bool:
    """Whether constraints leave the rule to this pair (``sure``: whatever the contexts are)."""
    masks = flows.rights.constraints.masks((rule.cls, name), subject)
    targets = flows.names.mask(rule.target) & masks[sure]
    return bool(flows.objects(rule.cls, subject, targets) >> other & 1)


def _seen(flows: Flows, rule: Access, subject: int, other: int) -> str:
    mask = flows.names.mask(rule.target)
    if mask >> other & 1:
        return ""
    types = flows.names.types
    for view in flows.parts.as_seen(subject, other)[1:]:
        if mask >> view & 1:
            return f"{types[subject]} meets its {types[other]} as {types[view]}"
    return ""


def _events(flows: Flows, source: int, sink: int) -> Iterator[Step]:
    parts, names = flows.parts, flows.names
    send, status = (flows.known.entries["event", name] for name in ("send", "status"))
    if not any(k.cls == "event" for k in flows.kinds(source, sink)):
        return
    both = parts.domains >> source & parts.domains >> sink & 1
    if event_kind(send) in flows.kinds(source, sink):
        if both:
            for channel, seen in dict.fromkeys(flows.channels.ends(source, sink, "send")):
                yield _channel_step(flows, source, sink, channel, (
                    (("event", "send"), source, channel), (("event", "bind"), channel, seen)))
        elif parts.channels >> sink & 1:
            yield _channel_step(
                flows, source, sink, sink, ((("event", "send"), source, sink),))
        else:
            yield _channel_step(
                flows, source, sink, source, ((("event", "bind"), source, sink),))
    if both and status.read and event_kind(status) in flows.kinds(source, sink):
        for channel, seen in dict.fromkeys(flows.channels.ends(sink, source, "status")):
            found = ((("event", "status"), sink, channel), (("event", "bind"), channel, seen))
            yield Step(
                names.types[source], names.types[sink], "event", ("status",), "event",
                status.read.value, tuple(_texts(flows, found)), _doubt(flows, found), status.why,
                f"channel of type {names.types[channel]}",
            )


def _unguarded(flows: Flows, source: int, sink: int) -> Iterator[Step]:
    """By somebody's right to copy: to the sink, or from the source."""
    if UNGUARDED not in flows.kinds(source, sink):
        return
    rows = flows.rights.rows(("grant", "copy"))
    for right in flows.rights.rules:
        rule = right.rule
        if rule.cls != "grant" or "copy" not in rule.permissions:
            continue
        members, targets = flows.names.members[rule.source], flows.names.mask(rule.target)
        senders, receivers = ends({one: rows.get(one, 0) & targets for one in members}, flows.parts)
        if not (senders >> source & 1 or receivers >> sink & 1):
            continue
        types = flows.names.types
        yield Step(
            types[source], types[sink], "grant", ("copy",), UNGUARDED.mechanism,
            UNGUARDED.bandwidth, (text(flows, rule),), flows.doubt(UNGUARDED, source, sink),
            "neither who issues a copy nor whose page a transitive grant leads to is checked",
            "with the help of the domains that may copy",
        )


#: A permission that some type has on another.
_Use = tuple[Permission, int, int]


def _channel_step(
    flows: Flows, source: int, sink: int, channel: int, uses: tuple[_Use, ...]
) -> Step:
    names = flows.names
    send = flows.known.entries["event", "send"]
    kind = event_kind(send)
    return Step(
        names.types[source], names.types[sink], "event",
        tuple(permission for (_, permission), _, _ in uses), kind.mechanism, kind.bandwidth,
        tuple(_texts(flows, uses)), _doubt(flows, uses), send.why,
        f"channel of type {names.types[channel]}",
    )


def _texts(flows: Flows, uses: tuple[_Use, ...]) -> Iterator[str]:
    for use in uses:
        yield from dict.fromkeys(text(flows, right.rule) for right in _of(flows, use))


def _doubt(flows: Flows, uses: tuple[_Use, ...]) -> Doubt:
    """Of the uses alone; that somebody can make the two ends is a matter of the flow's kind."""
    return Doubt(
        any(not any(right.sure for right in _of(flows, use)) for use in uses),
        any(not flows.rights.constraints.masks(use[0], use[1])[1] >> use[2] & 1 for use in uses),
    )


def _of(flows: Flows, use: _Use) -> list[Right]:
    (cls, name), subject, target = use
    rights = flows.earlier if name in ("create", "bind") else flows.rights
    return [
        right for right in rights.rules
        if right.rule.cls == cls and name in right.rule.permissions
        and subject in flows.names.members[right.rule.source]
        and flows.names.mask(right.rule.target) >> target & 1
    ]


def text(flows: Flows, rule: Access) -> str:
    """The rule as policy source has it, with its condition."""
    shown = f"allow {rule.source} {rule.target}:{rule.cls} {{ {' '.join(rule.permissions)} }};"
    if rule.condition < 0:
        return shown
    condition = infix(flows.binary.expressions[rule.condition])
    return f"if ({condition if rule.branch else f'!({condition})'}) {{ {shown} }}"


def infix(tokens: tuple[str, ...]) -> str:
    """A condition as people write it. Raises ValueError for a malformed one."""
    stack: list[str] = []
    try:
        for token in tokens:
            if token == "!":
                stack.append(f"!{_grouped(stack.pop())}")
            elif conditions.variables([token]):
                stack.append(token)
            else:
                right = stack.pop()
                stack.append(f"{_grouped(stack.pop())} {token} {_grouped(right)}")
    except IndexError as error:
        raise ValueError("malformed condition") from error
    return stack[-1]


def _grouped(text: str) -> str:
    return f"({text})" if " " in text else text

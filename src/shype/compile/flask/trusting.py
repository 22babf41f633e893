"""The rules of trusted labels: guards, and labels that keep several levels apart.

What such a label may do with another follows from the security server for
every pair, not from two levels, so each has rules to exactly its peers.  Its
own ends of event channels have a type of their own: by default an end carries
the type of the remote and the level of the opener, and then the constraint
would refuse it, and nothing could tell a guard's two directions apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from shype.compile.flask import encoding as enc
from shype.compile.flask import levels
from shype.compile.flask.rules import Allow
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.model import Label, Policy
from shype.policy.names import LabelName

#: Class and permission, the operation that asks for it, and whether the one who is
#: checked (the rule's source) is the operation's subject (else its object).
_NEEDS: tuple[tuple[str, str, Operation, bool], ...] = (
    ("grant", "map_read", Operation.MAP_READ, True),
    ("grant", "map_write", Operation.MAP_WRITE, True),
    ("grant", "copy", Operation.COPY_TO, True),
    ("argo", "send", Operation.ARGO_SEND, True),
    ("argo", "register_single_source", Operation.ARGO_SEND, False),
)
_REASON = {
    "grant": "memory, in the directions in which it may pass information on",
    "argo": "messages, in the directions in which it may pass information on",
}


@dataclass(frozen=True, slots=True)
class Trusted:
    """Attributes, rules and event transitions of all trusted labels, and the channel types used."""

    attributes: dict[str, list[str]]
    rules: list[Allow]
    transitions: list[str]
    channels: tuple[str, ...]


def rules_of(policy: Policy, server: SecurityServer) -> Trusted:
    """What the trusted labels need beside the rules of every VM."""
    chosen = [label for label in policy.guests if levels.trusted(policy, label)]
    maker = _Maker(policy, server, frozenset(label.name for label in chosen))
    for label in chosen:
        maker.add(label)
    return maker.finish()


class _Maker:
    def __init__(
        self, policy: Policy, server: SecurityServer, trusted: frozenset[LabelName]
    ) -> None:
        self._policy = policy
        self._permits = server.permits
        self._in_coalition = server.classes.in_coalition
        self._trusted = trusted
        # Labels of one class have the same rights, so one stands for all.
        self._alike: dict[int, list[LabelName]] = defaultdict(list)
        self._order: dict[LabelName, int] = {}
        for i, label in enumerate(policy.guests if trusted else ()):
            self._alike[server.classes.of[label.name]].append(label.name)
            self._order[label.name] = i
        self._attributes: dict[str, list[str]] = {}
        self._rules: list[Allow] = []
        self._transitions: list[str] = []
        self._bound: dict[str, set[LabelName]] = {enc.SPEAKING_TYPE: set(), enc.MUTE_TYPE: set()}

    def add(self, label: Label) -> None:
        """The rules between ``label`` and every other label."""
        sets = _Sets(label.name, self._attributes)
        self._events(label.name, sets)
        self._memory(label.name, sets)

    def _events(self, name: LabelName, sets: _Sets) -> None:
        """A channel can be opened if one of the two may notify the other."""
        type_ = enc.type_of(name)
        told, heard = self._by(name, Operation.EVENT_SEND), self._on(name, Operation.EVENT_SEND)
        only_heard = [peer for peer in heard if peer not in {*told}]
        for channel, peers, words in (
            (enc.SPEAKING_TYPE, told, "create send"), (enc.MUTE_TYPE, only_heard, "create"),
        ):
            if peers:
                self._bound[channel] |= {*peers}
                self._transitions.append(
                    f"(typetransition {type_} {sets.of(peers)} event {channel})"
                )
                self._allow(type_, channel, "event", words,
                            "its own end of a channel; it may notify only by one that has `send`")
        # An ordinary peer's end carries the type of its remote: this label.
        if openers := self._ordinary({*told, *heard}):
            self._allow(sets.of(openers), type_, "event", "create", "the peer's end of a channel")
            self._allow(type_, type_, "event", "bind", "the peer's end may be bound to this VM")
        if speakers := self._ordinary(heard):
            self._allow(sets.of(speakers), type_, "event", "send", "the peer may notify this VM")

    def _memory(self, name: LabelName, sets: _Sets) -> None:
        """Grants and Argo, as source and as target of the hypervisor's check."""
        type_ = enc.type_of(name)
        away: dict[tuple[str, tuple[LabelName, ...]], list[str]] = defaultdict(list)
        back: dict[tuple[str, tuple[LabelName, ...]], list[str]] = defaultdict(list)
        for cls, permission, operation, straight in _NEEDS:
            acts, suffers = self._by(name, operation), self._on(name, operation)
            as_source, as_target = (acts, suffers) if straight else (suffers, acts)
            if as_source:
                away[cls, tuple(as_source)].append(permission)
            # A trusted peer's rules as source are among its own.
            if as_target := self._ordinary(as_target):
                back[cls, tuple(as_target)].append(permission)
        for (cls, peers), words in away.items():
            self._allow(type_, sets.of(peers), cls, " ".join(words), _REASON[cls])
        for (cls, peers), words in back.items():
            self._allow(sets.of(peers), type_, cls, " ".join(words), _REASON[cls])

    def finish(self) -> Trusted:
        """Ends of channels may be bound to the VMs to which a transition leads."""
        channels = tuple(channel for channel, peers in self._bound.items() if peers)
        for channel in channels:
            name = f"{channel.removesuffix('_t')}_peer"
            peers = sorted(self._bound[channel], key=self._order.__getitem__)
            self._attributes[name] = [enc.type_of(peer) for peer in peers]
            self._allow(channel, name, "event", "bind", "a trusted VM's end, at its peer")
        if enc.MUTE_TYPE in channels:
            self._rules.append(Allow(
                enc.ALL_LABELS, enc.MUTE_TYPE, "event", ("send",),
                "a guard could flood the hypervisor's console by notifying back",
                audit_only=True,
            ))
        return Trusted(self._attributes, self._rules, self._transitions, channels)

    def _by(self, name: LabelName, operation: Operation) -> list[LabelName]:
        """The labels on which ``name`` may do ``operation``."""
        return self._peers(name, lambda peer: self._permits(name, peer, operation))

    def _on(self, name: LabelName, operation: Operation) -> list[LabelName]:
        """The labels that may do it to ``name``."""
        return self._peers(name, lambda peer: self._permits(peer, name, operation))

    def _peers(
        self, own: LabelName, question: Callable[[LabelName], bool]
    ) -> list[LabelName]:
        """The labels for which it holds, in file order: ``own`` shares a coalition with all."""
        numbers = {
            number for coalition in self._policy.coalitions_of(own)
            for number in self._in_coalition[coalition]
        }
        alike = (self._alike[number] for number in numbers)
        return sorted(
            (name for names in alike if names and question(names[0]) for name in names),
            key=self._order.__getitem__,
        )

    def _ordinary(self, names: Iterable[LabelName]) -> list[LabelName]:
        return sorted({*names} - self._trusted, key=self._order.__getitem__)

    def _allow(self, source: str, target: str, cls: str, words: str, reason: str) -> None:
        self._rules.append(Allow(source, target, cls, tuple(words.split()), reason))


class _Sets:
    """Names for sets of a trusted label's peers, each set once."""

    def __init__(self, label: LabelName, attributes: dict[str, list[str]]) -> None:
        self._label = label
        self._attributes = attributes
        self._known: dict[tuple[LabelName, ...], str] = {}

    def of(self, peers: Sequence[LabelName]) -> str:
        """A type, or an attribute that holds the types of ``peers``."""
        if len(peers) == 1:
            return enc.type_of(peers[0])
        key = tuple(peers)
        if key not in self._known:
            name = enc.peers_attribute(self._label, len(self._known) + 1)
            self._known[key] = name
            self._attributes[name] = [enc.type_of(peer) for peer in peers]
        return self._known[key]

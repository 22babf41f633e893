"""One line in, one decision out: the questions that `shype decide` answers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.decision.operation import Operation
from shype.decision.party import resolve
from shype.decision.resources import Access
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName

#: What ``A B`` without an operation asks about: an event channel, the base of every exchange.
DEFAULT_OPERATION = Operation.EVENT_SEND
#: What a mechanism's name alone asks about: the operation that needs the most.
_FULLEST = {
    "event": Operation.EVENT_SEND, "grant": Operation.MAP_WRITE, "argo": Operation.ARGO_SEND,
    "disk": Operation.DISK_WRITE, "network": Operation.NETWORK_SEND,
    "xenstore": Operation.STORE_READ,
    "foreign": Operation.FOREIGN_MAP, "control": Operation.CONTROL,
}


@dataclass(frozen=True, slots=True)
class Communicate:
    """May ``a`` do ``operation`` to ``b``? Labels, or VMs of ``vms:``."""

    a: str
    b: str
    operation: Operation

    @property
    def words(self) -> tuple[str, ...]:
        """The question as words, for a plain line of output."""
        return (self.a, self.b, str(self.operation))

    def to_json(self) -> dict[str, object]:
        """The question as it is repeated in JSON output."""
        return {"a": self.a, "b": self.b, "operation": str(self.operation)}

    def ask(self, server: SecurityServer) -> Decision:
        """The answer. Raises BadInput ``label.unknown`` or ``label.ambiguous``."""
        a, b = (resolve(server.policy, word).label for word in (self.a, self.b))
        return server.decide(a, b, self.operation)


@dataclass(frozen=True, slots=True)
class Launch:
    """May ``label`` (a label, or a VM of ``vms:``) start next to ``running``?"""

    label: str
    running: tuple[Running, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The question as words, for a plain line of output."""
        return ("launch", self.label)

    def to_json(self) -> dict[str, object]:
        """The question as it is repeated in JSON output."""
        return {"launch": self.label}

    def ask(self, server: SecurityServer) -> Decision:
        """The answer. Raises as `resolve` does, and UnknownRunning as `SecurityServer.launch`."""
        return server.launch(resolve(server.policy, self.label).label, self.running)


@dataclass(frozen=True, slots=True)
class Use:
    """May ``label`` (a label, or a VM of ``vms:``) use the resource ``name`` of ``kind``?"""

    label: str
    kind: ResourceKind
    name: str
    access: Access = Access.READ_WRITE

    @property
    def words(self) -> tuple[str, ...]:
        """The question as words, for a plain line of output."""
        return (self.label, f"{self.kind}:{self.name}", str(self.access))

    def to_json(self) -> dict[str, object]:
        """The question as it is repeated in JSON output."""
        return {"use": self.label, "kind": str(self.kind), "name": self.name,
                "access": str(self.access)}

    def ask(self, server: SecurityServer) -> Decision:
        """The answer. Raises as `resolve` and `SecurityServer.use` do."""
        label = resolve(server.policy, self.label).label
        return server.use(label, self.kind, self.name, self.access)


Query = Communicate | Launch | Use


def resource(word: str) -> tuple[ResourceKind, str] | None:
    """The resource that a word such as ``disk:/dev/vg0/a`` names, or None: it names a party."""
    kind, colon, name = word.partition(":")
    known = colon and name and kind in {*ResourceKind}
    return (ResourceKind(kind), name) if known else None


def parse(line: str) -> Query:
    """Parse words (``A B [OPERATION]``) or a JSON object. Raises BadInput ``query.bad``."""
    text = line.strip()
    return _from_json(text) if text.startswith("{") else _from_words(text.split())


def from_words(a: str, b: str, operation: str | None = None) -> Communicate | Use:
    """The question about ``a`` and ``b``; a mechanism stands for its fullest operation.

    Where ``b`` is a resource (``disk:NAME``), the operation is an access.
    Raises BadInput ``query.bad``.
    """
    found = resource(b)
    if found is not None:
        return Use(a, *found, _access(operation or Access.READ_WRITE))
    if operation is None:
        return Communicate(a, b, DEFAULT_OPERATION)
    try:
        return Communicate(a, b, _FULLEST.get(operation) or Operation(operation))
    except ValueError as error:
        known = ", ".join((*Operation, *_FULLEST))
        raise _bad(f"{operation!r} is no operation", f"one of: {known}") from error


def _access(word: str) -> Access:
    try:
        return Access(word)
    except ValueError as error:
        raise _bad(f"{word!r} is no access", f"one of: {', '.join(Access)}") from error


def expect_words(count: int) -> None:
    """Raise BadInput ``query.bad`` unless ``count`` words can be a question."""
    if not 2 <= count <= 3:
        found = "one word" if count == 1 else f"{count} words"
        raise _bad(f"{found} instead of two or three", "write: A B [OPERATION]")


def _from_words(words: list[str]) -> Query:
    expect_words(len(words))
    return from_words(*words)


def _from_json(text: str) -> Query:
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _bad(f"no valid JSON ({error})", "write one JSON object per line") from error
    if not isinstance(value, dict):
        raise _bad("no JSON object", "write one JSON object per line")
    if "launch" in value:
        _only(value, {"launch", "running"})
        running = value.get("running", [])
        if not isinstance(running, list):
            raise _bad("`running` is not a list", 'write "running": [{"domid": 1, ...}]')
        return Launch(_text(value, "launch"), tuple(_running(entry) for entry in running))
    if "use" in value:
        _only(value, {"use", "kind", "name", "access"})
        label, kind, name = (_text(value, key) for key in ("use", "kind", "name"))
        if kind not in {*ResourceKind}:
            raise _bad(f"{kind!r} is no kind of resource", f"one of: {', '.join(ResourceKind)}")
        access = _text(value, "access") if "access" in value else Access.READ_WRITE
        return Use(label, ResourceKind(kind), name, _access(access))
    _only(value, {"a", "b", "operation", "mechanism"})
    asked = [key for key in ("operation", "mechanism") if key in value]
    if len(asked) > 1:
        raise _bad("both `operation` and `mechanism`", "write one of the two")
    operation = _text(value, asked[0]) if asked else None
    return from_words(_text(value, "a"), _text(value, "b"), operation)


def _running(entry: object) -> Running:
    if not isinstance(entry, dict):
        raise _bad("an entry of `running` is not an object", "")
    _only(entry, {"domid", "vm", "label"})
    domid = entry.get("domid")
    if not isinstance(domid, int) or isinstance(domid, bool) or domid < 0:
        raise _bad("`domid` of a running domain is not a number from 0", "")
    return Running(domid, _text(entry, "vm"), LabelName(_text(entry, "label")))


def _text(value: dict[str, object], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str) or not found:
        raise _bad(f"`{key}` is missing or not a text", f'write "{key}": "..."')
    return found


def _only(value: dict[str, object], keys: set[str]) -> None:
    strange = sorted(set(value) - keys)
    if strange:
        raise _bad(
            f"unknown keys: {', '.join(map(repr, strange))}", "known: " + ", ".join(sorted(keys))
        )


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _bad(what: str, fix: str) -> BadInput:
    return BadInput("query.bad", f"this is no question: {what}", fix)

"""Reference values (RFC 9334, 8.3): what a verifier expects of hosts, signed by who is responsible.

A document lists *firmware* and *boots*, each a whole set of register values, so that no old
kernel is accepted beside a new command line; and *rules* for the events that shype measures
afterwards. All have a severity and may hold from or until a moment: a planned update is authorised
before it happens. What is not listed is not accepted. Made by `shype.attest.reference_values`,
never by hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shype.attest import host_events
from shype.attest.event_log import PCRS, SIZE
from shype.attest.host_events import FIELDS, HostEvent, Kind
from shype.base import canonical
from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.host.attest_result import AttestedPolicy, Verdict
from shype.policy import envelope, grammar
from shype.policy.ed25519 import KeyId, PrivateKey, PublicKey

#: What the payload is.
PAYLOAD_TYPE = "application/vnd.shype.reference-values+json"
#: Largest document read, bytes.
MAX_REFERENCE = 8 * 1024 * 1024
#: Without these a boot is not known: what firmware started (4), GRUB's commands (8) and the files
#: that it read (9): hypervisor, kernel, policy.
BOOT_PCRS = frozenset({4, 8, 9})
#: And without these firmware is not: its code (0), and which keys it obeys (7).
FIRMWARE_PCRS = frozenset({0, 7})
#: In a rule, any value that the event may have.
ANY = "*"

_FORMAT = 1
_HEX = re.compile(r"[0-9a-f]{64}")
_TOP = {"format", "name", "serial", "firmware", "boots", "rules"}
_BOOT = {"what", "pcrs", "policy", "severity", "from", "until"}
_RULE = {"event", "values", "severity", "from", "until", "rollback"}
_LAST_SECOND = 253_402_300_799
_MAX_ENTRIES = 20_000


@dataclass(frozen=True, slots=True)
class Window:
    """From when (inclusive) until when (exclusive) something is accepted, seconds since 1970."""

    start: int | None = None
    end: int | None = None

    @property
    def empty(self) -> bool:
        """Whether it ends before it begins."""
        return self.start is not None and self.end is not None and self.start >= self.end

    def opens(self, now: int) -> bool:
        """Whether it has opened."""
        return self.start is None or now >= self.start

    def closed(self, now: int) -> bool:
        """Whether it is over."""
        return self.end is not None and now >= self.end


ALWAYS = Window()


@dataclass(frozen=True, slots=True)
class Boot:
    """A way in which hosts start (or one firmware): for people (``what``), all its registers, and
    the policy that is in force from then on (None: only an event says it)."""

    what: str
    pcrs: Mapping[int, bytes]
    policy: AttestedPolicy | None = None
    severity: Verdict = Verdict.TRUSTED
    window: Window = ALWAYS


@dataclass(frozen=True, slots=True)
class Rule:
    """Events of ``kind`` with these ``values`` (`ANY`: any) are of this severity.

    ``rollback``: a policy older than one that the host had is meant, and no attack.
    """

    kind: Kind
    values: Mapping[str, str]
    severity: Verdict = Verdict.TRUSTED
    window: Window = ALWAYS
    rollback: bool = False

    def about(self, event: HostEvent) -> bool:
        """Whether the rule is about ``event``."""
        if event.kind is not self.kind:
            return False
        for key, value in event.values.items():
            wanted = self.values[key]
            if wanted not in (value, ANY):
                return False
        return True


@dataclass(frozen=True, slots=True)
class References:
    """Reference values. ``serial`` grows with each version of a document: no older is accepted."""

    name: str
    serial: int
    firmware: tuple[Boot, ...]
    boots: tuple[Boot, ...]
    rules: tuple[Rule, ...]

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The registers that a quote must be over: those that are listed, and the events'."""
        return tuple(sorted({*self.firmware[0].pcrs, *self.boots[0].pcrs, host_events.PCR}))


def seal(references: References, keys: Sequence[PrivateKey]) -> bytes:
    """The signed document. Raises BadInput (``reference.*``) if `read` would refuse it."""
    payload = canonical.dumps(_to_json(references))
    _from_json(payload, references.name)
    return envelope.dumps(envelope.sign(payload, keys, PAYLOAD_TYPE), PAYLOAD_TYPE)


def read(path: Path, trusted: Mapping[KeyId, PublicKey]) -> References:
    """The reference values in ``path``, named like the file without its suffix.

    Raises BadInput: ``reference.missing``, ``reference.corrupt``, ``reference.unsigned``,
    ``reference.altered``, ``reference.misnamed``, ``reference.empty``.
    """
    try:
        data = read_regular(path, MAX_REFERENCE)
    except OSError as error:
        raise BadInput(
            "reference.missing",
            f"there are no reference values {path.stem!r}: {path}: {error.strerror}",
            f"shype attest publish {path.stem}.ref (`shype attest sign` makes it); without it "
            "nothing is trusted",
        ) from error
    return loads(data, path.stem, trusted)


def loads(data: bytes, name: str, trusted: Mapping[KeyId, PublicKey]) -> References:
    """As `read`, from bytes."""
    try:
        if len(data) > MAX_REFERENCE:
            raise ValueError
        found = envelope.loads(data, PAYLOAD_TYPE)
    except (BadInput, ValueError) as error:
        raise _corrupt(name, "it is no envelope of them") from error
    known = [s for s in found.signatures if s.keyid in trusted]
    if not known:
        raise BadInput(
            "reference.unsigned",
            f"the reference values {name!r} are signed by no key that is trusted for that",
            "have them signed by who is responsible for the hosts (`--key`)",
        )
    message = envelope.pae(found.payload, PAYLOAD_TYPE)
    if not all(trusted[s.keyid].verifies(message, s.sig) for s in known):
        raise BadInput(
            "reference.altered", f"the reference values {name!r} are not what was signed",
            "copy them again; if that does not help, find out who changed them",
        )
    return _from_json(found.payload, name)


def _to_json(references: References) -> dict[str, object]:
    return {
        "format": _FORMAT, "name": references.name, "serial": references.serial,
        "firmware": [_boot_out(boot) for boot in references.firmware],
        "boots": [_boot_out(boot) for boot in references.boots],
        "rules": [
            {
                "event": rule.kind.value, "values": dict(rule.values),
                "severity": rule.severity.value, "rollback": rule.rollback,
                **_window_out(rule.window),
            } for rule in references.rules
        ],
    }


def _boot_out(boot: Boot) -> dict[str, object]:
    return {
        "what": boot.what, "severity": boot.severity.value, **_window_out(boot.window),
        "pcrs": {str(pcr): value.hex() for pcr, value in boot.pcrs.items()},
        "policy": boot.policy and boot.policy.to_json(),
    }


def _window_out(window: Window) -> dict[str, object]:
    return {"from": window.start, "until": window.end}


def _from_json(payload: bytes, name: str) -> References:
    try:
        value = json.loads(payload.decode())
        if not isinstance(value, dict) or value.keys() != _TOP:
            raise ValueError("its members are not " + ", ".join(sorted(_TOP)))
        lists = [value[key] for key in ("firmware", "boots", "rules")]
        if not all(isinstance(items, list) for items in lists):
            raise ValueError("firmware, boots and rules are no lists")
        if sum(map(len, lists)) > _MAX_ENTRIES:
            raise ValueError("there are too many boots and rules")
        firmware, boots, rules = lists
        found = References(
            value["name"], value["serial"], tuple(_boot(item) for item in firmware),
            tuple(_boot(item) for item in boots), tuple(_rule(item) for item in rules))
        if not (isinstance(found.name, str) and grammar.is_name(found.name)
                and type(found.serial) is int and 0 <= found.serial < 1 << 53):
            raise ValueError("it has no name and serial")
        again = canonical.dumps(_to_json(found))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _corrupt(name, str(error) or "a value is of the wrong kind") from error
    if again != payload:
        raise _corrupt(name, "it is not in canonical form")
    if found.name != name:
        raise BadInput(
            "reference.misnamed", f"the reference values {name!r} call themselves {found.name!r}",
            "name the file as the document names itself",
        )
    _require_whole(found)
    return found


def _require_whole(found: References) -> None:
    """Nothing may be accepted because a list is empty, or a rule says too much."""
    for kind, sets, required in (("firmware", found.firmware, FIRMWARE_PCRS),
                                 ("boot", found.boots, BOOT_PCRS)):
        if not sets:
            raise _empty(found, f"they list no {kind}")
        for boot in sets:
            missing = sorted(required - boot.pcrs.keys())
            if missing:
                raise _empty(found, f"{boot.what!r} says nothing of the registers {missing}")
            if boot.pcrs.keys() != sets[0].pcrs.keys():
                raise _empty(found, f"not every {kind} is of the same registers")
    both = found.firmware[0].pcrs.keys() & found.boots[0].pcrs.keys()
    if both or host_events.PCR in found.firmware[0].pcrs.keys() | found.boots[0].pcrs.keys():
        raise _empty(found, "a register is for one thing: firmware, the boot, or events")
    good = {rule.kind for rule in found.rules if rule.severity is not Verdict.FAILED}
    for event in (Kind.AGENT, Kind.POLICY, Kind.ENFORCEMENT):
        if event not in good:
            raise _empty(found, f"they have no rule that accepts {event}")
    for rule in found.rules:
        lax = rule.kind is Kind.ENFORCEMENT and rule.values["mode"] != "enforcing"
        if rule.severity is Verdict.TRUSTED and (lax or _anything(rule)):
            raise BadInput(
                "reference.lax", f"the reference values {found.name!r} would trust a host with "
                f"{rule.kind} {dict(rule.values)}", "give it another severity, or say which",
            )


def _anything(rule: Rule) -> bool:
    """Whether the rule would take whatever agent or policy a host has."""
    key = {Kind.AGENT: "agent", Kind.POLICY: "bundle"}.get(rule.kind)
    return key is not None and rule.values[key] == ANY


def _boot(value: Mapping[str, Any]) -> Boot:
    if value.keys() != _BOOT:
        raise ValueError("a boot has not the members " + ", ".join(sorted(_BOOT)))
    pcrs, what, policy = value["pcrs"], value["what"], value["policy"]
    if not isinstance(what, str) or not 0 < len(what) <= 200 or not what.isprintable():
        raise ValueError("a boot has no name for people")
    if not isinstance(pcrs, dict):
        raise ValueError("a boot has no registers")
    values = {int(pcr): bytes.fromhex(found) for pcr, found in pcrs.items()}
    if not all(pcr in range(PCRS) and len(found) == SIZE for pcr, found in values.items()):
        raise ValueError("a boot has registers that no TPM has")
    if policy is not None:
        if not isinstance(policy, dict) or policy.keys() != {"name", "version", "bundle"}:
            raise ValueError("a boot's policy is none")
        if not all(isinstance(text, str) for text in policy.values()):
            raise ValueError("a boot's policy is none")
        if not (grammar.is_name(policy["name"]) and grammar.is_version(policy["version"])
                and _HEX.fullmatch(policy["bundle"])):
            raise ValueError("a boot's policy is none")
    return Boot(
        what, values, None if policy is None else AttestedPolicy(
            policy["name"], policy["version"], policy["bundle"]),
        Verdict(value["severity"]), _window(value))


def _rule(value: Mapping[str, Any]) -> Rule:
    if value.keys() != _RULE:
        raise ValueError("a rule has not the members " + ", ".join(sorted(_RULE)))
    kind, values, rollback = Kind(value["event"]), value["values"], value["rollback"]
    if not isinstance(values, dict) or values.keys() != FIELDS[kind].keys():
        raise ValueError(f"a rule for {kind} has not the values {', '.join(FIELDS[kind])}")
    for key, spelling in FIELDS[kind].items():
        text = values[key]
        if not isinstance(text, str) or not (text == ANY or spelling.fullmatch(text)):
            raise ValueError(f"a rule for {kind} has no {key}")
    if type(rollback) is not bool or (rollback and kind is not Kind.POLICY):
        raise ValueError("only a policy can be rolled back")
    return Rule(kind, values, Verdict(value["severity"]), _window(value), rollback)


def _window(value: Mapping[str, object]) -> Window:
    start, end = value["from"], value["until"]
    for time in (start, end):
        if time is not None and (type(time) is not int or not 0 <= time <= _LAST_SECOND):
            raise ValueError("a time is none")
    window = Window(start, end)  # type: ignore[arg-type]
    if window.empty:
        raise ValueError("a window ends before it begins")
    return window


def _empty(found: References, problem: str) -> BadInput:
    return BadInput(
        "reference.empty", f"the reference values {found.name!r} are incomplete: {problem}",
        "`shype attest sign` makes them, of bundles, boots, firmware and the agent's code",
    )


def _corrupt(name: str, problem: str) -> BadInput:
    return BadInput(
        "reference.corrupt", f"the reference values {name!r} are damaged: {problem}",
        "make them again with `shype attest sign`, and copy the file NAME.ref whole",
    )

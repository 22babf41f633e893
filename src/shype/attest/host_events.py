"""What shype itself measures on a host: one register, a small set of events, one spelling.

Each is an EV_EVENT_TAG (TCG PC Client Platform Firmware Profile, 10.4.1: for use by the host's
platform) whose digest is that of its whole data, so what the event says is what was extended: a
tag, a size, and canonical JSON with the kind and what belongs to it. Standard library only.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType

from shype.attest.event_log import SHA256, Event, EventType, measured
from shype.base import canonical
from shype.base.errors import BadInput

#: The register. 8 and 9 are GRUB's; 13 is systemd-stub's for system extensions, which a Xen host
#: started by GRUB never runs; firmware, shim, IMA (10) and disk encryption leave it alone.
PCR = 13
#: TCG_PCClientTaggedEvent.taggedEventID of shype's events ("shyp").
TAG = 0x73687970
#: Largest event's text, bytes.
MAX_TEXT = 4096

_DIGEST = re.compile(r"[0-9a-f]{64}")
#: As policies spell them (`shype.policy.grammar`), in at most 48 characters.
_NAME = re.compile(r"(?=.{1,48}\Z)[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
#: As policies spell them; JSON needs no escapes for these.
_VM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+:@-]{0,127}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VERSION = re.compile(r"(?:0|[1-9][0-9]{0,8})\.(?:0|[1-9][0-9]{0,8})")


class Kind(StrEnum):
    """What happened. The values are in the log and in reference values: they never change."""

    #: The agent starts: ``agent`` the digest of its code.
    AGENT = "agent.start"
    #: A policy was loaded into the hypervisor: ``name``, ``version``, ``bundle`` (the manifest's
    #: digest), ``module`` (of policy.bin).
    POLICY = "policy.load"
    #: The hypervisor's FLASK mode is, or was switched to, ``mode``.
    ENFORCEMENT = "enforcement"
    #: The configuration vector in force is now ``vector``.
    VECTOR = "vector.switch"
    #: A VM starts: ``label``, ``image`` the digest of what it boots.
    LAUNCH = "vm.launch"
    #: A VM that starts gets its TPM: ``vm`` its name, ``uuid``, ``label``, ``ek`` the identity of
    #: the TPM (`shype attest ek` in the VM).
    TPM = "vm.tpm"


#: What each kind says, and how that is spelled: all of it, nothing else.
FIELDS: Mapping[Kind, Mapping[str, re.Pattern[str]]] = MappingProxyType({
    Kind.AGENT: {"agent": _DIGEST},
    Kind.POLICY: {"name": _NAME, "version": _VERSION, "bundle": _DIGEST, "module": _DIGEST},
    Kind.ENFORCEMENT: {"mode": re.compile("enforcing|permissive|disabled")},
    Kind.VECTOR: {"vector": _NAME},
    Kind.LAUNCH: {"label": _NAME, "image": _DIGEST},
    Kind.TPM: {"vm": _VM, "uuid": _UUID, "label": _NAME, "ek": _DIGEST},
})


@dataclass(frozen=True, slots=True)
class HostEvent:
    """One thing that happened on the host."""

    kind: Kind
    values: Mapping[str, str]

    def __str__(self) -> str:
        said = " ".join(
            f"{key}={value[:16] if _DIGEST.fullmatch(value) else value}"
            for key, value in self.values.items())
        return f"{self.kind} {said}"


def to_event(event: HostEvent) -> Event:
    """As the log has it. Raises BadInput (``event-log.host-event``) if it is none of `FIELDS`."""
    text = canonical.dumps({"event": event.kind.value, **event.values})
    tagged = struct.pack("<II", TAG, len(text)) + text
    entry = measured(PCR, EventType.EVENT_TAG, tagged)
    if from_event(entry) != event:
        raise BadInput(
            "event-log.host-event", f"there is no event {event.kind} with {dict(event.values)}",
            "docs/reference/attestation.md has the events and what belongs to each",
        )
    return entry


def from_event(entry: Event) -> HostEvent | None:
    """What an entry of the log says; None if it is no event of shype's, or not bound by its digest.
    """
    if entry.pcr != PCR or entry.type != EventType.EVENT_TAG:
        return None
    digest, event = _read(entry.data)
    return event if entry.digests == ((SHA256, digest),) else None


@lru_cache(maxsize=16_384)  # hosts show the same events again with every quote
def _read(data: bytes) -> tuple[bytes, HostEvent | None]:
    """The digest of an event's data, and what they say."""
    return hashlib.sha256(data).digest(), _said(data)


def _said(data: bytes) -> HostEvent | None:
    if not 8 < len(data) <= MAX_TEXT or data[:8] != struct.pack("<II", TAG, len(data) - 8):
        return None
    for kind, shape in _SHAPES.items():
        found = shape.fullmatch(data, 8)
        if found is None:
            continue
        values = {key: text.decode() for key, text in found.groupdict().items()}
        if all(rule.fullmatch(values[key]) for key, rule in FIELDS[kind].items()):
            return HostEvent(kind, MappingProxyType(values))
    return None


def _shape(kind: Kind) -> re.Pattern[bytes]:
    """The canonical JSON of events of this kind. What `FIELDS` allows needs no escapes in it."""
    text = canonical.dumps({"event": kind.value, **{key: f"<{key}>" for key in FIELDS[kind]}})
    return re.compile(re.sub(rb"<([a-z]+)>", rb"(?P<\1>[A-Za-z0-9_.+:@-]+)", re.escape(text)))


_SHAPES = {kind: _shape(kind) for kind in Kind}

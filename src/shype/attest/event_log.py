"""The event log: what was extended into the TPM's registers, in the order it was.

The format is the crypto agile one of the TCG PC Client Platform Firmware Profile (revision 1.05,
section 10), which firmware, Linux and tpm2_eventlog read and write: a header event in the old
form (TCG_PCR_EVENT with TCG_EfiSpecIDEvent), then TCG_PCR_EVENT2, all numbers little endian.
The log proves nothing by itself: only its replay, compared with a quote, does.
Standard library only: a host writes it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from shype.attest.octets import Reader
from shype.base.errors import BadInput

#: Largest log read, bytes; a firmware's is some 50 KiB, an agent's event some 300 bytes.
MAX_LOG = 8 * 1024 * 1024
#: Most events in a log.
MAX_EVENTS = 32_768
#: Largest data of one event, bytes (firmware logs its whole list of revoked signatures).
MAX_DATA = 256 * 1024
#: Registers of a PC's TPM (Platform TPM Profile, 4.6).
PCRS = 24
#: Size of a register of the bank that shype uses, SHA-256.
SIZE = 32
#: A register after a restart: nothing extended yet; 17 to 22 are those of a late launch (DRTM).
INITIAL: Mapping[int, bytes] = {
    index: (b"\xff" if 17 <= index <= 22 else b"\0") * SIZE for index in range(PCRS)
}

#: Digest sizes by TPM_ALG_ID (TCG Algorithm Registry): SHA-1, 256, 384, 512, SM3, SHA3-256 to 512.
_SIZES = {0x0004: 20, 0x000B: 32, 0x000C: 48, 0x000D: 64, 0x0012: 32,
          0x0027: 32, 0x0028: 48, 0x0029: 64}
SHA256 = 0x000B
_SIGNATURE = b"Spec ID Event03\0"
_LOCALITY = b"StartupLocality\0"
#: How an event begins: register, type, number of digests.
_START = struct.Struct("<III")
#: A whole event with one SHA-256 digest up to its data, as a host's agent writes them all.
_USUAL = struct.Struct(f"<IIIH{SIZE}sI")
#: Platform class client, specification 2.0 errata 5, 64-bit numbers; one bank.
_HEADER = struct.pack("<16sIBBBBIHHB", _SIGNATURE, 0, 0, 2, 105, 2, 1, SHA256, SIZE, 0)


class EventType(IntEnum):
    """Types of events that shype looks at (section 10.4.1); others are kept as numbers."""

    NO_ACTION = 0x3
    SEPARATOR = 0x4
    EVENT_TAG = 0x6
    IPL = 0xD


@dataclass(frozen=True, slots=True)
class Event:
    """One entry: the register, the type, the digests by TPM_ALG_ID, and what was measured.

    ``data`` explains; whether the digest is of it depends on the type.
    """

    pcr: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes

    @property
    def sha256(self) -> bytes | None:
        """The digest that was extended into the SHA-256 bank."""
        for algorithm, digest in self.digests:
            if algorithm == SHA256:
                return digest
        return None


def extended(value: bytes, digest: bytes) -> bytes:
    """A register that held ``value`` after ``digest`` was extended (TPM2_PCR_Extend)."""
    return hashlib.sha256(value + digest).digest()


def measured(pcr: int, kind: int, data: bytes) -> Event:
    """An event whose digest is that of its data."""
    return Event(pcr, kind, ((SHA256, hashlib.sha256(data).digest()),), data)


def header() -> bytes:
    """How a log of the SHA-256 bank begins."""
    return struct.pack("<II20sI", 0, EventType.NO_ACTION, bytes(20), len(_HEADER)) + _HEADER


def encode(event: Event) -> bytes:
    """One TCG_PCR_EVENT2, to be appended to a log."""
    digests = b"".join(struct.pack("<H", alg) + digest for alg, digest in event.digests)
    return (struct.pack("<III", event.pcr, event.type, len(event.digests)) + digests
            + struct.pack("<I", len(event.data)) + event.data)


def dumps(events: Iterable[Event]) -> bytes:
    """A whole log of the SHA-256 bank."""
    return header() + b"".join(encode(event) for event in events)


def loads(data: bytes) -> tuple[Event, ...]:
    """The events of a log after its header, in order.

    Zeros at the end are what firmware leaves unused of its memory.
    Raises BadInput (``event-log.corrupt``) for anything that is no such log, whole.
    """
    if len(data) > MAX_LOG:
        raise _corrupt(f"it is larger than {MAX_LOG} bytes")
    reader = _reader(data)
    banks = _banks(reader)
    events: list[Event] = []
    while reader.left and not reader.only_zeros():
        if len(events) >= MAX_EVENTS:
            raise _corrupt(f"it has more than {MAX_EVENTS} events")
        events.append(_event(reader, banks))
    return tuple(events)


def spelled(data: bytes, events: Iterable[Event]) -> bool:
    """Whether the log ``data``, of which `loads` made ``events``, is as `dumps` writes them.

    An event has one spelling only, so what may differ is the header, and zeros at the end.
    """
    head = header()
    sizes = (16 + sum(2 + len(digest) for _, digest in event.digests) + len(event.data)
             for event in events)
    return data.startswith(head) and len(data) == len(head) + sum(sizes)


def replay(
    events: Iterable[Event], start: Mapping[int, bytes] = INITIAL
) -> dict[int, bytes]:
    """What the SHA-256 bank holds after ``events``, by register; only those that were extended.

    Raises BadInput (``event-log.corrupt``) for an event without a digest of that bank.
    """
    values: dict[int, bytes] = {}
    initial = dict(start)
    no_action = int(EventType.NO_ACTION)  # a plain number compares several times faster
    for event in events:
        if event.type == no_action:
            if (event.pcr == 0 and len(event.data) == 17
                    and event.data.startswith(_LOCALITY) and event.data[16] in (3, 4)):
                initial[0] = bytes(SIZE - 1) + event.data[16:]
            continue
        digest = event.sha256
        if digest is None:
            raise _corrupt("an event has no SHA-256 digest")
        value = values.get(event.pcr)
        values[event.pcr] = extended(initial[event.pcr] if value is None else value, digest)
    return values


def _reader(data: bytes) -> Reader:
    return Reader(data, "little", lambda: _corrupt("it ends in the middle of an event"))


def _banks(reader: Reader) -> dict[int, int]:
    """The header: which digests each event has, and their sizes."""
    pcr, kind, digest = reader.number(4), reader.number(4), reader.take(20)
    if pcr != 0 or kind != EventType.NO_ACTION or any(digest):
        raise _corrupt("it does not begin with the event that says which digests it has")
    head = _reader(reader.take(_bounded(reader.number(4))))
    if head.take(16) != _SIGNATURE:
        raise _corrupt("it is not in the crypto agile format (Spec ID Event03)")
    head.take(8)
    count = head.number(4)
    if not 0 < count <= len(_SIZES):
        raise _corrupt(f"it says that its events have {count} digests")
    banks: dict[int, int] = {}
    for _ in range(count):
        algorithm, size = head.number(2), head.number(2)
        if _SIZES.get(algorithm) != size or algorithm in banks:
            raise _corrupt(f"it has digests of the unknown algorithm {algorithm:#06x}")
        banks[algorithm] = size
    head.take(head.number(1))
    if head.left:
        raise _corrupt("its first event is longer than it says")
    return banks


def _event(reader: Reader, banks: Mapping[int, int]) -> Event:
    usual = _usual(reader) if SHA256 in banks else None
    return usual or _any(reader, banks)


def _usual(reader: Reader) -> Event | None:
    """The next event if it is of the usual form and nothing is wrong with it: several times faster
    than `_any`, to which all others are left."""
    data, at = reader.data, reader.at
    begin = at + _USUAL.size
    if begin > len(data):
        return None
    pcr, kind, count, algorithm, digest, size = _USUAL.unpack_from(data, at)
    end = begin + size
    if count != 1 or algorithm != SHA256 or pcr >= PCRS or size > MAX_DATA or end > len(data):
        return None
    reader.at = end
    return Event(pcr, kind, ((SHA256, digest),), data[begin:end])


def _any(reader: Reader, banks: Mapping[int, int]) -> Event:
    pcr, kind, count = _START.unpack(reader.take(_START.size))
    if pcr >= PCRS:
        raise _corrupt(f"an event is of the register {pcr}, which no TPM has")
    if count > len(banks):
        raise _corrupt("an event has more digests than the log has kinds of them")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = reader.number(2)
        if algorithm not in banks or algorithm in digests:
            raise _corrupt(f"an event has a digest of the kind {algorithm:#06x} too many")
        digests[algorithm] = reader.take(banks[algorithm])
    return Event(pcr, kind, tuple(digests.items()), reader.take(_bounded(reader.number(4))))


def _bounded(size: int) -> int:
    if size > MAX_DATA:
        raise _corrupt(f"an event has {size} bytes of data")
    return size


def _corrupt(problem: str) -> BadInput:
    return BadInput(
        "event-log.corrupt", f"the event log is damaged: {problem}",
        "get the evidence from the host again; if that does not help, somebody changed its log",
    )

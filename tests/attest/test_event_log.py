"""The event log: what is written is read, by tpm2_eventlog too; no damaged byte gets through."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.attest import event_log
from shype.attest.event_log import MAX_DATA, SHA256, Event, EventType, dumps, loads, replay
from shype.attest.host_events import FIELDS, PCR, HostEvent, Kind, from_event, to_event
from shype.base.errors import BadInput
from shype.policy import grammar
from tests.attest.logs import ALL, TPM, chain
from tests.attest.software_tpm import SoftwareTpm

events = st.lists(st.builds(
    event_log.measured, st.integers(0, 23), st.integers(4, 0xFFFFFFFF), st.binary(max_size=40)),
    max_size=12)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(events)
def test_what_is_written_is_read(entries: list[Event]) -> None:
    data = dumps(entries)
    assert loads(data) == tuple(entries)
    assert loads(data + bytes(100)) == tuple(entries), "memory that firmware left unused"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(events)
def test_replay_is_a_chain_of_hashes_for_each_register(entries: list[Event]) -> None:
    values = replay(entries)
    assert set(values) == {entry.pcr for entry in entries}
    for pcr, value in values.items():
        first = b"\xff" * 32 if 17 <= pcr <= 22 else bytes(32)
        digests = [hashlib.sha256(entry.data).digest() for entry in entries if entry.pcr == pcr]
        assert value == chain(digests, first)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(events, st.binary(max_size=3), st.integers(0, 200), st.integers(0, 255))
def test_spelled_is_what_dumps_writes(
    entries: list[Event], more: bytes, at: int, byte: int,
) -> None:
    data = bytearray(dumps(entries) + more)
    data[at % len(data)] = byte
    try:
        found = loads(bytes(data))
    except BadInput:
        return
    assert event_log.spelled(bytes(data), found) == (dumps(found) == data)


def test_another_header_and_zeros_at_the_end_are_not_spelled_so() -> None:
    entries = [to_event(event) for event in ALL]
    data = dumps(entries)
    assert event_log.spelled(data, entries)
    assert not event_log.spelled(data + bytes(8), loads(data + bytes(8)))
    other = bytearray(data)
    other[48] ^= 1  # the platform's class, which `loads` does not look at
    assert loads(bytes(other)) == tuple(entries)
    assert not event_log.spelled(bytes(other), entries)


def test_replay_is_what_a_tpm_does(own_tpm: SoftwareTpm) -> None:
    rng = random.Random(7)
    entries = [event_log.measured(rng.randrange(17), 4, rng.randbytes(9)) for _ in range(40)]
    entries += [to_event(event) for event in ALL]
    with own_tpm.open() as chip:
        for entry in entries:
            assert entry.sha256 is not None
            chip.pcr_extend(entry.pcr, entry.sha256)
        values = replay(loads(dumps(entries)))
        assert chip.pcr_read(values) == values


def test_what_is_noted_only_is_not_replayed() -> None:
    note = event_log.measured(3, EventType.NO_ACTION, b"x")
    assert replay([note]) == {}
    locality = Event(0, EventType.NO_ACTION, ((SHA256, bytes(32)),), b"StartupLocality\0\x03")
    other = event_log.measured(0, EventType.SEPARATOR, b"y")
    assert replay([locality, other])[0] == chain(
        [hashlib.sha256(b"y").digest()], bytes(31) + b"\x03")
    wrong = Event(0, EventType.NO_ACTION, ((SHA256, bytes(32)),), b"StartupLocality\0\x07")
    assert replay([wrong, other])[0] == chain([hashlib.sha256(b"y").digest()])


@pytest.mark.skipif(shutil.which("tpm2_eventlog") is None, reason="no tpm2-tools")
def test_tpm2_tools_read_the_same(tmp_path: Path) -> None:
    entries = [event_log.measured(8, EventType.IPL, b"grub_cmd: multiboot2 xen\0"),
               *(to_event(event) for event in ALL)]
    file = tmp_path / "log"
    file.write_bytes(dumps(entries))
    done = subprocess.run(["tpm2_eventlog", file], capture_output=True, text=True, check=True)
    assert done.stdout.count("EventNum:") == 1 + len(entries)
    shown = done.stdout[done.stdout.index("\npcrs:"):]
    pcrs = {int(n): bytes.fromhex(value)
            for n, value in re.findall(r"^\s+(\d+)\s*: 0x([0-9a-f]{64})$", shown, re.MULTILINE)}
    assert pcrs == replay(entries)


def test_a_firmware_s_log_with_more_digests_is_read() -> None:
    head = struct.pack("<16sIBBBBIHHHHB", b"Spec ID Event03\0", 0, 0, 2, 0, 2, 2,
                       0x4, 20, 0xB, 32, 3) + b"abc"
    log = struct.pack("<II20sI", 0, 3, bytes(20), len(head)) + head
    digests = ((4, b"\1" * 20), (0xB, b"\2" * 32))
    entry = Event(7, 0x80000001, digests, b"SecureBoot")
    assert loads(log + event_log.encode(entry)) == (entry,)
    assert entry.sha256 == b"\2" * 32
    with pytest.raises(BadInput):  # a digest is missing that the replay needs
        replay([Event(7, 1, digests[:1], b"")])


def test_a_log_of_another_bank_has_no_event_of_the_usual_form() -> None:
    head = struct.pack("<16sIBBBBIHHB", b"Spec ID Event03\0", 0, 0, 2, 0, 2, 1, 0x4, 20, 0)
    log = struct.pack("<II20sI", 0, 3, bytes(20), len(head)) + head
    with pytest.raises(BadInput, match="of the kind 0x000b"):
        loads(log + event_log.encode(event_log.measured(7, 4, b"x")))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(events, st.integers(0, 2000), st.binary(min_size=1, max_size=4))
def test_the_quick_way_reads_what_the_long_one_reads(
    entries: list[Event], at: int, put: bytes,
) -> None:
    data = bytearray(dumps(entries))
    at %= len(data)
    data[at:at + len(put)] = put

    def read() -> tuple[Event, ...] | str:
        try:
            return loads(bytes(data))
        except BadInput as error:
            return error.message
    quick = read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_log, "_usual", lambda reader: None)
        assert read() == quick


GOOD = dumps([to_event(event) for event in ALL])
HEAD = len(event_log.header())


def _patched(at: int, data: bytes) -> bytes:
    return GOOD[:at] + data + GOOD[at + len(data):]


@pytest.mark.parametrize(("data", "what"), [
    (b"", "ends"), (b"\0" * 40, "begin"), (b"\x1f\x8b" + GOOD, "begin"), (GOOD[:-1], "ends"),
    (GOOD + b"\1", "ends"), (GOOD[:HEAD - 1], "ends"), (_patched(0, b"\1"), "begin"),
    (_patched(4, b"\4"), "begin"), (_patched(8, b"\1"), "begin"),
    (_patched(28, struct.pack("<I", 1 << 31)), "bytes of data"),
    (_patched(32, b"Spec ID Event02"), "format"), (_patched(56, b"\0"), "have 0 digests"),
    (_patched(56, b"\xff\xff"), "digests"), (_patched(60, b"\x0c"), "unknown"),
    (_patched(62, b"\x14"), "unknown"), (_patched(64, b"\1"), "ends"),
    (_patched(28, struct.pack("<I", 34)), "longer"),
    (_patched(HEAD, b"\x18"), "register"), (_patched(HEAD + 3, b"\xff"), "register"),
    (_patched(HEAD + 8, b"\2"), "more digests"), (_patched(HEAD + 12, b"\4"), "too many"),
    (_patched(HEAD + 46, struct.pack("<I", MAX_DATA + 1)), "bytes of data"),
    (_patched(HEAD + 46, struct.pack("<I", MAX_DATA)), "ends"),
    (bytes(event_log.MAX_LOG + 1), "larger"),
])
def test_a_damaged_log_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(BadInput) as caught:
        loads(data)
    assert caught.value.id == "event-log.corrupt"
    assert what in caught.value.message


def test_a_log_without_end_is_refused() -> None:
    one = event_log.encode(Event(1, 4, ((SHA256, bytes(32)),), b""))
    with pytest.raises(BadInput, match="more than"):
        loads(event_log.header() + one * (event_log.MAX_EVENTS + 1))


def test_mutations_are_refused_or_replay_to_something_else() -> None:
    rng = random.Random(30)
    want = replay(loads(GOOD))
    for _ in range(4000):
        data = bytearray(GOOD)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            match rng.randrange(3):
                case 0:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at:at + rng.randint(1, 50)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 8))
        try:
            found = loads(bytes(data))
            values = replay(found)
        except BadInput:
            continue
        # What says something else is bound to have another digest, or is no event of shype's.
        if values == want:
            said = [event for entry in found if (event := from_event(entry)) is not None]
            assert all(event in ALL for event in said)


@pytest.mark.parametrize("event", ALL, ids=lambda event: event.kind)
def test_host_events_are_written_and_read(event: HostEvent) -> None:
    entry = to_event(event)
    assert from_event(entry) == event
    assert entry.pcr == PCR
    assert entry.sha256 == hashlib.sha256(entry.data).digest()
    assert str(event).startswith(event.kind.value)


@pytest.mark.parametrize("vm", ["Web_1.a+b:c@d-E", "_", "9" * 128])
def test_the_names_of_vms_are_those_of_policies(vm: str) -> None:
    event = HostEvent(Kind.TPM, {**TPM.values, "vm": vm})
    assert grammar.is_vm(vm)
    assert from_event(to_event(event)) == event


def test_there_is_one_of_each_kind() -> None:
    assert {event.kind for event in ALL} == set(Kind) == set(FIELDS)


@pytest.mark.parametrize("event", [
    HostEvent(Kind.AGENT, {}), HostEvent(Kind.AGENT, {"agent": "AA" * 32}),
    HostEvent(Kind.AGENT, {"agent": "aa" * 32, "more": "x"}),
    HostEvent(Kind.ENFORCEMENT, {"mode": "Enforcing"}),
    HostEvent(Kind.TPM, {**TPM.values, "vm": 'a"b'}),
    HostEvent(Kind.TPM, {**TPM.values, "vm": "v" * 129}),
    HostEvent(Kind.TPM, {**TPM.values, "uuid": "5E1F0000-0000-4000-8000-00000000000A"}),
    HostEvent(Kind.LAUNCH, {"label": "a\nb", "image": "aa" * 32}),
    HostEvent(Kind.LAUNCH, {"label": "x" * 200, "image": "aa" * 32}),
], ids=str)
def test_what_no_event_says_cannot_be_measured(event: HostEvent) -> None:
    with pytest.raises(BadInput) as caught:
        to_event(event)
    assert caught.value.id == "event-log.host-event"


@pytest.mark.parametrize("data", [
    b"", b"12345678", struct.pack("<II", 1, 2) + b"{}", struct.pack("<II", 0x73687970, 3) + b"{}",
    struct.pack("<II", 0x73687970, 2) + b"{}", struct.pack("<II", 0x73687970, 2) + b"[]",
    struct.pack("<II", 0x73687970, 2000) + b"[" * 2000, struct.pack("<II", 0x73687970, 1) + b"\xff",
    struct.pack("<II", 0x73687970, 15) + b'{"event":"what"',
    to_event(ALL[0]).data + b" ", to_event(ALL[0]).data.replace(b'"agent.start"', b'["agent"]'),
])
def test_what_is_no_host_event_is_none(data: bytes) -> None:
    assert from_event(event_log.measured(PCR, EventType.EVENT_TAG, data)) is None


def test_a_host_event_whose_digest_is_of_something_else_is_none() -> None:
    good = to_event(ALL[0])
    assert from_event(Event(good.pcr, good.type, ((SHA256, bytes(32)),), good.data)) is None
    assert from_event(Event(12, good.type, good.digests, good.data)) is None
    assert from_event(Event(good.pcr, 4, good.digests, good.data)) is None

"""What an agent measures is in the register and in the log, or in neither, whenever it dies."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.attest import agent_code, event_log, host_events
from shype.attest.event_log import INITIAL, extended
from shype.attest.host_events import PCR, HostEvent, Kind
from shype.attest.measuring import PENDING, TpmMeasurer, fingerprint
from shype.base.errors import Unavailable
from shype.policy.manifest import Manifest
from tests.attest.software_tpm import SoftwareTpm
from tests.host.builders import bundle

STEPS = ("recorded", "extended", "logged", "finished")


class Died(BaseException):
    """The process is gone."""


@dataclass
class Registers:
    """A TPM of one register."""

    value: bytes = INITIAL[PCR]
    extends: int = 0
    there: bool = True

    def pcr_read(self, pcrs: Iterable[int]) -> dict[int, bytes]:
        assert list(pcrs) == [PCR]
        return {PCR: self.value}

    def pcr_extend(self, pcr: int, digest: bytes) -> None:
        assert pcr == PCR
        self.value = extended(self.value, digest)
        self.extends += 1

    @contextlib.contextmanager
    def open(self) -> Iterator[Registers]:
        if not self.there:
            raise Unavailable("tpm.absent", "there is no TPM")
        yield self


@dataclass
class Host:
    """A host that can be rebooted, and whose agent can be killed."""

    directory: Path
    tpm: Registers = field(default_factory=Registers)
    boot: str = "boot-1"
    dies_at: str | None = None
    #: Events that were begun, and so must be found.
    begun: int = 0

    def measurer(self) -> TpmMeasurer:
        def step(name: str) -> None:
            self.begun += name == "recorded"
            if name == self.dies_at:
                raise Died
        return TpmMeasurer(self.directory, self.tpm.open, lambda: self.boot, step)

    def events(self) -> list[HostEvent]:
        """What the log of this boot says; its replay is what the register holds."""
        log = event_log.loads(self.measurer().log())
        assert event_log.replay(log).get(PCR, INITIAL[PCR]) == self.tpm.value
        found = [host_events.from_event(event) for event in log]
        return [one for one in found if one is not None]

    def reboot(self) -> None:
        self.tpm.value = INITIAL[PCR]
        self.boot = f"boot-{int(self.boot[5:]) + 1}"


@pytest.fixture(scope="module", name="manifest")
def manifest_(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return bundle(tmp_path_factory.mktemp("bundle")).manifest


@pytest.fixture(name="host")
def host_(tmp_path: Path) -> Host:
    return Host(tmp_path)


def kinds(host: Host) -> list[Kind]:
    return [event.kind for event in host.events()]


def test_what_is_new_is_measured_once(host: Host, manifest: Manifest) -> None:
    for _ in range(3):
        host.measurer().observe(manifest, "enforcing")
    assert kinds(host) == [Kind.AGENT, Kind.POLICY, Kind.ENFORCEMENT]
    agent, policy, _ = host.events()
    assert agent.values["agent"] == agent_code.digest()
    assert (policy.values["name"], policy.values["bundle"]) == ("banks", manifest.digest)
    host.measurer().observe(manifest, "permissive")
    host.measurer().observe(manifest, "enforcing")
    modes = [event.values["mode"] for event in host.events()[2:]]
    assert modes == ["enforcing", "permissive", "enforcing"]


def test_a_new_boot_begins_a_new_log(host: Host, manifest: Manifest) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    host.reboot()
    assert host.events() == []
    host.measurer().observe(manifest, "enforcing")
    assert kinds(host) == [Kind.AGENT, Kind.POLICY, Kind.ENFORCEMENT]


def test_a_load_is_measured_each_time(host: Host, manifest: Manifest) -> None:
    host.measurer().observe(manifest, "enforcing")
    host.measurer().load(manifest)
    host.measurer().observe(manifest, "enforcing")
    assert kinds(host)[3:] == [Kind.POLICY]


@pytest.mark.parametrize("step", STEPS)
def test_an_agent_that_dies_in_an_event_leaves_it_to_the_next(host: Host, step: str) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    host.dies_at = step
    with pytest.raises(Died):
        host.measurer().launch("bank-b-db", "cd" * 32)
    host.dies_at = None
    assert [event.values["label"] for event in host.events()] == ["bank-a-db", "bank-b-db"]
    assert host.tpm.extends == 2
    assert not (host.directory / PENDING).exists()


def test_half_an_entry_is_completed(host: Host) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    host.dies_at = "extended"
    with pytest.raises(Died):
        host.measurer().launch("bank-b-db", "cd" * 32)
    host.dies_at = None
    with host.measurer().path.open("ab") as log:
        log.write(b"\x0d\0\0\0\x06")  # the machine stopped while the entry was written
    assert len(host.events()) == 2


def test_an_event_of_another_boot_is_dropped(host: Host) -> None:
    host.dies_at = "recorded"
    with pytest.raises(Died):
        host.measurer().launch("bank-b-db", "cd" * 32)
    host.dies_at = None
    host.reboot()
    assert host.events() == []


@settings(max_examples=60, deadline=None)
@given(acts=st.lists(st.sampled_from((*STEPS, "launch", "reboot", "dark")), max_size=12))
def test_any_life(tmp_path_factory: pytest.TempPathFactory, acts: list[str]) -> None:
    """Events measured, agents killed, reboots, a TPM that is away: never one lost or twice."""
    host = Host(tmp_path_factory.mktemp("host"))
    expected: list[str] = []
    for number, act in enumerate(acts):
        label = f"l{number}"
        host.tpm.there = act != "dark"
        host.dies_at = act if act in STEPS else None
        if act == "reboot":
            host.reboot()
            expected = []
            continue
        begun = host.begun
        with contextlib.suppress(Died, Unavailable):  # perhaps while it completes the one before
            host.measurer().launch(label, "ab" * 32)
        if host.begun > begun:
            expected.append(label)
    host.tpm.there, host.dies_at = True, None
    assert [event.values["label"] for event in host.events()] == expected


def test_whoever_else_extends_the_register_is_found(host: Host) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    host.tpm.pcr_extend(PCR, bytes(32))
    for act in (lambda: host.measurer().launch("bank-a-db", "ab" * 32), host.measurer().log):
        with pytest.raises(Unavailable) as caught:
            act()
        assert caught.value.id == "event-log.diverged"


def test_a_log_that_lost_an_event_is_found(host: Host) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    size = host.measurer().path.stat().st_size
    host.measurer().launch("bank-b-db", "ab" * 32)
    with host.measurer().path.open("r+b") as log:
        log.truncate(size)
    with pytest.raises(Unavailable) as caught:
        host.measurer().log()
    assert caught.value.id == "event-log.diverged"


def test_a_damaged_record_is_found(host: Host) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    (host.directory / PENDING).write_text(json.dumps({"boot": host.boot}))
    with pytest.raises(Unavailable) as caught:
        host.measurer().launch("bank-a-db", "ab" * 32)
    assert caught.value.id == "event-log.diverged"


def test_without_a_tpm_nothing_is_claimed(host: Host) -> None:
    host.tpm.there = False
    with pytest.raises(Unavailable) as caught:
        host.measurer().launch("bank-a-db", "ab" * 32)
    assert caught.value.id == "tpm.absent"
    host.tpm.there = True
    assert host.events() == []


def test_with_a_real_tpm(own_tpm: SoftwareTpm, tmp_path: Path, manifest: Manifest) -> None:
    boots = iter(("one", "two"))
    for _ in range(2):
        boot = next(boots)
        measurer = TpmMeasurer(tmp_path, own_tpm.open, lambda boot=boot: boot)  # type: ignore[misc]
        measurer.observe(manifest, "enforcing")
        measurer.launch("bank-a-db", "ab" * 32)
        events = event_log.loads(measurer.log())
        with own_tpm.open() as tpm:
            assert tpm.pcr_read([PCR]) == {PCR: event_log.replay(events)[PCR]}
        assert len(events) == 4
        own_tpm.reboot()


def test_changed_code_is_seen_without_reading_it(tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    seen = fingerprint(tmp_path)
    (tmp_path / "__pycache__/x.pyc").write_text("left out")
    assert fingerprint(tmp_path) == seen
    (tmp_path / "x.py").write_text("2")
    assert fingerprint(tmp_path) != seen


def test_a_lost_log_is_found(host: Host) -> None:
    host.measurer().launch("bank-a-db", "ab" * 32)
    host.measurer().path.unlink()
    with pytest.raises(Unavailable) as caught:
        host.measurer().launch("bank-a-db", "ab" * 32)
    assert caught.value.id == "event-log.diverged"

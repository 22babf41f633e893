"""A VM gets its own TPM at each start, and no other one."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.reader import records
from shype.host.hypervisor import Ending
from shype.host.launch import Step, catch_up, launch
from shype.host.vtpm import commands, gather, swtpm
from shype.host.vtpm.places import FIRST_USER, KEYS, TpmPlaces
from shype.policy.names import LabelName
from tests.host.builders import config, model
from tests.host.invariants import assert_sound, guests
from tests.host.test_measured import Notes
from tests.host.vtpm.desks import (
    OTHER,
    UUID,
    Desk,
    guest,
    halt,
    kill,
    of,
    owner,
    run,
    serving,
)

RANDOM = bytes.fromhex("80010000000c0000017b0008")
ROOT = os.geteuid() == 0


def kinds(agent: Agent, start: str = "vtpm") -> list[str]:
    return [record.body["kind"] for record in records(agent.trail.directory)
            if record.body["kind"].startswith(start)]


def test_a_vm_talks_to_a_tpm_with_the_identity_that_is_on_record(desk: Desk) -> None:
    _, agent = desk
    assert run(desk).domid == 1
    with guest(agent) as tpm:
        assert commands.identity(commands.ek_public(tpm)) == owner(agent).ek
    assert (owner(agent).vm, owner(agent).label, owner(agent).domid) == ("desk", "desk", 1)
    told, = (r.body for r in records(agent.trail.directory) if r.body["kind"] == "vtpm")
    assert told["details"] == {"uuid": UUID, "ek": owner(agent).ek, "new": True}


def test_it_is_the_same_tpm_after_a_stop_and_a_start(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    first = owner(agent).ek
    halt(desk)
    assert serving(agent) is None
    assert run(desk).domid == 2
    with guest(agent) as tpm:
        assert commands.identity(commands.ek_public(tpm)) == first


def test_a_guest_that_reboots_gets_it_again(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    before = serving(agent)
    model(agent).end(1, Ending.REBOOT)
    with agent.lock.hold(1):
        catch_up(agent)
    assert guests(agent) == {"desk": "desk"}
    assert serving(agent) not in (None, before)
    with guest(agent) as tpm:
        assert commands.identity(commands.ek_public(tpm)) == owner(agent).ek


def test_a_command_that_comes_in_pieces_is_one(desk: Desk) -> None:
    """As a console hands on what is longer than 256 bytes; TPM2_Hash of a thousand."""
    run(desk)
    command = struct.pack(">HIIH", 0x8001, 1018, 0x17D, 1000) + bytes(1000) + struct.pack(
        ">HI", 0x000B, 0x40000007)
    with guest(desk[1]) as tpm:
        for _ in range(2):
            for start in range(0, len(command), 256):
                tpm.sendall(command[start:start + 256])
                time.sleep(0.05)
            assert tpm.recv(4096)[6:10] == bytes(4)
        tpm.sendall(RANDOM * 20)  # several at once are several
        answers = b""
        while len(answers) < 400:
            answers += tpm.recv(4096)
        assert {answers[start:start + 10] for start in range(0, 400, 20)} == {
            struct.pack(">HII", 0x8001, 20, 0)}


def test_what_hands_the_commands_on_is_killed_and_that_is_a_loss(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    kill(agent, lock=gather.LOCK)
    with agent.lock.hold(1):
        catch_up(agent)
    assert kinds(agent).count("vtpm.lost") == 1
    halt(desk)
    assert serving(agent) is None
    assert run(desk).domid == 2
    assert serving(agent, lock=gather.LOCK) is not None
    halt(desk)
    assert serving(agent, lock=gather.LOCK) is None
    assert kinds(agent).count("vtpm.lost") == 1


def test_without_what_hands_the_commands_on_no_vm_starts(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent = desk
    for program in ("/bin/false", "/nowhere/python3"):
        monkeypatch.setattr(swtpm, "PYTHON", program)
        with pytest.raises(Unavailable) as caught:
            run(desk)
        assert caught.value.id == "vtpm.failed"
        assert guests(agent) == {}
        assert serving(agent) is None
    assert_sound(agent)


def test_a_guest_that_hangs_up_has_not_lost_its_tpm(desk: Desk) -> None:
    """Its device model ends with it, before the agent looks."""
    _, agent = desk
    run(desk)
    guest(agent).close()
    time.sleep(0.3)
    with agent.lock.hold(1):
        catch_up(agent)
    assert kinds(agent) == ["vtpm"]


def test_registers_are_empty_after_a_start(desk: Desk) -> None:
    _, agent = desk
    # TPM2_PCR_Extend of register 13, with SHA-256; then TPM2_PCR_Read
    extend = struct.pack(">HIIIIIHBHIH", 0x8002, 65, 0x182, 13, 9, 0x40000009, 0, 0, 0, 1, 11)
    read = struct.pack(">HIIIHB", 0x8001, 20, 0x17E, 1, 11, 3) + b"\0\x20\0"
    values = []
    for _ in range(2):
        run(desk)
        with guest(agent) as tpm:
            tpm.sendall(read)
            values.append(tpm.recv(4096)[-32:])
            tpm.sendall(extend + bytes(range(32)))
            assert tpm.recv(4096)[6:10] == bytes(4)
            tpm.sendall(read)
            values.append(tpm.recv(4096)[-32:])
        halt(desk)
    assert values[0] == values[2] == bytes(32)
    assert values[1] == values[3] != bytes(32)


def test_a_guest_cannot_exchange_its_identity(desk: Desk) -> None:
    """TPM2_ChangeEPS needs the platform hierarchy, which is off before the guest can speak."""
    run(desk)
    command = struct.pack(">III", 0x4000000C, 9, 0x40000009) + bytes(5)
    with guest(desk[1]) as tpm:
        tpm.sendall(struct.pack(">HII", 0x8002, 10 + len(command), 0x124) + command)
        assert struct.unpack(">I", tpm.recv(4096)[6:10]) == (0x185,)  # TPM_RC_HIERARCHY, handle 1


def test_no_process_is_left_and_no_vm_without_its_label(desk: Desk) -> None:
    _, agent = desk
    assert run(desk, "plain", OTHER).domid == 1
    with pytest.raises(KeyError):
        model(agent).channels.guest("plain")
    assert TpmPlaces(agent.state).all() == ()


@pytest.mark.skipif(not ROOT, reason="another user's process takes root to start")
def test_each_process_is_a_user_of_its_own_without_rights(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    run(desk, "toy", OTHER)
    pids = [serving(agent), serving(agent, OTHER)]
    for seat, pid in enumerate(pids):
        status = dict(line.split(":", 1) for line in
                      Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(FIRST_USER + seat)}
        assert status["Groups"].split() == []
        assert int(status["CapEff"], 16) == 0
        assert status["Seccomp"].strip() == "2"  # swtpm's own filter
    assert TpmPlaces(agent.state).state(UUID).stat().st_mode & 0o777 == 0o700


def test_without_swtpm_the_vm_does_not_start_and_that_is_no_denial(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swtpm, "PROGRAM", "swtpm-that-is-not-there")
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.missing"
    assert guests(desk[1]) == {}
    assert run(desk, "plain", OTHER).domid == 1


def test_a_swtpm_that_fails_is_told_with_what_it_said(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "swtpm"
    broken.write_text("#!/bin/sh\necho no such library >&2\nexit 1\n")
    broken.chmod(0o755)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)  # it is run by the TPM's user
    monkeypatch.setattr(swtpm, "PROGRAM", str(broken))
    with pytest.raises(Unavailable, match=r"no such library|Permission") as caught:
        run(desk)
    assert caught.value.id == "vtpm.failed"
    assert guests(desk[1]) == {}
    assert_sound(desk[1])


@pytest.mark.parametrize("state", [b"x" * 5000, b"\0" * 100])
def test_state_that_swtpm_cannot_load_is_damaged_and_told_in_one_line(
    desk: Desk, state: bytes
) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    (TpmPlaces(agent.state).state(UUID) / KEYS).write_bytes(state)
    with pytest.raises(Unavailable, match="cannot load the state of desk's TPM") as caught:
        run(desk)
    assert caught.value.id == "vtpm.damaged"
    assert "backup" in caught.value.fix
    assert "\n" not in caught.value.message
    assert guests(agent) == {}
    assert_sound(agent)


def test_what_a_swtpm_that_fails_says_is_one_short_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = desk[0] / "swtpm"
    broken.write_text("#!/bin/sh\nfor i in $(seq 200); do echo line  $i; done\nexit 1\n")
    broken.chmod(0o755)
    desk[0].chmod(0o755)
    monkeypatch.setattr(swtpm, "PROGRAM", str(broken))
    with pytest.raises(Unavailable, match="line 199 / line 200") as caught:
        run(desk)
    assert caught.value.id == "vtpm.failed"
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


def test_a_configuration_without_a_uuid_is_refused_with_the_line_to_add(desk: Desk) -> None:
    place, agent = desk
    with pytest.raises(BadInput) as caught:
        launch(agent, config(place, "desk"))
    assert caught.value.id == "vtpm.uuid"
    assert TpmPlaces(agent.state).all() == ()
    line = caught.value.fix.partition(": ")[2]
    assert launch(agent, config(place, "desk", line)).domid == 1


def test_what_serves_is_killed_and_that_is_on_record_once(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    with guest(agent) as tpm:
        tpm.sendall(RANDOM)
        assert len(tpm.recv(100)) == 20
        kill(agent)
        assert tpm.recv(100) == b""
    for _ in range(2):
        with agent.lock.hold(1):
            catch_up(agent)
    assert guests(agent) == {"desk": "desk"}
    assert kinds(agent).count("vtpm.lost") == 1
    assert owner(agent).lost
    halt(desk)
    assert run(desk).domid == 2
    assert not owner(agent).lost
    halt(desk)
    assert kinds(agent).count("vtpm.lost") == 1


def test_a_loss_is_on_record_even_if_the_vm_is_gone_when_somebody_looks(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    kill(agent)
    halt(desk)
    assert kinds(agent).count("vtpm.lost") == 1
    assert owner(agent).domid == -1


def test_a_vm_destroyed_behind_our_back_leaves_no_process_after_the_next_command(
    desk: Desk
) -> None:
    _, agent = desk
    run(desk)
    model(agent).destroy(1)
    assert serving(agent) is not None
    with agent.lock.hold(1):
        catch_up(agent)
    assert serving(agent) is None
    assert kinds(agent) == ["vtpm"]


@pytest.mark.parametrize("step", [Step.PREPARED, Step.CREATED, Step.CLOSED, Step.KEPT])
def test_a_launch_that_breaks_off_leaves_no_process(desk: Desk, step: Step) -> None:
    place, agent = desk

    def stumble(now: Step) -> None:
        if now is step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(agent, config(place, "desk", of(UUID)), observer=stumble)
    assert guests(agent) == {}
    assert serving(agent) is None
    assert run(desk).domid is not None


@pytest.mark.parametrize("left", ["record", "directory", "state"])
def test_a_first_start_that_was_killed_is_gone_on_with(desk: Desk, left: str) -> None:
    """Between the record, the directory, its owner, and the identity in the record."""
    _, agent = desk
    places = TpmPlaces(agent.state)
    fresh = places.new("desk", UUID, LabelName("desk"))
    if left == "directory":
        places.state(UUID).mkdir(mode=0o700)
    elif left == "state":
        served = swtpm.start(places, fresh)
        with swtpm.asked(served) as tpm:
            commands.ek_public(tpm)
        served.leave()  # killed: it goes on
    assert serving(agent) is None or left == "state"
    assert run(desk).domid == 1
    with guest(agent) as tpm:
        assert commands.identity(commands.ek_public(tpm)) == owner(agent).ek


def test_a_device_model_that_does_not_listen_starts_no_vm(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent = desk
    monkeypatch.setattr("shype.host.vtpm.serving._LISTENING", 0.0)

    def forgotten(self: object, address: str) -> None:
        Path(address).touch()

    monkeypatch.setattr(socket.socket, "bind", forgotten)
    monkeypatch.setattr(socket.socket, "listen", lambda self, backlog: None)
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.failed"
    assert guests(agent) == {}
    assert serving(agent) is None


def test_the_identity_is_measured_after_the_launch_and_before_the_vm_is_built(desk: Desk) -> None:
    place, agent = desk
    notes = Notes()
    agent = replace(agent, measurer=notes)
    said: list[list[tuple[str, ...]]] = []

    def watch(step: Step) -> None:
        if step is Step.PREPARED:
            said.append(list(notes.said))

    launch(agent, config(place, "desk", of(UUID)), observer=watch)
    (first, second), = said
    assert first[:2] == ("launch", "desk")
    assert second == ("tpm", "desk", UUID, "desk", owner(agent).ek)

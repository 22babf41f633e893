"""What TPMs there are, and that none is destroyed by mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.agent import Agent
from shype.host.audit.reader import records
from shype.host.points import Point
from shype.host.status import status
from shype.host.vtpm import swtpm
from shype.host.vtpm.kept import State, remove, tpms
from shype.host.vtpm.places import KEYS, TpmPlaces
from tests.host.vtpm.desks import OTHER, UUID, Desk, all_ended, at_work, halt, kill, owner, run


def states(agent: Agent) -> dict[str, State]:
    return {tpm.uuid: tpm.state for tpm in tpms(agent)}


def test_each_is_served_kept_lost_or_damaged(desk: Desk) -> None:
    _, agent = desk
    assert tpms(agent) == ()
    run(desk)
    run(desk, "toy", OTHER)
    assert states(agent) == {UUID: State.SERVED, OTHER: State.SERVED}
    halt(desk)
    assert states(agent) == {UUID: State.KEPT, OTHER: State.SERVED}
    kill(agent, OTHER)
    (TpmPlaces(agent.state).directory / f"{UUID}.json").write_text("[]")
    assert states(agent) == {UUID: State.DAMAGED, OTHER: State.LOST}
    told = {tpm.uuid: tpm.to_json() for tpm in tpms(agent)}
    assert told[OTHER]["ek"] == owner(agent, OTHER).ek
    assert told[UUID]["error"]["error"] == "vtpm.damaged"  # type: ignore[index]


def test_a_vm_that_runs_without_any_trace_of_its_tpm_is_told(desk: Desk) -> None:
    place, agent = desk
    run(desk)
    run(desk, "plain", OTHER)
    places = TpmPlaces(agent.state)
    places.directory.rename(place / "away")
    assert states(agent) == {UUID: State.DAMAGED}
    assert "desk runs" in str(tpms(agent)[0].error)
    (place / "away").rename(places.directory)
    assert states(agent) == {UUID: State.SERVED}


def test_status_tells_what_is_lost_and_where_none_can_be_had(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, agent = desk

    def point() -> Point:
        return next(point for point in status(agent).points if point.name == "TPMs of VMs")

    run(desk)
    assert point() == Point("TPMs of VMs", True, "1 served, 0 kept")
    kill(agent)
    assert point().wrong
    assert "desk (lost)" in point().said
    halt(desk)
    assert point() == Point("TPMs of VMs", True, "0 served, 1 kept")
    monkeypatch.setattr(swtpm, "PROGRAM", "swtpm-that-is-not-there")
    assert point().wrong
    assert "[vtpm.missing]" in point().said


@pytest.mark.parametrize("spoil", [
    "gone", "empty", "link",
    pytest.param("owner", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root"))])
def test_a_tpm_whose_keys_are_gone_is_damaged_and_not_replaced(desk: Desk, spoil: str) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    keys = TpmPlaces(agent.state).state(UUID) / KEYS
    if spoil == "owner":
        os.chown(keys, 0, 0)
    elif spoil == "empty":
        keys.write_bytes(b"")
    else:
        keys.rename(keys.with_name("aside"))
        if spoil == "link":
            keys.symlink_to("aside")
    assert states(agent) == {UUID: State.DAMAGED}
    one, = tpms(agent)
    assert one.error is not None
    assert (one.error.id, one.owner and one.owner.vm) == ("vtpm.damaged", "desk")
    point = next(point for point in status(agent).points if point.name == "TPMs of VMs")
    assert point.wrong
    assert "desk (damaged, [vtpm.damaged])" in point.said
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.damaged"
    assert spoil != "gone" or not keys.exists()  # swtpm would have made another TPM
    assert remove(agent, UUID) == UUID


def test_a_directory_of_tpms_that_is_open_to_others_is_told_and_no_vm_gets_one(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    TpmPlaces(agent.state).directory.chmod(0o777)
    one, = tpms(agent)
    assert one.error is not None
    assert (one.state, one.error.id) == (State.DAMAGED, "vtpm.exposed")
    point = next(point for point in status(agent).points if point.name == "TPMs of VMs")
    assert point.wrong
    assert "[vtpm.exposed]" in point.said
    for vm, uuid in (("desk", UUID), ("toy", OTHER)):
        with pytest.raises(Unavailable) as caught:
            run(desk, vm, uuid)
        assert caught.value.id == "vtpm.exposed"
    TpmPlaces(agent.state).directory.chmod(0o700)
    assert states(agent) == {UUID: State.KEPT}


def test_a_tpm_that_is_removed_is_gone_and_the_next_one_is_another(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    before = owner(agent)
    halt(desk)
    assert remove(agent, "desk") == UUID
    assert tpms(agent) == ()
    assert [path.name for path in TpmPlaces(agent.state).directory.iterdir()] == []
    told, = (r.body for r in records(agent.trail.directory) if r.body["kind"] == "vtpm.remove")
    assert (told["vm"], told["details"]["ek"]) == ("desk", before.ek)
    assert run(desk, "toy").domid is not None  # the UUID is free for another label
    assert owner(agent).ek != before.ek


def test_the_tpm_of_a_vm_that_runs_is_not_removed(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    with pytest.raises(BadInput) as caught:
        remove(agent, UUID)
    assert caught.value.id == "vtpm.in-use"
    assert states(agent) == {UUID: State.SERVED}


def test_a_name_must_be_one_vm_s(desk: Desk) -> None:
    _, agent = desk
    for uuid in (UUID, OTHER):
        run(desk, "desk", uuid)
        halt(desk)
    for which, id in (("desk", "vtpm.ambiguous"), ("nobody", "vtpm.unknown"),
                      ("../../etc", "vtpm.unknown")):
        with pytest.raises(BadInput) as caught:
            remove(agent, which)
        assert caught.value.id == id
    assert remove(agent, OTHER) == OTHER


def test_what_is_damaged_can_be_removed_and_a_link_leads_nowhere(
    desk: Desk, tmp_path: Path
) -> None:
    _, agent = desk
    places = TpmPlaces(agent.state)
    places.directory.mkdir(parents=True)
    (tmp_path / "precious").touch()
    places.state(UUID).symlink_to(tmp_path)
    assert states(agent) == {UUID: State.DAMAGED}
    assert remove(agent, UUID) == UUID
    assert (tmp_path / "precious").exists()
    assert tpms(agent) == ()


def test_seats_are_used_again_but_never_twice(desk: Desk) -> None:
    _, agent = desk
    places = TpmPlaces(agent.state)
    run(desk)
    run(desk, "toy", OTHER)
    assert [one.seat for one in places.all()] == [0, 1]
    halt(desk)
    remove(agent, UUID)
    run(desk)
    assert {one.uuid: one.seat for one in places.all()} == {UUID: 0, OTHER: 1}


def test_a_test_leaves_no_process_whatever_it_does_to_its_tpms(desk: Desk) -> None:
    place = desk[0]
    with all_ended(place):
        run(desk)
        run(desk, "toy", OTHER)
        (TpmPlaces(desk[1].state).directory / f"{UUID}.json").unlink()
        assert len(at_work(place)) >= 4
    assert at_work(place) == set()

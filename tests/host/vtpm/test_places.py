"""Whose a TPM is: another label, another state, a link or damage never gets a VM one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

from shype.base.errors import Unavailable
from shype.host.ids import HostId
from shype.host.launch import launch
from shype.host.vtpm.kept import remove
from shype.host.vtpm.places import FIRST_USER, TpmPlaces, busy_users
from shype.policy.names import LabelName
from tests.host.builders import config, host
from tests.host.invariants import guests
from tests.host.vtpm.desks import (
    OTHER,
    POLICY,
    UUID,
    Desk,
    halt,
    of,
    owner,
    run,
    serving,
)

ROOT = os.geteuid() == 0


def test_another_label_does_not_get_it(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    outcome = run(desk, "toy")
    assert (outcome.domid, outcome.decision.id) == (None, HostId.VTPM_OWNER)
    assert str(outcome.decision.rules[0]).endswith("policy.yaml:7:3")
    assert guests(agent) == {}
    assert serving(agent) is None


def test_another_vm_of_the_same_label_with_the_uuid_is_the_same_vm(desk: Desk) -> None:
    """VMs are known by UUID, and a name may change; the label may not."""
    run(desk)
    halt(desk)
    assert run(desk, "desk-two").domid == 2


def test_a_label_that_the_policy_renames_keeps_its_tpms(desk: Desk) -> None:
    place, agent = desk
    run(desk)
    first = owner(agent)
    halt(desk)
    text = POLICY.replace("desk:    {coal", "bench:   {was: desk, coal").replace(
        "desk: desk, desk-two: desk", "desk: bench, desk-two: bench").replace('"1.0"', '"1.1"')
    (place / "model.json").unlink()
    again = host(place, text)
    assert launch(again, config(place, "desk", of(UUID))).domid == 1
    assert (owner(again).label, owner(again).ek) == ("bench", first.ek)


def test_state_of_another_label_that_was_swapped_in_is_found(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    run(desk, "toy", OTHER)
    halt(desk)
    halt(desk, "toy")
    places = TpmPlaces(agent.state)
    mine, theirs = places.state(UUID), places.state(OTHER)
    mine.rename(mine.with_suffix(".aside"))
    theirs.rename(mine)
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == ("vtpm.damaged" if ROOT else "vtpm.other-tpm")
    if ROOT:  # with its rights as well it is found by its identity
        for path in (mine, *mine.iterdir()):
            os.chown(path, FIRST_USER, FIRST_USER)
        with pytest.raises(Unavailable) as caught:
            run(desk)
        assert caught.value.id == "vtpm.other-tpm"
    assert guests(agent) == {}
    assert serving(agent) is None


def test_a_link_in_place_of_the_state_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    place = TpmPlaces(agent.state).state(UUID)
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.damaged"
    assert guests(agent) == {}


def test_a_link_before_the_first_start_is_not_followed(desk: Desk, tmp_path: Path) -> None:
    _, agent = desk
    place = TpmPlaces(agent.state).state(UUID)
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path)
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.damaged"
    assert list(tmp_path.iterdir()) == []


def test_lost_state_is_not_replaced_by_a_new_tpm(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    shutil.rmtree(TpmPlaces(agent.state).state(UUID))
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.damaged"


def test_a_record_that_is_damaged_gives_the_tpm_to_nobody(desk: Desk) -> None:
    _, agent = desk
    run(desk)
    halt(desk)
    (TpmPlaces(agent.state).directory / f"{UUID}.json").write_text("{}")
    with pytest.raises(Unavailable) as caught:
        run(desk)
    assert caught.value.id == "vtpm.damaged"
    assert guests(agent) == {}


@pytest.mark.skipif(not ROOT, reason="only root gives each TPM a user of its own")
def test_a_tpm_whose_record_is_damaged_keeps_its_user_for_itself(desk: Desk) -> None:
    """It may still be served: by a process that a guest may have taken over."""
    _, agent = desk
    run(desk)
    places = TpmPlaces(agent.state)
    (places.directory / f"{UUID}.json").write_text("{}")
    assert run(desk, "toy", OTHER).domid == 2
    assert owner(agent, OTHER).user != places.state(UUID).stat().st_uid


@pytest.mark.skipif(not ROOT, reason="only root gives each TPM a user of its own")
def test_the_user_of_a_process_that_is_left_is_not_given_to_another_tpm(desk: Desk) -> None:
    """What was taken over may live on, without the lock by which it is known."""
    _, agent = desk
    run(desk)
    user = owner(agent).user
    assert user is not None
    halt(desk)
    with subprocess.Popen(["sleep", "600"], user=user, group=user, extra_groups=[]) as left:
        try:
            assert user in busy_users()
            with mock.patch("shype.host.vtpm.places.busy_users", return_value=frozenset({user})):
                remove(agent, UUID)
                new = TpmPlaces(agent.state).new("toy", OTHER, LabelName("toy"))
        finally:
            left.kill()
    assert new.user != user

"""A VM with a TPM stays where its TPM is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shype.host.ids import HostId
from shype.host.restoring import restore
from shype.host.saving import save
from shype.host.stop import Locked
from tests.host.builders import model
from tests.host.invariants import guests
from tests.host.vtpm.desks import Desk, halt, run, serving


def test_a_vm_keeps_its_tpm_while_it_runs_though_a_new_policy_has_none_for_it(
    desk: Desk, tmp_path: Path
) -> None:
    _, agent = desk
    run(desk)
    labels = {name: replace(label, vtpm=False) for name, label in agent.policy.labels.items()}
    other = replace(agent, bundle=replace(
        agent.bundle, policy=replace(agent.policy, labels=labels)))
    with pytest.raises(Locked) as caught:
        save(other, "desk", tmp_path / "image")
    assert caught.value.id == "vtpm.stays"
    assert serving(agent) is not None


def test_such_a_vm_is_neither_saved_nor_restored(desk: Desk, tmp_path: Path) -> None:
    _, agent = desk
    run(desk)
    with pytest.raises(Locked) as caught:
        save(agent, "desk", tmp_path / "image")
    assert caught.value.id == "vtpm.stays"
    assert guests(agent) == {"desk": "desk"}
    image: list[bytes] = []
    model(agent).save(1, image.append)
    (tmp_path / "image").write_bytes(b"".join(image))
    halt(desk)
    outcome = restore(agent, tmp_path / "image", foreign=True)
    assert (outcome.domid, outcome.decision.id) == (None, HostId.VTPM_STAYS)

"""What is kept of VMs: private, whole or not at all, and never believed when damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.kept import Kept, KeptVms
from shype.policy.names import LabelName

UUID = "0d6f1a6e-7b43-4b7e-9b0a-2f3c4d5e6f70"
ONE = Kept("a-db", UUID, LabelName("bank-a-db"), b'name = "a-db"\n\xff',
           {"on_reboot": "restart"}, 3)


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    kept = KeptVms(tmp_path)
    assert kept.all() == ()
    kept.put(ONE)
    other = replace(ONE, uuid=UUID.replace("0", "1"), config=None, refused="wall.conflict",
                    starts=(1.5, 2.0))
    kept.put(other)
    assert kept.get(UUID) == ONE
    assert sorted(kept.all(), key=lambda k: k.uuid) == [ONE, other]
    assert kept.change(ONE, again=True) == kept.get(UUID)
    kept.forget(UUID)
    assert kept.all() == (other,)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    KeptVms(tmp_path).put(ONE)
    assert (tmp_path / "vms").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "vms" / f"{UUID}.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("uuid", ["", "../../etc/passwd", UUID.upper(), UUID + "/x", "(null)"])
def test_only_a_uuid_is_a_file_name(tmp_path: Path, uuid: str) -> None:
    assert KeptVms(tmp_path).get(uuid) is None
    KeptVms(tmp_path).forget(uuid)


@pytest.mark.parametrize("change", [
    {"format": 2}, {"uuid": "x"}, {"config": "!"}, {"config": 3}, {"vm": None}, {"domid": "3"},
    {"again": 1}, {"actions": {"on_reboot": 3}}, {"starts": ["x"]}, {"more": 1}, {"refused": 3},
])
def test_damaged_is_set_aside(tmp_path: Path, change: dict[str, object]) -> None:
    kept = KeptVms(tmp_path)
    kept.put(ONE)
    file = tmp_path / "vms" / f"{UUID}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    assert kept.get(UUID) is None
    assert [p.suffix for p in file.parent.iterdir()] == [".damaged"]
    assert kept.all() == ()


def test_a_place_that_takes_no_writing(tmp_path: Path) -> None:
    (tmp_path / "vms").write_text("")
    with pytest.raises(Unavailable) as caught:
        KeptVms(tmp_path).put(ONE)
    assert caught.value.id == "state.unwritable"

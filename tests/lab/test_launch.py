"""The launch state machine on the real hypervisor: kills, a full disk, root behind our back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.host.launch import Step
from shype.lab.host import Lab

pytestmark = pytest.mark.lab


def test_killed_at_every_step_nothing_stays(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.put("/run/launch_program.py", Path(__file__).with_name("launch_program.py").read_bytes())
    done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "/run/launch_program.py"],
                   timeout=800)
    assert done.code == 0, done.err + lab.console()[-2000:]
    reports = [json.loads(line) for line in done.out.splitlines()]
    assert [r["step"] for r in reports] == [*Step, "building", "after"]
    assert [r for r in reports if r["problems"]] == []


def test_a_full_disk_refuses_and_changes_nothing(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.sh("mkdir /run/small && mount -t tmpfs -o size=4k tmpfs /run/small && "
           "head -c 4096 /dev/zero > /run/small/full")
    done = lab.run(["shype", "run", "--json", "--state", "/run/small", "/etc/xen/vms/a-db.cfg"],
                   timeout=200)
    assert done.code == 3, done.out + done.err
    assert json.loads(done.out)["error"] == "state.unwritable"
    status = lab.run(["shype", "status", "--json"], timeout=200)
    assert status.code == 0
    assert json.loads(status.out)["wall"]["bank-a"] == {"runs": False, "known": False}


def test_refusals_name_who_decided(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.run(["xl", "dmesg", "-c"])
    assert lab.run(["shype", "run", "/etc/xen/vms/a-db.cfg"], timeout=300).code == 0
    refused = lab.run(["shype", "run", "--json", "/etc/xen/vms/b-db.cfg"], timeout=300)
    assert refused.code == 1
    answer = json.loads(refused.out)
    assert (answer["source"], answer["decision"]["id"]) == ("agent", "wall.conflict")
    assert [h["vm"] for h in answer["decision"]["holders"]] == ["a-db"]
    assert lab.run(["shype", "run", "/etc/xen/vms/stray.cfg"], timeout=300).code == 1
    for seclabel in ("", 'seclabel="u:r:l_bank_b_db_t:s0"', 'seclabel="u:r:l_market_data_t:s0"'):
        assert lab.run(["xl", "create", "/etc/xen/vms/stray.cfg", seclabel][: 4 if seclabel else 3],
                       timeout=100).code != 0
    listed = lab.run(["shype", "denials", "--json"], timeout=200)
    assert listed.code == 0
    creations = [
        d["decision"]["id"] for d in json.loads(listed.out)["denials"]
        if d["class"] == "domain" and d["permissions"] == ["create"]
    ]
    assert creations == ["create.unlabelled", "wall.conflict", "create.no-window"]
    stopped = lab.run(["shype", "stop", "--json", "a-db", "--force"], timeout=200)
    assert json.loads(stopped.out)["released"] == ["run_bank_a"]
    assert lab.run(["shype", "status"], timeout=200).code == 0

"""The launch state machine on the real hypervisor: kills, a full disk, root behind our back."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from shype.host.launch import Step
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.lab.conftest import STILL, guests

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


def test_of_fifty_requests_at_once_one_side_of_the_wall_wins(empty_lab: Lab) -> None:
    """Six VMs of two banks that must not meet, each asked for by eight or nine people at once."""
    lab = empty_lab
    sides = {f"crowd-{number}": f"bank-{'ab'[number % 2]}-db" for number in range(6)}
    for vm, label in sides.items():
        lab.put(f"/etc/xen/vms/{vm}.cfg", config(vm, type="pv", seclabel=label, extra=STILL))
    wanted = [f"crowd-{number % 6}" for number in range(50)]
    with ThreadPoolExecutor(len(wanted)) as crowd:
        asked = [crowd.submit(lab.run, ["shype", "run", "--json", "--lock-timeout", "1500",
                                        f"/etc/xen/vms/{vm}.cfg"], 1600) for vm in wanted]
        meanwhile = []
        while not all(one.done() for one in asked):
            meanwhile.append(set(guests(lab).values()))
            wait(asked, timeout=5)
    answers = [(vm, one.result().code, json.loads(one.result().out))
               for vm, one in zip(wanted, asked, strict=True)]
    winner = next(sides[vm] for vm, code, _ in answers if code == 0)
    runs = [vm for vm in sides if sides[vm] == winner]
    context = f"u:r:l_{winner.replace('-', '_')}_t:s0"
    assert guests(lab) == dict.fromkeys(runs, context)
    assert all(seen <= {context} for seen in meanwhile)
    assert sorted(vm for vm, code, _ in answers if code == 0) == runs
    others = [(vm, code, said.get("error") or said["decision"]["id"])
              for vm, code, said in answers if code != 0]
    assert sorted(set(others)) == sorted(
        (vm, 2, "vm.running") if vm in runs else (vm, 1, "wall.conflict") for vm in sides)

"""A locked guest is closed to root in dom0 when it has been built, and goes on working."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_faults import shype

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: vaults, version: "1.0"}
coalitions: [red, blue]
walls: {sides: [left, right]}
labels:
  boss: {coalitions: all}
  vault: {coalitions: [red], wall: [left], locked: true}
  safe: {coalitions: [red], locked: true}
  plain: {coalitions: [red]}
  rival: {coalitions: [blue], wall: [right]}
host: {dom0: boss}
vms: {pv: vault, pvh: safe, twin: safe, open: plain, second: vault, rival: rival}
resources:
  - {network: xenbr0, coalitions: [red]}
  - {disk: "/srv/disk", coalitions: [red]}
"""
PROGRAM = (Path(__file__).parent / "reach_program.py").read_text()
ALL_DENIED = {"map read": "EACCES", "map write": "EACCES", "get registers": "EACCES",
              "set memory limit": "EACCES"}


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    place = tmp_path_factory.mktemp("vaults")
    (place / "p.yaml").write_text(POLICY)
    build(load(place / "p.yaml").policy, target="xen-4.17", out=place / "bundle")
    with Lab.up(bundle=place / "bundle", loaded=True) as lab:
        vif = 'vif = ["bridge=xenbr0"]'
        lab.put("/run/pv.cfg", config("pv", type="pv", extra=vif))
        lab.put("/run/pvh.cfg", config("pvh", extra=vif))
        for name in ("open", "twin", "second", "rival"):
            lab.put(f"/run/{name}.cfg", config(name, type="pv", extra=STILL))
        lab.put("/run/hvm.cfg", config("hvm", type="hvm", seclabel="safe"))
        for name in ("pv", "pvh", "open"):
            answer = shype(lab, "run", f"/run/{name}.cfg")
            assert answer.code == 0, answer.value
        yield lab


def reached(lab: Lab, vm: str) -> Mapping[str, str]:
    """What a program of root's in dom0 could do."""
    done = lab.run(["python3", "-c", PROGRAM, lab.run(["xl", "domid", vm]).out.strip()])
    assert done.code == 0, done.err
    found: Mapping[str, str] = json.loads(done.out)
    return found


def test_dom0_reaches_an_open_guest(lab: Lab) -> None:
    assert {*reached(lab, "open").values()} == {"done"}


@pytest.mark.parametrize("vm", ["pv", "pvh"])
def test_dom0_does_not_reach_a_locked_one(lab: Lab, vm: str) -> None:
    assert reached(lab, vm) == ALL_DENIED
    for words in (["save", vm, "/run/image"], ["mem-set", vm, "100"], ["mem-max", vm, "120"],
                  ["dump-core", vm, "/run/core"], ["vcpu-pin", vm, "0", "0"]):
        done = lab.run(["xl", *words], timeout=120)
        assert done.code != 0 or words[0] == "mem-set", (words, done.out + done.err)
    assert vm in guests(lab)


@pytest.mark.parametrize("vm", ["pv", "pvh"])
def test_its_devices_and_its_console_go_on(lab: Lab, vm: str) -> None:
    probe.wait_for(lab.run, [vm], timeout=300)  # over its console
    assert lab.sh("mkdir -p /srv; truncate -s 2M /srv/disk").code == 0
    done = lab.run(["shype", "attach", vm, "disk", "file:/srv/disk,xvdb,w"], timeout=200)
    assert done.code == 0, done.out + done.err
    assert probe.ask(lab.run, vm, "disk_write", "/dev/xvdb", 64, timeout=200)["result"] == "ok"
    assert lab.run(["shype", "detach", vm, "disk", "xvdb"], timeout=200).code == 0
    assert probe.ask(lab.run, vm, "net_up", "10.8.0.2")["result"] == "ok"
    assert lab.run(["xl", "pause", vm]).code == lab.run(["xl", "unpause", vm]).code == 0
    assert vm in guests(lab)


def test_shype_says_that_it_is_locked(lab: Lab) -> None:
    for words in (("save", "pv", "/run/image"), ("migrate", "pv", "nowhere")):
        answer = shype(lab, *words)
        assert (answer.code, answer.error) == (1, "label.locked")
    assert lab.run(["test", "-e", "/run/image"]).code == 1


def test_no_second_one_starts_that_would_open_the_first(lab: Lab) -> None:
    assert shype(lab, "run", "/run/second.cfg").denial == ("label.locked", [])
    assert shype(lab, "run", "/run/hvm.cfg").denial == ("label.locked-hvm", [])
    assert shype(lab, "run", "/run/rival.cfg").denial == ("wall.conflict", ["pv"])
    assert not boolean(lab, "win_en")
    assert reached(lab, "pv") == ALL_DENIED


def test_it_can_be_ended_and_started_again(lab: Lab) -> None:
    answer = shype(lab, "reboot", "--force", "pv")
    assert answer.code == 0, answer.value
    assert reached(lab, "pv") == ALL_DENIED
    assert shype(lab, "stop", "--force", "pvh").code == 0
    assert shype(lab, "run", "/run/twin.cfg").code == 0
    assert shype(lab, "verify").code == 0

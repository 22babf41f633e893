"""A flood of denials, by a guest and by dom0: the hypervisor holds its messages back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.lab.conftest import STILL
from tests.lab.test_faults import shype
from tests.lab.trails import shown
from tests.lab.trails import shype as collected

pytestmark = pytest.mark.lab

PROGRAM = (Path(__file__).parent / "denial_program.py").read_text()
MANY = 1000
#: Ten at once, and one in five seconds; a flood takes less than a minute.
FEW = 25
HELD_BACK = re.compile(r"printk: (\d+) messages suppressed")


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, bundle: Path) -> Iterator[Lab]:
    with Lab.up(bundle=bundle, xen_args=("loglvl=error/warning",)) as lab:
        lab.put("/opt/shype/denial_program.py", PROGRAM)
        lab.put("/run/market.cfg", config("market", type="pv"))
        lab.put("/run/a-db.cfg", config("a-db", type="pv", extra=STILL))
        for name in ("market", "a-db"):
            answer = shype(lab, "run", f"/run/{name}.cfg")
            assert answer.code == 0, answer.value
        probe.wait_for(lab.run, ["market"], timeout=300)
        yield lab


def printed(lab: Lab, before: int) -> int:
    """Denials on the serial line since then."""
    return lab.console()[before:].count("avc:  denied")


def test_of_a_guests_flood_little_is_printed(lab: Lab) -> None:
    target = int(lab.run(["xl", "domid", "a-db"]).out)
    before = len(lab.console())
    answer = probe.ask(lab.run, "market", "bench_map", target, 8, MANY, timeout=300)
    assert answer["failed"] == MANY
    assert printed(lab, before) <= FEW


def test_of_a_flood_by_dom0_too_and_the_rest_is_counted(lab: Lab) -> None:
    before = len(lab.console())
    done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "/opt/shype/denial_program.py",
                    str(MANY)], timeout=300)
    assert done.code == 0, done.err
    assert printed(lab, before) <= FEW
    # The next message, some seconds later, tells how many have been held back.
    lab.sh("for i in $(seq 60); do flask-setenforce 0; xl dmesg | tail -n 3 | grep -q setenforce "
           "&& break; sleep 1; done", timeout=120)
    told = sum(map(int, HELD_BACK.findall(lab.console())))
    assert told + lab.console().count("avc:  denied") >= 2 * MANY


def test_the_trail_tells_what_was_held_back(lab: Lab) -> None:
    """The same number as on the serial line, so that no denial is without a trace."""
    held = sum(map(int, HELD_BACK.findall(lab.console())))
    assert sum(map(int, HELD_BACK.findall(lab.run(["xl", "dmesg"]).out))) == held
    assert collected(lab, "audit", "collect")[0] == 0
    records = shown(lab, "--kind", "denial")
    told = sum(r["details"]["messages"] for r in records if r["kind"] == "denial.held-back")
    printed_ = sum(r["details"]["times"] for r in records if r["kind"] == "denial")
    assert told == held
    assert told + printed_ >= 2 * MANY


def test_status_says_so(lab: Lab) -> None:
    value = json.loads(lab.run(["shype", "status", "--json"], timeout=100).out)
    point = next(one for one in value["points"] if one["name"] == "console")
    assert point["holds"], point

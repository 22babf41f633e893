"""Saving and restoring, killed at its steps on the real hypervisor: no guest and no image is lost.

docs/explanation/launch.md says what holds after a kill; tests/lab/test_launch.py is about launches,
tests/lab/test_migration.py about receivers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.lab import probe
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.lab import dying_program
from tests.lab.conftest import boolean, guests
from tests.lab.test_faults import CONTEXT, begin, shype, wait_in_dom0

pytestmark = pytest.mark.lab

LOG = "/var/log/xen/console/guest-a-db.log"
IMAGE = "/run/a.img"


def test_saving_and_restoring_killed_at_every_step(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.sh(f"rm -f {LOG} {IMAGE}")
    lab.put("/run/whole.cfg", config("a-db", type="pv", memory=100))
    assert shype(lab, "run", "/run/whole.cfg").code == 0
    wait_in_dom0(lab, f"grep -q hello {LOG}", 0.3)

    # saving: the guest goes on, and is not in two places
    begin(lab, "save", "a-db", f"{IMAGE}.part")
    wait_in_dom0(lab, f"test -s {IMAGE}.part")
    assert lab.run(["pkill", "-KILL", "-f", "[p]ython3 -m shype save"]).code == 0
    wait_in_dom0(lab, "! pgrep -f '[x]l save' >/dev/null")
    assert probe.ask(lab.run, "a-db", "ping")["result"] == "ok"
    assert shype(lab, "restore", f"{IMAGE}.part").code != 0
    assert guests(lab) == {"a-db": CONTEXT}
    assert boolean(lab, "run_bank_a")
    assert shype(lab, "save", "a-db", IMAGE).code == 0

    program = Path(dying_program.__file__)
    lab.put(f"/run/{program.name}", program.read_bytes())
    done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", f"/run/{program.name}", "restore",
                    IMAGE], timeout=800)
    assert done.code == 0, done.err + lab.console()[-2000:]
    reports = [json.loads(line) for line in done.out.splitlines()]
    assert [(r["at"], r["who"]) for r in reports] == [*map(tuple, dying_program.CASES)]
    assert [r for r in reports if r["problems"]] == []

    # the last of them was over: it runs, from the image that all others left as it was
    assert guests(lab) == {"a-db": CONTEXT}
    assert (boolean(lab, "run_bank_a"), boolean(lab, "win_en")) == (True, False)
    assert shype(lab, "stop", "--force", "a-db").value["released"] == ["run_bank_a"]

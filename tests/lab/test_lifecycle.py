"""Real guests that reboot, are saved and restored, and move to another host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.link import link
from tests.lab.conftest import boolean, guests
from tests.lab.test_faults import CONTEXT, shype, wait_in_dom0

pytestmark = pytest.mark.lab

A_DB = "/etc/xen/vms/a-db.cfg"
B_DB = "/etc/xen/vms/b-db.cfg"
#: A guest whose kernel finds nothing to run, and panics.
CRASHES = "rdinit=/none init=/none"
#: A guest whose first process is this, and that has nothing else to do than to end.
ENDS = "rdinit=/bin/busybox -- "
LOG = "/var/log/xen/console/guest-a-db.log"


def test_a_guest_that_reboots_itself_runs_again_with_its_label(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.put("/run/reboots.cfg", config("a-db", type="pv", args=f"{ENDS}reboot -f"))
    assert shype(lab, "run", "/run/reboots.cfg").value["domid"] is not None
    first = lab.run(["xl", "domid", "a-db"]).out.strip()
    wait_in_dom0(lab, "xl list a-db | grep -q -e '---sr-'")
    # it has ended: its memory is there, and so it holds its place until that is followed up
    assert boolean(lab, "run_bank_a")
    # the next command starts it again first, and so the other side of the wall is refused
    assert shype(lab, "run", "/etc/xen/vms/b-db.cfg").denial == ("wall.conflict", ["a-db"])
    assert guests(lab) == {"a-db": CONTEXT}
    assert lab.run(["xl", "domid", "a-db"]).out.strip() != first
    assert boolean(lab, "run_bank_a")
    assert not boolean(lab, "win_en")
    assert shype(lab, "stop", "--force", "a-db").value["released"] == ["run_bank_a"]


def test_paused_and_renamed_it_keeps_label_and_place(empty_lab: Lab) -> None:
    lab = empty_lab
    assert shype(lab, "run", A_DB).code == 0
    assert shype(lab, "pause", "a-db").code == 0
    assert shype(lab, "run", B_DB).denial == ("wall.conflict", ["a-db"])
    assert shype(lab, "unpause", "a-db").code == 0
    assert lab.run(["xl", "rename", "a-db", "market"]).code == 0  # another VM's name
    listed = shype(lab, "ps").value["domains"]
    assert isinstance(listed, list)
    named = {row["vm"]: row["label"] for row in listed}
    assert named["market"] == "bank-a-db"
    assert shype(lab, "run", B_DB).denial == ("wall.conflict", ["market"])
    assert guests(lab) == {"market": CONTEXT}
    # root asks for a reboot: it has its own name again, and is decided by it
    assert shype(lab, "reboot", "--force", "market").code == 0
    assert guests(lab) == {"a-db": CONTEXT}
    assert shype(lab, "stop", "--force", "a-db").value["released"] == ["run_bank_a"]


def test_a_crashed_guest_that_is_preserved_holds_its_place(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.put("/run/crashes.cfg", config("a-db", type="pv", args=CRASHES))  # on_crash: preserve
    assert shype(lab, "run", "/run/crashes.cfg").code == 0
    wait_in_dom0(lab, "xl list a-db | grep -qE -e '---[s-]c-'")
    assert shype(lab, "run", B_DB).denial == ("wall.conflict", ["a-db"])
    assert guests(lab) == {"a-db": CONTEXT}
    assert shype(lab, "stop", "--force", "a-db").value["released"] == ["run_bank_a"]
    # destroyed by Xen's tools, as its configuration says: the next command knows
    lab.put("/run/crashes.cfg",
            config("a-db", type="pv", args=CRASHES, extra='on_crash = "destroy"'))
    assert shype(lab, "run", "/run/crashes.cfg").code == 0
    wait_in_dom0(lab, "! xl domid a-db >/dev/null 2>&1")
    assert shype(lab, "run", B_DB).code == 0
    assert [*guests(lab)] == ["b-db"]
    assert (boolean(lab, "run_bank_a"), boolean(lab, "run_bank_b")) == (False, True)


def test_a_saved_guest_comes_back_only_through_the_window(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.sh(f"rm -f {LOG} /run/a.img")
    lab.put("/run/whole.cfg", config("a-db", type="pv"))
    assert shype(lab, "run", "/run/whole.cfg").code == 0
    wait_in_dom0(lab, f"grep -q hello {LOG}")
    saved = shype(lab, "save", "a-db", "/run/a.img")
    assert (saved.code, saved.value["released"]) == (0, ["run_bank_a"])
    assert lab.sh("stat -c %a /run/a.img").out.strip() == "600"
    assert guests(lab) == {}
    assert lab.run(["xl", "restore", "-p", "/run/a.img"], timeout=200).code != 0
    assert guests(lab) == {}
    assert shype(lab, "restore", "/run/a.img").code == 0
    assert guests(lab) == {"a-db": CONTEXT}
    assert boolean(lab, "run_bank_a")
    assert not boolean(lab, "win_en")


def test_a_guest_moves_over_ssh_and_its_place_with_it(
    lab_built: builder.Built, bundle: Path
) -> None:
    files = {A_DB: config("a-db", type="pv", memory=100)}
    with Lab.up(bundle=bundle, files=files) as one, Lab.up(bundle=bundle) as two:
        address = link(one, two)[1]
        assert one.sh("mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' "
                      "-f /root/.ssh/id_ed25519").code == 0
        public = one.get("/root/.ssh/id_ed25519.pub").decode()
        two.put("/root/.ssh/authorized_keys", f'command="shype receive",restrict {public}', 0o600)
        assert two.sh("chmod 700 /root /root/.ssh; ssh-keygen -A; mkdir -p /run/sshd; "
                      "/usr/sbin/sshd").code == 0
        key = two.get("/etc/ssh/ssh_host_ed25519_key.pub").decode()
        one.put("/root/.ssh/known_hosts", f"{address} {key}")
        assert shype(one, "run", A_DB).code == 0
        wait_in_dom0(one, f"grep -q hello {LOG}")
        done = one.run(["shype", "migrate", "--json", "a-db", address], timeout=900)
        value = json.loads(done.out)
        assert (done.code, value["moved"], value["released"]) == (0, True, ["run_bank_a"]), done.err
        assert guests(one) == {}
        assert guests(two) == {"a-db": CONTEXT}
        assert (boolean(one, "run_bank_a"), boolean(two, "run_bank_a")) == (False, True)
        assert not boolean(two, "win_en")

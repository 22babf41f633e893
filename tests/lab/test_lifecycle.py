"""Real guests that reboot, are reset, saved and restored."""

from __future__ import annotations

import errno

import pytest

from shype.lab import probe
from shype.lab.guests import config
from shype.lab.host import Lab
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
#: Rewrites the label in the head of a saved guest, and leaves all the rest.
FORGE = """
from shype.host.image import dumps, read_head
with open("/run/a.img", "rb") as image, open("/run/forged.img", "wb") as forged:
    head = read_head(image.read)
    head.config["c_info"]["ssid_label"] = "u:r:l_bank_b_db_t:s0"
    forged.write(dumps(head.config, head.receipt) + image.read())
"""
#: Asks Xen itself to reset a domain softly, as xl does.
SOFT_RESET = """
import ctypes, sys
xc = ctypes.CDLL("libxenctrl.so.4.17", use_errno=True)
xc.xc_interface_open.restype = ctypes.c_void_p
handle = ctypes.c_void_p(xc.xc_interface_open(None, None, 0))
failed = xc.xc_domain_soft_reset(handle, ctypes.c_uint32(int(sys.argv[1])))
sys.exit(ctypes.get_errno() if failed else 0)
"""


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
    wait_in_dom0(lab, f"grep -q hello {LOG}", 0.3)
    saved = shype(lab, "save", "a-db", "/run/a.img")
    assert (saved.code, saved.value["released"]) == (0, ["run_bank_a"])
    assert lab.sh("stat -c %a /run/a.img").out.strip() == "600"
    assert guests(lab) == {}
    assert lab.run(["xl", "restore", "-p", "/run/a.img"], timeout=200).code != 0
    assert guests(lab) == {}
    # its own image, with its own receipt, that says another label: nothing of it is built
    assert lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "-c", FORGE]).code == 0
    assert shype(lab, "restore", "/run/forged.img").denial == ("image.mismatch", [])
    assert guests(lab) == {}
    assert shype(lab, "restore", "/run/a.img").code == 0
    assert guests(lab) == {"a-db": CONTEXT}
    assert boolean(lab, "run_bank_a")
    assert not boolean(lab, "win_en")


def test_a_pvh_guest_through_its_whole_life(empty_lab: Lab) -> None:
    lab = empty_lab
    lab.sh(f"rm -f {LOG} /run/a.img")
    lab.put("/run/pvh.cfg", config("a-db", type="pvh"))
    assert shype(lab, "run", "/run/pvh.cfg").code == 0
    wait_in_dom0(lab, f"grep -q hello {LOG}", 0.3)
    assert shype(lab, "save", "a-db", "/run/a.img").value["released"] == ["run_bank_a"]
    assert guests(lab) == {}
    assert shype(lab, "restore", "/run/a.img").code == 0
    right(lab)
    assert probe.ask(lab.run, "a-db", "ping")["result"] == "ok"

    # it asks for a soft reset: kept until the agent follows it up, and Xen resets nothing itself
    domid = lab.run(["xl", "domid", "a-db"]).out.strip()
    lab.run(["xl", "dmesg", "-c"])
    end = ["python3", "-m", "shype.lab.dom0.guestctl", "a-db", "end", "5"]
    lab.spawn(["env", "PYTHONPATH=/opt/shype", *end])
    wait_in_dom0(lab, "xl list a-db | grep -q -e '---s'")
    right(lab)
    assert lab.run(["python3", "-c", SOFT_RESET, domid]).code == errno.EACCES
    assert "{ soft_reset }" in lab.run(["xl", "dmesg"]).out
    assert lab.run(["xl", "domid", "a-db"]).out.strip() == domid
    assert lab.run(["shype", "watch", "--once"], timeout=300).code == 0
    right(lab)
    assert lab.run(["xl", "domid", "a-db"]).out.strip() != domid

    assert shype(lab, "reboot", "--force", "a-db").code == 0
    right(lab)


def right(lab: Lab) -> None:
    """a-db is there, alone, with its label and its place, and the window is closed."""
    assert guests(lab) == {"a-db": CONTEXT}
    assert (boolean(lab, "run_bank_a"), boolean(lab, "win_en")) == (True, False)

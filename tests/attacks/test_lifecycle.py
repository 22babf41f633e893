"""Attempts on the life of VMs: forged images, root's own xl, an unprivileged user of dom0."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from shype.host.image import dumps
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import up, vms
from tests.attacks.policies import BANKS
from tests.lab.conftest import boolean

UUID = "0d6f1a6e-7b43-4b7e-9b0a-2f3c4d5e6f70"
A, B = "u:r:l_bank_a_db_t:s0", "u:r:l_bank_b_db_t:s0"
IMAGE = "/run/forged.img"
KEEP = f"""
from pathlib import Path
from shype.host.kept import Kept, KeptVms
from shype.policy.names import LabelName
state = Path("/var/lib/shype")
state.mkdir(mode=0o700, exist_ok=True)
KeptVms(state).put(Kept("a-db", "{UUID}", LabelName("bank-a-db"), b"secret"))
"""


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    files = {"/etc/xen/vms/a-db.cfg": config("a-db", type="pv")}
    with up(BANKS, mode, tmp_path_factory.mktemp("lifecycle"), files) as lab:
        done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "-c", KEEP])
        assert done.code == 0, done.err
        yield Arena(lab, mode=mode)


def image(name: str, context: str, receipt: str = "", **create: object) -> bytes:
    """A saved VM of this name, with this label, and next to no memory."""
    c_info = {"type": "pv", "name": name, "uuid": UUID, "ssid_label": context, **create}
    b_info = {"max_vcpus": 1, "max_memkb": 114688, "target_memkb": 114688, "type.pv": {}}
    return dumps({"c_info": c_info, "b_info": b_info}, receipt) + bytes(4096)


def nothing_is_left(lab: Lab, said: str) -> Ended:
    if vms(lab) or boolean(lab, "win_en") or boolean(lab, "run_bank_a"):
        return Ended(Ends.OPEN, f"{vms(lab)}; {said}")
    return Ended(Ends.STOPPED, said)


def restored(arena: Arena, data: bytes, *words: str) -> Ended:
    arena.lab.put(IMAGE, data, 0o600)
    done = arena.lab.run(["shype", "restore", "--json", *words, IMAGE], timeout=300)
    value = json.loads(done.out)
    said = value.get("error") or value["decision"]["id"]
    if done.code == 0:
        return Ended(Ends.OPEN, str(value))
    return nothing_is_left(arena.lab, said)


def forged_label(arena: Arena) -> Ended:
    return restored(arena, image("a-db", B), "--foreign")


def another_name(arena: Arena) -> Ended:
    return restored(arena, image("b-db", A), "--foreign")


def not_saved_here(arena: Arena) -> Ended:
    return restored(arena, image("a-db", A))


def borrowed_receipt(arena: Arena) -> Ended:
    return restored(arena, image("a-db", A, receipt="0" * 32))


def cut_off(arena: Arena) -> Ended:
    return restored(arena, image("a-db", A, domid=77), "--foreign")


def received(arena: Arena, data: bytes) -> Ended:
    arena.lab.put(IMAGE, data, 0o600)
    done = arena.lab.sh(f"shype receive < {IMAGE}", timeout=300)
    if done.code == 0:
        return Ended(Ends.OPEN, done.err)
    return nothing_is_left(arena.lab, " ".join(re.findall(r"\[([a-z]+\.[a-z-]+)\]", done.err)))


def forged_stream(arena: Arena) -> Ended:
    return received(arena, image("a-db", B))


def anothers_stream(arena: Arena) -> Ended:
    return received(arena, image("b-db", A))


def stream_that_ends(arena: Arena) -> Ended:
    return received(arena, image("a-db", A))


def root_restores(arena: Arena) -> Ended:
    arena.lab.put(IMAGE, image("a-db", A), 0o600)
    done = arena.lab.run(["xl", "restore", "-p", IMAGE], timeout=200)
    denied = [line for line in arena.lab.run(["xl", "dmesg"]).out.splitlines()
              if "{ create }" in line and A in line]
    if done.code == 0 or not denied:
        return Ended(Ends.OPEN, done.err[-200:])
    return nothing_is_left(arena.lab, denied[-1])


def as_user(arena: Arena, script: str) -> Ended:
    code, said = arena.as_user(script, 200)
    return Ended(Ends.OPEN, said) if code == 0 else nothing_is_left(arena.lab, said[-200:])


def user_creates(arena: Arena) -> Ended:
    return as_user(arena, "xl create /etc/xen/vms/a-db.cfg")


def user_runs(arena: Arena) -> Ended:
    return as_user(arena, "PYTHONPATH=/opt/shype python3 -m shype run /etc/xen/vms/a-db.cfg")


def user_receives(arena: Arena) -> Ended:
    arena.lab.put(IMAGE, image("a-db", A), 0o644)
    return as_user(arena, f"PYTHONPATH=/opt/shype python3 -m shype receive < {IMAGE}")


def user_reads(arena: Arena) -> Ended:
    return as_user(arena, f"cat /var/lib/shype/vms/{UUID}.json || ls /var/lib/shype/vms")


ATTACKS = (
    Attack("lifecycle.forged-label", By.ADMIN, "Restore an image whose label was rewritten.",
           Ends.STOPPED, Whom.AGENT, forged_label),
    Attack("lifecycle.another-name", By.ADMIN,
           "Restore an image under the name of a VM on the other side of the wall.",
           Ends.STOPPED, Whom.AGENT, another_name),
    Attack("lifecycle.foreign-image", By.ADMIN,
           "Restore an image that this host has not saved, with the right name and label.",
           Ends.STOPPED, Whom.AGENT, not_saved_here),
    Attack("lifecycle.borrowed-receipt", By.ADMIN, "Restore one that names a receipt.",
           Ends.STOPPED, Whom.AGENT, borrowed_receipt),
    Attack("lifecycle.cut-off-image", By.FAULT,
           "Restore an image that ends in the middle, and asks for a domain id.",
           Ends.STOPPED, Whom.AGENT, cut_off),
    Attack("lifecycle.forged-stream", By.ADMIN,
           "Migrate a VM here whose label was rewritten on the way.",
           Ends.STOPPED, Whom.AGENT, forged_stream),
    Attack("lifecycle.anothers-stream", By.ADMIN,
           "Migrate a VM here under the name of one on the other side of the wall.",
           Ends.STOPPED, Whom.AGENT, anothers_stream),
    Attack("lifecycle.stream-that-ends", By.FAULT,
           "A migration that is permitted, and ends in the middle.",
           Ends.STOPPED, Whom.AGENT, stream_that_ends),
    Attack("lifecycle.root-restores", By.ADMIN, "Restore with xl, without a window.",
           Ends.STOPPED, Whom.XEN, root_restores),
    Attack("lifecycle.user-creates", By.USER, "Create a VM with xl.",
           Ends.STOPPED, Whom.KERNEL, user_creates),
    Attack("lifecycle.user-runs", By.USER, "Start a VM with shype.",
           Ends.STOPPED, Whom.KERNEL, user_runs),
    Attack("lifecycle.user-receives", By.USER, "Receive a VM with shype.",
           Ends.STOPPED, Whom.KERNEL, user_receives),
    Attack("lifecycle.user-reads", By.USER, "Read the kept configuration of a VM.",
           Ends.STOPPED, Whom.KERNEL, user_reads),
)
TestDefault, TestLocked, TestManager = each(ATTACKS)

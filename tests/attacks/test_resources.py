"""A VM tries to get a foreign disk, bridge or device, by whatever name or way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.attacks.attack import AS_MANAGED, Arena, Attack, By, Check, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import up, vms
from tests.attacks.policies import SHOP
from tests.lab.conftest import STILL, boolean

pytestmark = pytest.mark.lab

#: Files of 2 MiB each, a directory of an unprivileged user, a bridge of the other coalition.
SETUP = """\
set -e
mkdir -p /srv /mnt/bound /home/user
for name in red-1 red-2 red-3 red-4 red-5 blue-1 blue-2; do truncate -s 2M /srv/$name; done
chown 65534 /home/user
ln -s /srv/blue-1 /home/user/link
ln /srv/blue-1 /home/user/hard
ln -s /srv/red-3 /home/user/swap
ln -s /srv/red-1 /home/user/own
mkdir /srv/blue-dir; truncate -s 2M /srv/blue-dir/disk
mount --bind /srv/blue-dir /mnt/bound
losetup /dev/loop7 /srv/blue-1
losetup /dev/loop6 /srv/red-4
qemu-img create -q -f qcow2 -b /srv/blue-1 -F raw /srv/red-layer.qcow2
qemu-img create -q -f qcow2 /srv/red-image.qcow2 2M
ip link add br-blue type bridge
"""


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """A host with disks of two coalitions; the VM red runs with a disk and a network of its own."""
    with up(SHOP, mode, tmp_path_factory.mktemp("shop")) as lab:
        assert lab.sh(SETUP).code == 0
        code, answer = run(lab, "red", 'disk = ["file:/home/user/own,xvda,w"]\n'
                                       'vif = ["bridge=xenbr0"]\nioports = ["2f8-2ff"]')
        assert code == 0, answer  # a link to its own disk is its own disk
        assert lab.run(["shype", "hotplug", "install"], timeout=200).code == 0
        yield Arena(lab, mode=mode)


def run(lab: Lab, vm: str, extra: str = "") -> tuple[int, dict[str, Any]]:
    """`shype run` of a VM with those lines; exit code and answer."""
    text = config(vm, type="pv", extra=extra if vm == "red" else f"{STILL}\n{extra}")
    lab.put(f"/run/{vm}.cfg", text)
    return shype(lab, "run", f"/run/{vm}.cfg")


def shype(lab: Lab, *words: str) -> tuple[int, dict[str, Any]]:
    """A command with --json."""
    done = lab.run(["shype", *words, "--json"], timeout=300)
    assert done.out, done.err
    return done.code, json.loads(done.out)


def reason(answer: Mapping[str, Any]) -> str:
    """The id of a refusal or error."""
    decision = answer.get("decision")
    return str(decision["id"] if decision else answer.get("error"))


def asks_for(extra: str, id: str) -> Callable[[Arena], Ended]:
    """The attempt to start a red VM with those lines; stopped by that id, with nothing left."""
    def attempt(arena: Arena) -> Ended:
        code, answer = run(arena.lab, "try", extra)
        left = vms(arena.lab)
        clean = code != 0 and left == ["red"] and not boolean(arena.lab, "win_en")
        how = Ends.STOPPED if clean and reason(answer) == id else Ends.OPEN
        if "try" in left:
            arena.lab.run(["xl", "destroy", "try"])
        return Ended(how, f"exit code {code}: {reason(answer)}")

    return attempt


def swapped(arena: Arena) -> Ended:
    """The link is changed after the decision: by the hotplug script itself, just before its use."""
    lab = arena.lab
    script = "/etc/xen/scripts/block.xen"  # Xen's own, behind the veto
    swap = f"#!/bin/sh\nln -sfn /srv/blue-2 /home/user/swap\nexec {script}.own \"$@\"\n"
    lab.sh(f"mv {script} {script}.own")
    lab.put(script, swap, 0o755)
    try:
        ended = asks_for('disk = ["file:/home/user/swap,xvda,w"]', "device.exchanged")(arena)
    finally:
        lab.sh(f"mv {script}.own {script}")
    left = lab.sh("losetup -a | grep blue-2; true").out
    return ended if not left else Ended(Ends.OPEN, f"left behind: {left}")


def devices(lab: Lab) -> str:
    """Every device of a guest that XenStore or dom0's network knows of."""
    return lab.sh("xenstore-ls -f /local/domain/0/backend | "
                  "grep -E '/(vbd|qdisk|vif)/[0-9]+/[0-9]+ '; "
                  "ls /sys/class/net | grep vif; losetup -a").out


def asks_xl(*words: str) -> Callable[[Arena], Ended]:
    """The attempt to attach with xl, behind shype's back; stopped, with nothing left."""
    def attempt(arena: Arena) -> Ended:
        before = devices(arena.lab)
        done = arena.lab.run(["xl", *words], timeout=200)
        # On a very busy machine libxl loses patience with the script, which goes on alone.
        arena.lab.sh("while pgrep -f '[s]hype hotplug' >/dev/null; do sleep 0.2; done", timeout=200)
        after = devices(arena.lab)
        told = [line for line in done.err.splitlines() if "shype:" in line]
        stopped = done.code != 0 and after == before
        evidence = " ".join(told) or done.err.strip()[-200:] or f"exit code {done.code}"
        return Ended(Ends.STOPPED if stopped else Ends.OPEN, evidence)

    return attempt


def asks_shype(id: str, *words: str) -> Callable[[Arena], Ended]:
    """The attempt to attach with shype; stopped by that id, with nothing left."""
    def attempt(arena: Arena) -> Ended:
        before = devices(arena.lab)
        code, answer = shype(arena.lab, "attach", *words)
        stopped = code == 1 and reason(answer) == id and devices(arena.lab) == before
        return Ended(Ends.STOPPED if stopped else Ends.OPEN, f"exit code {code}: {reason(answer)}")

    return attempt


def image_by_xl(arena: Arena) -> Ended:
    """QEMU's disks have no script: nothing is asked, and `shype devices` must find it."""
    lab = arena.lab
    domid = lab.run(["xl", "domid", "red"]).out.strip()
    lab.run(["xl", "block-attach", "red", "/srv/red-layer.qcow2,qcow2,xvdo,w"], timeout=200)
    code, answer = shype(lab, "devices")
    found = [one for one in answer["devices"] if one["kind"] == "qdisk"]
    ids = [one["decision"]["id"] for one in found if one["decision"]]
    front = f"{domid}/device/vbd/51936"
    for place in (f"/local/domain/0/backend/qdisk/{domid}", f"/local/domain/{front}",
                  f"/libxl/{front}"):
        lab.run(["xenstore-rm", place])
    detected = code == 1 and ids == ["resource.disjoint"]
    return Ended(Ends.DETECTED if detected else Ends.OPEN,
                 f"shype devices: exit code {code}, {ids}")


def relabelled(arena: Arena) -> Ended:
    """What red has used is renamed into the place of blue's disks."""
    lab = arena.lab
    lab.sh("mv /srv/red-1 /srv/blue-9")
    lab.put("/run/blue.cfg", config("blue", type="pv", extra=(
        f'{STILL}\ndisk = ["file:/srv/blue-9,xvda,w"]')))
    code, answer = shype(lab, "run", "/run/blue.cfg")
    wiped, wiping = shype(lab, "disk", "wipe", "/srv/blue-9")
    lab.sh("mv /srv/blue-9 /srv/red-1")
    stopped = reason(answer) == "disk.relabelled" and reason(wiping) == "disk.in-use"
    return Ended(Ends.STOPPED if stopped else Ends.OPEN,
                 f"run: {reason(answer)} ({code}); wipe, in use: {reason(wiping)} ({wiped})")


def by_a_user(arena: Arena) -> Ended:
    """An unprivileged user of dom0 changes what decides."""
    places = ("/var/lib/shype/disks.json", "/etc/xen/scripts/block", "/etc/shype/policy.shype",
              "/srv/red-2", "/local/domain/0/backend")
    tried = " ".join(f"(echo x > {place}) 2>/dev/null && echo {place};" for place in places[:-1])
    tried += "rm -f /srv/red-2 2>/dev/null && echo rm; xenstore-ls 2>/dev/null && echo store; true"
    code, out = arena.as_user(tried)
    return Ended(Ends.STOPPED if code == 0 and not out.strip() else Ends.OPEN,
                 f"all refused by dom0's kernel {out}")


def without_a_policy(arena: Arena) -> Ended:
    """The bundle is gone: nobody can decide, so not even an own disk is attached."""
    place = "/etc/shype/policy.shype"
    arena.lab.run(["mv", place, "/run/policy.away"])
    try:
        return asks_xl("block-attach", "red", "phy:/dev/loop6,xvdn,w")(arena)
    finally:
        arena.lab.run(["mv", "/run/policy.away", place])



def its_own_disk_and_network_work(arena: Arena) -> None:
    """Through a link, red has its disk and its bridge, and its guest uses the disk."""
    lab = arena.lab
    base = "/local/domain/0/backend"
    done = lab.sh("d=$(xl domid red); for i in $(seq 300); do "
                  f"[ $(xenstore-read {base}/vbd/$d/51712/state) = 4 ] && break; sleep 0.2; done; "
                  f"xenstore-read {base}/vbd/$d/51712/state; losetup -a | grep -c red-1; "
                  "cat /sys/class/net/vif$d.0/brport/bridge/uevent | grep -c xenbr0", timeout=300)
    assert done.out.split() == ["4", "1", "1"], done.out + done.err


def devices_come_and_go(arena: Arena) -> None:
    """A disk is attached to the running VM, found, detached and wiped."""
    lab = arena.lab
    before = devices(lab)
    code, answer = shype(lab, "attach", "red", "disk", "phy:/dev/loop6,xvdc,w")
    assert (code, answer.get("attached")) == (0, ["51744"]), answer
    code, answer = shype(lab, "devices")
    assert (code, [one["what"] for one in answer["devices"]]) == (0, [
        "disk /srv/red-1", "disk /dev/loop6", "network xenbr0"]), answer
    code, answer = shype(lab, "disk", "wipe", "/srv/red-4")
    assert reason(answer) == "disk.in-use"
    assert shype(lab, "detach", "red", "disk", "xvdc")[0] == 0
    assert devices(lab) == before
    lab.sh("losetup -d /dev/loop6; printf secret | dd of=/srv/red-4 conv=notrunc 2>&1")
    code, answer = shype(lab, "disk", "wipe", "/srv/red-4")
    assert (code, answer.get("bytes")) == (0, 2 << 20), answer
    assert lab.sh("tr -d '\\0' < /srv/red-4 | wc -c").out.strip() == "0"


ATTACKS: list[Attack | Check] = [
    Attack("resources.symlink", By.USER, "A symbolic link leads to a foreign disk.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('disk = ["file:/home/user/link,xvda,w"]', "resource.disjoint")),
    Attack("resources.hard-link", By.USER, "A hard link is a foreign disk's second name.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('disk = ["file:/home/user/hard,xvda,w"]', "resource.disjoint")),
    Attack("resources.bind-mount", By.ADMIN, "A foreign disk is reached through another mount.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('disk = ["file:/mnt/bound/disk,xvda,w"]', "resource.disjoint")),
    Attack("resources.loop-device", By.ADMIN, "A loop device leads to a foreign disk.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('disk = ["phy:/dev/loop7,xvda,w"]', "resource.disjoint")),
    Attack("resources.backing-file", By.USER, "An image of one's own has a foreign backing file.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('disk = ["format=qcow2,vdev=xvda,access=rw,target=/srv/red-layer.qcow2"]',
                    "resource.disjoint")),
    Attack("resources.swap", By.USER, "The link is changed between the decision and its use.",
           Ends.STOPPED, Whom.AGENT, swapped),
    Attack("resources.ram-disk", By.ADMIN, "A foreign disk is named as the VM's RAM disk.",
           Ends.STOPPED, Whom.AGENT, asks_for('ramdisk = "/srv/blue-1"', "resource.disjoint")),
    Attack("resources.bridge", By.ADMIN, "A VM starts on the other coalition's bridge.",
           Ends.STOPPED, Whom.AGENT, asks_for('vif = ["bridge=br-blue"]', "resource.disjoint")),
    Attack("resources.own-script", By.ADMIN, "An interface has a hotplug script of its own.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('vif = ["bridge=xenbr0,script=/home/user/x"]', "device.script")),
    Attack("resources.share-all", By.ADMIN, "dom0's root directory is shared by 9p.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('p9 = ["tag=r,path=/,security_model=none"]', "resource.disjoint")),
    Attack("resources.backend", By.ADMIN, "A disk's backend is in another domain.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('disk = ["vdev=xvda,backend=nobody,target=/x"]', "device.backend")),
    Attack("resources.ports", By.ADMIN, "A VM is to have the other coalition's I/O ports.",
           Ends.STOPPED, Whom.AGENT, asks_for('ioports = ["3e8-3ef"]', "resource.disjoint")),
    Attack("resources.screen", By.ADMIN, "A VM's screen is to listen to the network.",
           Ends.STOPPED, Whom.AGENT,
           asks_for('vfb = ["type=vnc,vnclisten=0.0.0.0"]', "device.forbidden")),
    Attack("resources.relabelled", By.ADMIN, "A used disk is renamed into another label's place.",
           Ends.STOPPED, Whom.AGENT, relabelled),
    Attack("resources.as-user", By.USER, "A dom0 user changes record, scripts, policy or a disk.",
           Ends.STOPPED, Whom.KERNEL, by_a_user),
    Attack("resources.attach", By.ADMIN, "shype is asked to attach a foreign disk.",
           Ends.STOPPED, Whom.AGENT,
           asks_shype("resource.disjoint", "red", "disk", "phy:/dev/loop7,xvdb,w")),
    Attack("resources.attach-path", By.USER, "A disk is attached by a path that a user can swap.",
           Ends.STOPPED, Whom.AGENT,
           asks_shype("disk.exchangeable", "red", "disk", "file:/home/user/own,xvdb,w")),
    Attack("resources.xl-disk", By.ADMIN, "xl attaches a foreign disk behind shype's back.",
           Ends.STOPPED, Whom.AGENT, asks_xl("block-attach", "red", "phy:/dev/loop7,xvdb,w")),
    Attack("resources.xl-network", By.ADMIN, "xl attaches a foreign bridge behind shype's back.",
           Ends.STOPPED, Whom.AGENT, asks_xl("network-attach", "red", "bridge=br-blue")),
    Attack("resources.xl-image", By.ADMIN, "xl attaches an image that QEMU serves: no script asks.",
           Ends.DETECTED, Whom.AGENT, image_by_xl),
    Attack("resources.no-policy", By.FAULT, "xl attaches a disk while the bundle is missing.",
           Ends.STOPPED, Whom.AGENT, without_a_policy),
    Check(its_own_disk_and_network_work),
    Check(devices_come_and_go),
]

TestDefault, TestLocked, TestManager = each(ATTACKS, without=AS_MANAGED)

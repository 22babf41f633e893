"""Attempts on the TPMs of VMs: to get another's, to put one in its place, to get out of one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from tests.attacks.attack import (
    AS_MANAGED,
    Arena,
    Attack,
    By,
    Ended,
    Ends,
    Mode,
    Untried,
    Whom,
    each,
)
from tests.attacks.modes import up, vms
from tests.attacks.policies import DESKS
from tests.attacks.test_lifecycle import image
from tests.attacks.test_resources import reason
from tests.attacks.vtpm_guest import PACK
from tests.lab.conftest import STILL, boolean
from tests.lab.trails import shown, shype

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
PLACE = "/var/lib/shype/vtpm"
DESK, OLD, TOY, NEW = (f"5e1f0000-0000-4000-8000-00000000000{digit}" for digit in "abcd")


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """The VM desk runs and has its TPM; there are TPMs of old and toy, which do not run."""
    files = {"/opt/vtpm_dom0.py": (HERE / "vtpm_dom0.py").read_bytes()}
    with up(DESKS, mode, tmp_path_factory.mktemp("desks"), files) as lab:
        done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "-c", PACK])
        assert done.code == 0, done.err
        asks = mode is Mode.DEFAULT
        text = config("desk", type="pv", extra=f'uuid = "{DESK}"\n{"" if asks else STILL}')
        lab.put("/run/desk.cfg", text.replace("/guest/initrd", "/guest/asks"))
        code, answer = shype(lab, "run", "/run/desk.cfg")
        assert code == 0, answer
        users = dom0(lab, "make", OLD, "old", TOY, "toy").split()
        users.append(lab.sh(f"stat -c %u {PLACE}/{DESK}").out.strip())
        yield Arena(lab, dict(zip(("old", "toy", "desk"), users, strict=True)), mode)


def dom0(lab: Lab, *words: str) -> str:
    """What `vtpm_dom0.py` answers."""
    done = lab.run(
        ["env", "PYTHONPATH=/opt/shype", "python3", "/opt/vtpm_dom0.py", *words], timeout=200)
    assert done.code == 0 or "kill" in words, done.err
    return done.out.strip()


def run(arena: Arena, vm: str, uuid: str) -> tuple[int, str]:
    """`shype run` of a VM with that UUID and its label; the exit code, and why not."""
    code, answer = shype(arena.lab, "run", written(arena.lab, vm, uuid))
    return code, reason(answer)


def written(lab: Lab, vm: str, uuid: str, seclabel: str | None = None) -> str:
    """The place of a VM's configuration."""
    place = f"/run/{vm}.cfg"
    lab.put(place, config(vm, type="pv", seclabel=seclabel, extra=f'uuid = "{uuid}"\n{STILL}'))
    return place


def processes(lab: Lab) -> list[str]:
    """The ids of all that serve a TPM."""
    return lab.run(["pgrep", "-x", "swtpm"]).out.split()


def alone(arena: Arena, said: str) -> Ended:
    """Stopped, if desk runs alone, with its TPM and without a window."""
    lab = arena.lab
    who, serving = vms(lab), processes(lab)
    if who != ["desk"] or len(serving) != 1 or boolean(lab, "win_en"):
        return Ended(Ends.OPEN, f"{who}, swtpm {serving}; {said}")
    return Ended(Ends.STOPPED, said)


def served(arena: Arena) -> str:
    """How desk's TPM is, as the agent lists it."""
    return next(str(tpm["state"]) for tpm in shype(arena.lab, "vtpm", "list")[1]["tpms"]
                if tpm["uuid"] == DESK)


def told(arena: Arena, state: str) -> Ended:
    """Detected, if the status of the host is not good, because desk's TPM is in that state."""
    code, value = shype(arena.lab, "status")
    said = next(point["state"] for point in value["points"] if point["name"] == "TPMs of VMs")
    right = code == 1 and said.startswith(
        tuple(f"WRONG: {name} ({state}" for name in (DESK, "desk")))
    return Ended(Ends.DETECTED if right else Ends.OPEN, f"status: exit code {code}, {said}")


def changed(
    do: str, undo: str, then: Callable[[Arena], Ended],
) -> Callable[[Arena], Ended]:
    """Root changes something in the directory of the TPMs; put right again in the end."""
    def attempt(arena: Arena) -> Ended:
        words = {"OLD": OLD, "TOY": TOY, "DESK": DESK, "USER_OLD": arena.notes["old"],
                 "USER_TOY": arena.notes["toy"]}

        def sh(script: str) -> None:
            text = re.sub(r"\b[A-Z_]{3,}\b", lambda m: words.get(m[0], m[0]), script)
            done = arena.lab.sh(f"set -e; cd {PLACE}; {text}")
            assert done.code == 0, done.err

        sh(do)
        try:
            return then(arena)
        finally:
            sh(undo)

    return attempt


def refused(vm: str, uuid: str, id: str) -> Callable[[Arena], Ended]:
    """The VM with that UUID does not start, for that reason, and nothing is left."""
    def attempt(arena: Arena) -> Ended:
        code, why = run(arena, vm, uuid)
        ended = alone(arena, f"exit code {code}: {why}")
        if code == 0:
            shype(arena.lab, "stop", "--force", vm)
        return ended if code and why == id else Ended(Ends.OPEN, ended.evidence)

    return attempt


def relabelled(arena: Arena) -> Ended:
    """The record is root's, and nothing binds it: old's TPM is powered on for toy."""
    said = dom0(arena.lab, "launch", "break", "prepared", written(arena.lab, "toy", OLD))
    given = [record["subject"] for record in shown(arena.lab, "--kind", "vtpm")
             if record["details"]["uuid"] == OLD]
    how = Ends.OPEN if (said, given[-1:]) == ("prepared", ["toy"]) else Ends.STOPPED
    return Ended(how, f"{said}; the trail has old's TPM given to {given}")


def rolled_back(arena: Arena) -> Ended:
    """Its count of resets goes back, and it is as good as before."""
    before, after, same = dom0(arena.lab, "roll", OLD).split()
    how = Ends.OPEN if same == "True" and int(after) <= int(before) else Ends.STOPPED
    return Ended(how, f"its count of resets was {before} and is {after}; its identity is the same")


def by_a_user(arena: Arena) -> Ended:
    process, = processes(arena.lab)
    tried = {
        f"cat {PLACE}/{DESK}/tpm2-00.permall": "state", f"ls {PLACE}": "list",
        f"echo x > {PLACE}/{DESK}.json": "record", f"kill {process}": "signal",
        f"ls /proc/{process}/fd": "descriptors", f"ls /proc/{process}/root": "root",
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX)"
        f".connect(\"{PLACE}/c0\")'": "channel",
    }
    script = " ".join(f"{{ {line}; }} >/dev/null 2>&1 && echo {what};"
                      for line, what in tried.items())
    _, out = arena.as_user(f"{script} true")
    if out.split():
        return Ended(Ends.OPEN, f"reached: {out.split()}")
    return alone(arena, f"refused: {', '.join(tried.values())}")


def as_swtpm(arena: Arena, *words: str) -> str:
    """Run it as whoever has taken over the process that serves desk; without swtpm's filter."""
    user = arena.notes["desk"]
    done = arena.lab.run(
        ["sh", "-c", f'cd {PLACE}/{DESK}; exec setpriv --reuid={user} --regid={user} '
         '--clear-groups "$@"', "-", *words], timeout=120)
    assert done.code == 0, done.err
    return done.out


def taken_over(arena: Arena) -> Ended:
    lab = arena.lab
    model = lab.sh("pgrep -f '[q]emu-system.*desk' | head -n 1").out.strip()
    other = dom0(lab, "hold", OLD)
    found = json.loads(as_swtpm(
        arena, "python3", "-c", (HERE / "vtpm_reach.py").read_text(), OLD, other, model))
    assert lab.run(["shype", "recover"], timeout=120).code == 0
    assert found.pop("its own state") == "done"
    reached = [what for what, came in found.items() if came == "done"]
    if reached:
        return Ended(Ends.OPEN, f"reached: {reached}")
    counts = ", ".join(f"{count} {came}" for came, count in Counter(found.values()).items())
    return alone(arena, f"{len(found)} refused: {counts}")


def fills(arena: Arena) -> Ended:
    as_swtpm(arena, "dd", "if=/dev/zero", "of=much", "bs=1M", "count=8")
    size = arena.lab.sh(f"stat -c %s {PLACE}/{DESK}/much; rm {PLACE}/{DESK}/much").out.strip()
    return Ended(Ends.OPEN if size == str(8 << 20) else Ends.STOPPED, f"{size} bytes are written")


def lives_on(arena: Arena) -> Ended:
    """It holds no lock, so nobody ends it; its TPM is removed, and another VM gets a new one."""
    lab, user = arena.lab, arena.notes["old"]
    left = lab.sh(f"setpriv --reuid={user} --regid={user} --clear-groups sleep 900 "
                  ">/dev/null 2>&1 & echo $!").out.strip()
    try:
        assert shype(lab, "vtpm", "remove", OLD, "--yes")[0] == 0
        got = dom0(lab, "seat", NEW, "toy")
    finally:
        lab.sh(f"kill {left}")
    if got == user:
        return Ended(Ends.OPEN, f"the new TPM has its user {user}")
    return alone(arena, f"it has user {user}, the new TPM {got}")


def guest_says(arena: Arena) -> str:
    log = "/var/log/xen/console/guest-desk.log"
    arena.lab.sh(f"for i in $(seq 600); do grep -q TPM-SAYS {log} && exit; sleep 0.2; done",
                 timeout=200)
    found = re.findall("TPM-SAYS .*", arena.lab.sh(f"cat {log}").out)
    assert found, arena.lab.sh(f"tail {log}").out
    return str(found[-1])


def asks_for_platform(arena: Arena) -> Ended:
    said = guest_says(arena)
    seed = "seed=80010000000a00000185" in said  # TPM_RC_HIERARCHY, of the first handle
    return Ended(Ends.STOPPED if seed else Ends.OPEN, said)


def floods(arena: Arena) -> Ended:
    """The TPM answers afterwards, its log has not grown, and the other TPMs are served."""
    said = guest_says(arena)
    size = int(arena.lab.sh(f"cat {PLACE}/*.log | wc -c").out)
    state = served(arena)
    right = f"random=80010000001400000000 long={' 80010000003400000000' * 4}"
    if right not in said or size > 4096 or state != "served":
        return Ended(Ends.OPEN, f"{said}; {state}, {size} bytes of log")
    return alone(arena, f"it goes on, also with long commands; {state}, {size} bytes of log")


def twice(arena: Arena) -> Ended:
    lab = arena.lab
    code, answer = shype(lab, "run", written(lab, "twin", DESK, "desk"))
    ended = alone(arena, f"exit code {code}: {reason(answer)}")
    state = served(arena)
    return ended if (reason(answer), state) == ("vm.running", "served") else Ended(
        Ends.OPEN, f"{ended.evidence}, {state}")


def asks(*words: str, ids: tuple[str, ...]) -> Callable[[Arena], Ended]:
    """shype is asked, and says one of these."""
    def attempt(arena: Arena) -> Ended:
        code, answer = shype(arena.lab, *words)
        ended = alone(arena, f"exit code {code}: {reason(answer)}")
        return ended if code and reason(answer) in ids else Ended(Ends.OPEN, ended.evidence)

    return attempt


def restores(arena: Arena) -> Ended:
    arena.lab.put("/run/old.img", image("old", "u:r:l_old_t:s0", uuid=OLD), 0o600)
    return asks("restore", "--foreign", "/run/old.img", ids=("vtpm.stays",))(arena)


def full(arena: Arena) -> Ended:
    """No room for the state of a new TPM; with room it is made."""
    lab = arena.lab
    lab.sh(f"mount -t tmpfs -o size=8k,mode=700 none {PLACE}")
    try:
        code, why = run(arena, "toy", NEW)
        ended = alone(arena, f"exit code {code}: {why}")
        lab.sh(f"mount -o remount,size=1m {PLACE}")
        again = dom0(lab, "launch", "break", "prepared", "/run/toy.cfg")
    finally:
        lab.sh(f"umount {PLACE}")
    made = code == 3 and again == "prepared"
    return Ended(ended.how if made else Ends.OPEN, f"{ended.evidence}; with room: {again}")


def launch_dies(arena: Arena) -> Ended:
    """Killed when the TPM is on, the window open, and no VM there yet."""
    lab = arena.lab
    said = dom0(lab, "launch", "kill", "opened", written(lab, "toy", TOY))
    left = len(processes(lab))
    assert (said, left) == ("opened", 2)
    assert lab.run(["shype", "recover"], timeout=200).code == 0
    return alone(arena, "2 swtpm when it was killed, with the window open; 1 after shype recover")


def killed(arena: Arena) -> Ended:
    process, = processes(arena.lab)
    arena.lab.sh(f"kill -KILL {process}; while [ -e /proc/{process} ]; do sleep 0.1; done")
    assert arena.lab.run(["shype", "recover"], timeout=120).code == 0
    ended = told(arena, "lost")
    events = len(shown(arena.lab, "--kind", "vtpm.lost"))
    return Ended(ended.how if events == 1 else Ends.OPEN, f"{events} vtpm.lost; {ended.evidence}")


#: Of what is a matter of dom0's files and processes only.
FILES = {Mode.MANAGER: Untried("a matter of dom0's files and processes, which a manager leaves "
                               "as they are")}
SWTPM = {Mode.MANAGER: Untried("the same program answers the guest, and no window is involved")}
AGENT = {Mode.MANAGER: Untried("refused before a manager is asked for anything")}
#: Exchanged, each with the other's rights.
EXCHANGE = ("mv OLD aside; mv TOY OLD; mv aside TOY; chown -R {}:{} OLD; chown -R {}:{} TOY")


ATTACKS = (
    Attack("vtpm.platform", By.GUEST, "A guest asks for another seed of its TPM's identity.",
           Ends.STOPPED, Whom.SWTPM, asks_for_platform, SWTPM),
    Attack("vtpm.flood", By.GUEST, "A guest sends garbage, halves and huge commands to its TPM.",
           Ends.STOPPED, Whom.SWTPM, floods, SWTPM),
    Attack("vtpm.owner", By.ADMIN, "A VM of another label starts with the UUID of a TPM.",
           Ends.STOPPED, Whom.AGENT, refused("toy", OLD, "vtpm.owner"), AGENT),
    Attack("vtpm.twin", By.ADMIN, "A second VM starts with the UUID of one that runs.",
           Ends.STOPPED, Whom.AGENT, twice, AGENT),
    Attack("vtpm.other-tpm", By.ROOT, "The states of two TPMs are exchanged, with their rights.",
           Ends.STOPPED, Whom.AGENT,
           changed(EXCHANGE.format(*["USER_OLD"] * 2, *["USER_TOY"] * 2),
                   EXCHANGE.format(*["USER_OLD"] * 2, *["USER_TOY"] * 2),
                   refused("old", OLD, "vtpm.other-tpm")), FILES),
    Attack("vtpm.link", By.ROOT, "The state becomes a symbolic link to another TPM's.",
           Ends.STOPPED, Whom.AGENT,
           changed("mv OLD aside; ln -s TOY OLD", "rm OLD; mv aside OLD",
                   refused("old", OLD, "vtpm.damaged")), FILES),
    Attack("vtpm.opened", By.ROOT, "The state is opened to others.", Ends.STOPPED, Whom.AGENT,
           changed("chmod 755 OLD", "chmod 700 OLD", refused("old", OLD, "vtpm.damaged")), FILES),
    Attack("vtpm.no-record", By.ROOT, "The record that says whose a TPM is is removed.",
           Ends.STOPPED, Whom.AGENT,
           changed("mv OLD.json aside", "mv aside OLD.json",
                   refused("old", OLD, "vtpm.damaged")), FILES),
    Attack("vtpm.relabel", By.ROOT, "The record is edited to another label, and its VM started.",
           Ends.OPEN, None,
           changed("cp -p OLD.json aside; sed -i 's/\"old\"/\"toy\"/g' OLD.json",
                   "mv aside OLD.json", relabelled), FILES),
    Attack("vtpm.roll-back", By.ROOT, "A TPM's state is replaced by an old copy of it.",
           Ends.OPEN, None, rolled_back, FILES),
    Attack("vtpm.as-user", By.USER, "A dom0 user reads a TPM, talks to it, or ends it.",
           Ends.STOPPED, Whom.KERNEL, by_a_user, FILES),
    Attack("vtpm.taken-over", By.GUEST, "What serves a TPM is taken over, and reaches for other "
           "TPMs, the agent, the device model and Xen.",
           Ends.STOPPED, Whom.KERNEL, taken_over, FILES),
    Attack("vtpm.fill", By.GUEST, "What serves a TPM is taken over, and writes dom0's disk full.",
           Ends.OPEN, None, fills, FILES),
    Attack("vtpm.save", By.ADMIN, "A VM with a TPM is saved.", Ends.STOPPED, Whom.AGENT,
           asks("save", "desk", "/run/desk.img", ids=("vtpm.stays", "label.locked"))),
    Attack("vtpm.migrate", By.ADMIN, "A VM with a TPM is migrated.", Ends.STOPPED, Whom.AGENT,
           asks("migrate", "desk", "elsewhere", ids=("vtpm.stays", "label.locked"))),
    Attack("vtpm.restore", By.ADMIN, "An image of a VM that has a TPM is restored.",
           Ends.STOPPED, Whom.AGENT, restores, AGENT),
    Attack("vtpm.remove", By.ADMIN, "The TPM of a VM that runs is removed with shype.",
           Ends.STOPPED, Whom.AGENT, asks("vtpm", "remove", DESK, ids=("vtpm.in-use",)), FILES),
    Attack("vtpm.take-state", By.ROOT, "The state of a TPM is taken away while its VM runs.",
           Ends.DETECTED, Whom.AGENT,
           changed("mv DESK aside", "mv aside DESK", lambda arena: told(arena, "damaged")), FILES),
    Attack("vtpm.take-all", By.ROOT, "State and record are taken away while the VM runs.",
           Ends.DETECTED, Whom.AGENT,
           changed("mv DESK aside; mv DESK.json beside", "mv aside DESK; mv beside DESK.json",
                   lambda arena: told(arena, "damaged")), FILES),
    Attack("vtpm.full", By.FAULT, "The disk is full while a TPM is made.",
           Ends.STOPPED, Whom.AGENT, full, FILES),
    Attack("vtpm.launch-dies", By.FAULT, "A launch is killed when the TPM is on.",
           Ends.STOPPED, Whom.AGENT, launch_dies),
    Attack("vtpm.lives-on", By.GUEST, "A process that was taken over outlives its TPM, and waits "
           "for another that gets its user id.", Ends.STOPPED, Whom.AGENT, lives_on, FILES),
    Attack("vtpm.killed", By.ROOT, "What serves a TPM is killed while its VM runs.",
           Ends.DETECTED, Whom.AGENT, killed, FILES),
)
TestDefault, TestLocked, TestManager = each(ATTACKS, without=AS_MANAGED)

"""Root in dom0 tries to undo the policy, or to reach into a VM, behind shype's back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, each
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_faults import shype
from tests.lab.test_manager import POLICY, module, start_manager

pytestmark = pytest.mark.lab

REACH = (Path(__file__).parents[1] / "lab/reach_program.py").read_text()
#: Says something to the manager's console, and prints what comes back within some seconds.
TALK = """\
import os, select, sys, termios, time, tty
console = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
tty.setraw(console, termios.TCSANOW)
said, heard, deadline = sys.stdin.buffer.read(), b"", time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline and heard.count(b"\\n") < int(sys.argv[3]):
    readable, writable, _ = select.select([console], [console] if said else [], [], 1)
    if writable:
        said = said[os.write(console, said[:1024]):]
    if readable:
        heard += os.read(console, 4096)
sys.stdout.buffer.write(heard)
"""
OPEN_RIVAL = {"win_en": True, "win_b0": True, "win_b1": True, "run_left": False, "run_right": True}
OPEN_PLAIN = {"win_en": True, "win_b0": False, "win_b1": True}


@pytest.fixture(scope="module")
def arena(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Two hosts: `Arena.lab` has a manager, and `trusting` gives one without."""
    place = tmp_path_factory.mktemp("dom0")
    (place / "managed.yaml").write_text(POLICY)
    (place / "plain.yaml").write_text(POLICY.replace(", manager: keeper", ""))
    for name in ("managed", "plain"):
        build(load(place / f"{name}.yaml").policy, target="xen-4.17", out=place / name)
    files = {"/opt/xen-privcmd.ko": module(lab_built).read_bytes()}
    with Lab.up(bundle=place / "managed", files=files) as lab, (
        Lab.up(bundle=place / "plain")
    ) as other:
        start_manager(lab)
        for host, names in ((lab, ("vault",)), (other, ("vault", "plain"))):
            host.put("/tmp/policy.bin", (place / "plain/policy.bin").read_bytes())
            for name in ("vault", "plain", "rival"):
                host.put(f"/run/{name}.cfg", config(name, type="pv", extra=STILL))
            for name in names:
                answer = shype(host, "run", f"/run/{name}.cfg")
                assert answer.code == 0, answer.value
        TRUSTING.append(other)
        yield Arena(lab, place / "managed")
        TRUSTING.clear()


#: The host without a manager.
TRUSTING: list[Lab] = []


def trusting(arena: Arena) -> Lab:
    """The other host than `Arena.lab`."""
    other, = TRUSTING
    assert other is not arena.lab
    return other


def reaches(vm: str, what: str) -> Callable[[Arena], Ended]:
    def attempt(arena: Arena) -> Ended:
        lab = trusting(arena)
        done = lab.run(["python3", "-c", REACH, lab.run(["xl", "domid", vm]).out.strip()])
        found = json.loads(done.out)[what]
        return Ended(Ends.OPEN if found == "done" else Ends.STOPPED, f"{what}: {found}")

    return attempt


def saves(vm: str) -> Callable[[Arena], Ended]:
    def attempt(arena: Arena) -> Ended:
        lab = trusting(arena)
        done = lab.sh(f"xl save -c {vm} /run/image >/run/said 2>&1; code=$?; tail -n 1 /run/said; "
                      "rm -f /run/image; exit $code", timeout=200)
        return Ended(Ends.STOPPED if done.code else Ends.OPEN, f"xl save: {done.out.strip()}")

    return attempt


def opens_window(lab: Lab) -> Ended:
    done = lab.run(["flask-set-bool", "win_en", "1"])
    opened = boolean(lab, "win_en")
    lab.run(["flask-set-bool", "win_en", "0"])
    return Ended(Ends.OPEN if opened else Ends.STOPPED, (done.out + done.err).strip())


def loads(lab: Lab) -> Ended:
    done = lab.run(["xl", "loadpolicy", "/tmp/policy.bin"])
    return Ended(Ends.STOPPED if done.code else Ends.OPEN, (done.out + done.err).strip())


def goes_permissive(lab: Lab) -> Ended:
    done = lab.run(["xl", "setenforce", "0"])
    enforcing = lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    return Ended(Ends.STOPPED if enforcing else Ends.OPEN, (done.out + done.err).strip())


def forged(*lines: bytes, answers: int = 1, wait: float = 20) -> Callable[[Arena], Ended]:
    """dom0 says ``lines`` to the manager: no window may be open, and it must answer as before."""
    def attempt(arena: Arena) -> Ended:
        heard = talk(arena.lab, b"\n".join(lines) + b"\n", answers, wait)
        return told(arena, heard)

    return attempt


def talk(lab: Lab, said: bytes, answers: int, wait: float = 20) -> str:
    domid = lab.run(["xl", "domid", "shype-manager"]).out.strip()
    console = lab.run(["xenstore-read", f"/local/domain/{domid}/console/tty"]).out.strip()
    return lab.run(["python3", "-c", TALK, console, str(wait), str(answers)], input=said,
                   timeout=wait + 60).out


def told(arena: Arena, heard: str) -> Ended:
    """What the manager said; stopped if nothing is open and it works as before."""
    lab, said = arena.lab, heard.strip().splitlines()[-1:] or ["(silence)"]
    if boolean(lab, "win_en") or not boolean(lab, "run_left") or boolean(lab, "run_right"):
        return Ended(Ends.OPEN, said[0])
    working = lab.run(["shype", "manager", "status"], timeout=120).code == 0
    return Ended(Ends.STOPPED if working else Ends.OPEN, said[0])


def request(id_: str, **values: object) -> bytes:
    return json.dumps({"id": id_, "op": "set", "values": values}).encode()


def two_at_once(arena: Arena) -> Ended:
    """Two requests in one breath: one window at a time."""
    closed = dict.fromkeys(OPEN_PLAIN, False)
    said = talk(arena.lab, b"\n".join([
        request("a", **OPEN_PLAIN), request("b", **OPEN_PLAIN), request("c", **closed)]) + b"\n", 3)
    answers = {a["id"]: a.get("error", "set") for a in map(json.loads, said.splitlines()) if a}
    ended = told(arena, str(answers))
    return ended if answers == {"a": "set", "b": "manager.busy", "c": "set"} else Ended(
        Ends.OPEN, said)


def pauses_manager(arena: Arena) -> Ended:
    done = arena.lab.run(["xl", "pause", "shype-manager"], timeout=100)
    return told(arena, (done.out + done.err).strip())


def kills_manager(arena: Arena) -> Ended:
    """Refused; but xl has wiped its part of XenStore by then, and nobody finds its console."""
    context = "u:r:l_keeper_t:s0"
    assert context in guests(arena.lab).values()
    arena.lab.run(["xl", "destroy", "shype-manager"], timeout=100)
    if context not in guests(arena.lab).values():
        return Ended(Ends.OPEN, "it is gone")
    return nothing_starts(arena.lab)


def nothing_starts(lab: Lab) -> Ended:
    """Without a manager that answers, no window opens, and dom0 has no right to open one."""
    answer = shype(lab, "run", "/run/plain.cfg")
    held = answer.code != 0 and "plain" not in guests(lab) and not boolean(lab, "boot_manager")
    held = held and opens_window(lab).how is Ends.STOPPED and boolean(lab, "run_left")
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"nothing starts: {answer.error}")


def second_manager(arena: Arena) -> Ended:
    lab = arena.lab
    lab.put("/run/twin.cfg", config("twin", type="pv", seclabel="u:r:l_keeper_t:s0", extra=STILL))
    done = lab.run(["xl", "create", "-p", "/run/twin.cfg"], timeout=200)
    return Ended(Ends.OPEN if "twin" in guests(lab) else Ends.STOPPED,
                 (done.out + done.err).strip().splitlines()[-1])


def reaches_manager(arena: Arena) -> Ended:
    lab = arena.lab
    domid = lab.run(["xl", "domid", "shype-manager"]).out.strip()
    found = json.loads(lab.run(["python3", "-c", REACH, domid]).out)
    return Ended(Ends.OPEN if "done" in found.values() else Ends.STOPPED, json.dumps(found))


def silences_manager(arena: Arena) -> Ended:
    """By XenStore the manager's kernel is asked to suspend: it can, and then nothing starts."""
    lab = arena.lab
    domid = lab.run(["xl", "domid", "shype-manager"]).out.strip()
    lab.run(["xenstore-write", f"/local/domain/{domid}/control/shutdown", "suspend"])
    lab.sh(f"for i in $(seq 60); do xl list {domid} | grep -q -e '---s' && break; sleep 0.5; done")
    if lab.run(["shype", "manager", "status"], timeout=120).code == 0:
        return Ended(Ends.STOPPED, "it answers as before")
    return nothing_starts(lab)


M, D, L = Mode.MANAGER, Mode.DEFAULT, Mode.LOCKED
ATTACKS = [
    Attack("dom0.map-memory", By.ROOT, "A VM's memory is mapped without a grant.",
           Ends.OPEN, reaches("plain", "map write"), D),
    Attack("dom0.map-memory", By.ROOT, "The same of a VM whose label is locked.",
           Ends.STOPPED, reaches("vault", "map write"), L),
    Attack("dom0.registers", By.ROOT, "A VM's registers are read.",
           Ends.OPEN, reaches("plain", "get registers"), D),
    Attack("dom0.registers", By.ROOT, "The same of a VM whose label is locked.",
           Ends.STOPPED, reaches("vault", "get registers"), L),
    Attack("dom0.save", By.ROOT, "xl saves a locked VM to a file.",
           Ends.STOPPED, saves("vault"), L),
    Attack("dom0.open-window", By.ROOT, "A launch window is opened by flask-set-bool.",
           Ends.OPEN, lambda arena: opens_window(trusting(arena)), D),
    Attack("dom0.open-window", By.ROOT, "The same where a manager has that right.",
           Ends.STOPPED, lambda arena: opens_window(arena.lab), M),
    Attack("dom0.load-policy", By.ROOT, "Another policy is loaded.",
           Ends.STOPPED, lambda arena: loads(trusting(arena)), D),
    Attack("dom0.load-policy", By.ROOT, "One without a manager is loaded.",
           Ends.STOPPED, lambda arena: loads(arena.lab), M),
    Attack("dom0.permissive", By.ROOT, "FLASK is switched to permissive.",
           Ends.STOPPED, lambda arena: goes_permissive(trusting(arena)), D),
    Attack("dom0.permissive", By.ROOT, "The same where there is a manager.",
           Ends.STOPPED, lambda arena: goes_permissive(arena.lab), M),
    Attack("dom0.forge-malformed", By.ROOT, "The manager is told nonsense.", Ends.STOPPED,
           forged(b"\x00\xff{", b"[" * 9000, b'{"op": "set", "values": {"boot_manager": true}}',
                  b'{"op": "set", "values": {"win_en": 1}}', answers=4), M),
    Attack("dom0.forge-huge", By.ROOT, "A request of 200 KiB, without an end.", Ends.STOPPED,
           forged(b"x" * 200_000, b'{"op": "status"}', answers=1, wait=60), M),
    Attack("dom0.forge-two", By.ROOT, "Two requests at once, for two windows.",
           Ends.STOPPED, two_at_once, M),
    Attack("dom0.forge-wall", By.ROOT, "A window of the other side of the wall, and the wall is "
           "said to be free.", Ends.STOPPED, forged(request("w", **OPEN_RIVAL)), M),
    Attack("dom0.reach-manager", By.ROOT, "The manager's own memory is read.",
           Ends.STOPPED, reaches_manager, M),
    Attack("dom0.second-manager", By.ROOT, "A domain of dom0's own is given the manager's label.",
           Ends.STOPPED, second_manager, M),
    Attack("dom0.pause-manager", By.ROOT, "The manager is paused.",
           Ends.STOPPED, pauses_manager, M),
    Attack("dom0.silence-manager", By.ROOT, "The manager's kernel is made to suspend.",
           Ends.STOPPED, silences_manager, M),
    Attack("dom0.kill-manager", By.ROOT, "The manager is destroyed.",
           Ends.STOPPED, kills_manager, M),
]

test_attack = each(ATTACKS)

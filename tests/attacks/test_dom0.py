"""Root in dom0 tries to undo the policy, or to reach into a VM, behind shype's back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from shype.lab import builder, handover
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.names import LabelName
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Untried, Whom, each
from tests.attacks.modes import compiled, up
from tests.attacks.policies import BANKS
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_faults import shype

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
#: The manager's context.
KEEPER = "u:r:l_keeper_t:s0"

@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """A host on which a-db runs, and in dom0's /tmp a policy that gives dom0 everything back."""
    place = tmp_path_factory.mktemp("dom0")
    trusting, mine = (compiled(BANKS, one, place) for one in (Mode.DEFAULT, mode))
    with up(BANKS, mode, place) as lab:
        lab.put("/tmp/policy.bin", (trusting / "policy.bin").read_bytes())
        for name in ("a-db", "market"):
            lab.put(f"/run/{name}.cfg", config(name, type="pv", extra=STILL))
        answer = shype(lab, "run", "/run/a-db.cfg")
        assert answer.code == 0, answer.value
        yield Arena(lab, {"manifest": str(mine), "held": "run_bank_a", "free": "run_bank_b"}, mode)


def window(arena: Arena, label: str | None) -> dict[str, bool]:
    """The booleans of the window of this label; None: of none."""
    manifest = handover.read(Path(arena.notes["manifest"]))[0].manifest
    return manifest.window_values(None if label is None else LabelName(label))


def reached(lab: Lab, vm: str) -> Mapping[str, str]:
    """What a program of root's in dom0 could do to a VM."""
    done = lab.run(["python3", "-c", REACH, lab.run(["xl", "domid", vm]).out.strip()])
    found: Mapping[str, str] = json.loads(done.out)
    return found


def reaches(what: str) -> Callable[[Arena], Ended]:
    def attempt(arena: Arena) -> Ended:
        found = reached(arena.lab, "a-db")[what]
        return Ended(Ends.OPEN if found == "done" else Ends.STOPPED, f"{what}: {found}")

    return attempt


def reopens(arena: Arena) -> Ended:
    """The window in which a locked VM was built is opened once more, to reach into it."""
    lab = arena.lab
    opened = [lab.run(["flask-set-bool", name, str(int(value))]).code
              for name, value in window(arena, "bank-a-db").items()]
    found = reached(lab, "a-db")["map read"]
    for name, value in window(arena, None).items():
        lab.run(["flask-set-bool", name, str(int(value))])
    return Ended(Ends.OPEN if found == "done" else Ends.STOPPED,
                 f"flask-set-bool: exit codes {sorted({*opened})}, map read: {found}")


def opens_window(arena: Arena) -> Ended:
    lab = arena.lab
    done = lab.run(["flask-set-bool", "win_en", "1"])
    opened = boolean(lab, "win_en")
    lab.run(["flask-set-bool", "win_en", "0"])
    said = (done.out + done.err).strip() or f"win_en: {'on' if opened else 'off'}"
    return Ended(Ends.OPEN if opened else Ends.STOPPED, said)


def loads(arena: Arena) -> Ended:
    done = arena.lab.run(["xl", "loadpolicy", "/tmp/policy.bin"])
    return Ended(Ends.STOPPED if done.code else Ends.OPEN, (done.out + done.err).strip())


def goes_permissive(arena: Arena) -> Ended:
    done = arena.lab.run(["xl", "setenforce", "0"])
    enforcing = arena.lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    return Ended(Ends.STOPPED if enforcing else Ends.OPEN, (done.out + done.err).strip())


def frees_wall(arena: Arena) -> Ended:
    """The wall's boolean of what runs is cleared: then the other side could start beside it."""
    lab = arena.lab
    lab.run(["flask-set-bool", "run_bank_a", "0"])
    cleared = not boolean(lab, "run_bank_a")
    lab.run(["flask-set-bool", "run_bank_a", "1"])
    return Ended(Ends.OPEN if cleared else Ends.STOPPED, f"run_bank_a cleared: {cleared}")


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
    held, free = (boolean(lab, arena.notes[name]) for name in ("held", "free"))
    if boolean(lab, "win_en") or not held or free:
        return Ended(Ends.OPEN, said[0])
    working = lab.run(["shype", "manager", "status"], timeout=120).code == 0
    return Ended(Ends.STOPPED if working else Ends.OPEN, said[0])


def request(id_: str, **values: object) -> bytes:
    return json.dumps({"id": id_, "op": "set", "values": values}).encode()


def asks_rival(arena: Arena) -> Ended:
    """The other side of the wall, and run_bank_a is said to be free."""
    wrong = {**window(arena, "bank-b-db"), "run_bank_a": False, "run_bank_b": True}
    return told(arena, talk(arena.lab, request("w", **wrong) + b"\n", 1))


def two_at_once(arena: Arena) -> Ended:
    """Two requests in one breath: one window at a time."""
    market = window(arena, "market-data")
    said = talk(arena.lab, b"\n".join([
        request("a", **market), request("b", **market), request("c", **window(arena, None))])
        + b"\n", 3)
    answers = {a["id"]: a.get("error", "set") for a in map(json.loads, said.splitlines()) if a}
    ended = told(arena, str(answers))
    return ended if answers == {"a": "set", "b": "manager.busy", "c": "set"} else Ended(
        Ends.OPEN, said)


def pauses_manager(arena: Arena) -> Ended:
    done = arena.lab.run(["xl", "pause", "shype-manager"], timeout=100)
    return told(arena, (done.out + done.err).strip())


def kills_manager(arena: Arena) -> Ended:
    """Refused; but xl has wiped its part of XenStore by then, and nobody finds its console."""
    context = KEEPER
    assert context in guests(arena.lab).values()
    arena.lab.run(["xl", "destroy", "shype-manager"], timeout=100)
    if context not in guests(arena.lab).values():
        return Ended(Ends.OPEN, "it is gone")
    return nothing_starts(arena)


def nothing_starts(arena: Arena) -> Ended:
    """Without a manager that answers, no window opens, and dom0 has no right to open one."""
    lab = arena.lab
    answer = shype(lab, "run", "/run/market.cfg")
    held = answer.code != 0 and "market" not in guests(lab) and not boolean(lab, "boot_manager")
    held = held and opens_window(arena).how is Ends.STOPPED and boolean(lab, "run_bank_a")
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"nothing starts: {answer.error}")


def second_manager(arena: Arena) -> Ended:
    lab = arena.lab
    lab.put("/run/twin.cfg", config("twin", type="pv", seclabel=KEEPER, extra=STILL))
    done = lab.run(["xl", "create", "-p", "/run/twin.cfg"], timeout=200)
    return Ended(Ends.OPEN if "twin" in guests(lab) else Ends.STOPPED,
                 (done.out + done.err).strip().splitlines()[-1])


def reaches_manager(arena: Arena) -> Ended:
    found = reached(arena.lab, "shype-manager")
    return Ended(Ends.OPEN if "done" in found.values() else Ends.STOPPED, json.dumps(found))


def silences_manager(arena: Arena) -> Ended:
    """By XenStore the manager's kernel is asked to suspend: it can, and then nothing starts."""
    lab = arena.lab
    domid = lab.run(["xl", "domid", "shype-manager"]).out.strip()
    lab.run(["xenstore-write", f"/local/domain/{domid}/control/shutdown", "suspend"])
    gone = lab.sh(f"for i in $(seq 60); do xl list {domid} | grep -q -e '---s' && exit; "
                  "sleep 0.5; done; exit 1")
    return nothing_starts(arena) if gone.code == 0 else told(arena, "it answers as before")


NO_MANAGER = dict.fromkeys(
    (Mode.DEFAULT, Mode.LOCKED), Untried("there is no manager: nobody to lie to, or to remove"))
LOCKED = dict.fromkeys((Mode.LOCKED, Mode.MANAGER), Ends.STOPPED)
MANAGED = {Mode.MANAGER: Ends.STOPPED}


def on_manager(
    name: str, what: str, attempt: Callable[[Arena], Ended], whom: Whom = Whom.XEN,
) -> Attack:
    """What only a host with a manager has."""
    return Attack(f"dom0.{name}", By.ROOT, what, Ends.STOPPED, whom, attempt, NO_MANAGER)


ATTACKS = [
    Attack("dom0.map-memory", By.ROOT, "A VM's memory is mapped without a grant.",
           Ends.OPEN, Whom.XEN, reaches("map write"), LOCKED),
    Attack("dom0.registers", By.ROOT, "A VM's registers are read.",
           Ends.OPEN, Whom.XEN, reaches("get registers"), LOCKED),
    Attack("dom0.memory-limit", By.ROOT, "A VM's memory limit is changed.",
           Ends.OPEN, Whom.XEN, reaches("set memory limit"), LOCKED),
    Attack("dom0.reopen-window", By.ROOT, "The window that a VM was built in is opened again, and "
           "its memory mapped.", Ends.OPEN, Whom.XEN, reopens, MANAGED),
    Attack("dom0.open-window", By.ROOT, "A launch window is opened by flask-set-bool.",
           Ends.OPEN, Whom.XEN, opens_window, MANAGED),
    Attack("dom0.free-wall", By.ROOT, "A running VM's member is taken off the wall.",
           Ends.OPEN, Whom.XEN, frees_wall, MANAGED),
    Attack("dom0.load-policy", By.ROOT, "A policy is loaded that trusts dom0.",
           Ends.STOPPED, Whom.XEN, loads),
    Attack("dom0.permissive", By.ROOT, "FLASK is switched to permissive.",
           Ends.STOPPED, Whom.XEN, goes_permissive),
    on_manager("forge-malformed", "The manager is told nonsense.",
               forged(b"\x00\xff{", b"[" * 9000,
                      b'{"op": "set", "values": {"boot_manager": true}}',
                      b'{"op": "set", "values": {"win_en": 1}}', answers=4), Whom.MANAGER),
    on_manager("forge-huge", "A request of 200 KiB, without an end.",
               forged(b"x" * 200_000, b'{"op": "status"}', answers=1, wait=60), Whom.MANAGER),
    on_manager("forge-two", "Two requests at once, for two windows.", two_at_once, Whom.MANAGER),
    on_manager("forge-wall", "A window of the other side of the wall, and the wall is said to be "
               "free.", asks_rival, Whom.MANAGER),
    on_manager("reach-manager", "The manager's own memory is read.", reaches_manager),
    on_manager("second-manager", "A domain of dom0's own is given the manager's label.",
               second_manager),
    on_manager("pause-manager", "The manager is paused.", pauses_manager),
    on_manager("silence-manager", "The manager's kernel is made to suspend.", silences_manager),
    on_manager("kill-manager", "The manager is destroyed.", kills_manager),
]

TestDefault, TestLocked, TestManager = each(ATTACKS)

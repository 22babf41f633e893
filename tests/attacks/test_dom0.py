"""Root in dom0 tries to undo the policy, or to reach into a VM, behind shype's back."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.host.manager import incoming
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.signed import seal
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, each
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.test_apply import compiled
from tests.lab.test_faults import shype
from tests.lab.test_manager import POLICY, module, start_manager, successor

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
#: Sends the bundle on standard input to the manager as the agent does, without its checks, and
#: prints the id of what comes of it.
OFFER = """\
import sys
from pathlib import Path
from types import SimpleNamespace as Some
from shype.base.errors import ShypeError
from shype.host.manager.link import Link
from shype.host.manager.managed import Managed

link = Link(lambda: Path(sys.argv[1]), Path("/run"))
what = Some(sealed=sys.stdin.buffer.read(), bundle=Some(manifest=Some(digest="none")))
try:
    Managed(link, None, None).load(what, {})
    print("loaded")
except ShypeError as error:
    print(error.id, type(error).__name__)
"""
#: FLASK's own hypercall, with a policy that the hypervisor would take.
LOAD = """\
import sys
from shype.base.errors import ShypeError
from shype.host.drivers.xen.flask import Flask

try:
    Flask().load(open(sys.argv[1], "rb").read())
    print("loaded")
except ShypeError as error:
    print(error)
"""
STRANGER = PrivateKey(bytes(range(32)))
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


def loads_by_hypercall(arena: Arena) -> Ended:
    """With the boolean under which the manager loads turned on before, or so root hopes."""
    lab = arena.lab
    lab.run(["flask-set-bool", "load_open", "1"])
    opened = boolean(lab, "load_open")
    done = in_shype(lab, LOAD, "/tmp/policy.bin")
    if opened:
        return Ended(Ends.OPEN, "load_open is on")
    return unchanged(arena, done, "loaded")


def in_shype(lab: Lab, program: str, *words: str, said: bytes = b"") -> str:
    done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "-c", program, *words], input=said,
                   timeout=400)
    return (done.out + done.err).strip().splitlines()[0]


def unchanged(arena: Arena, said: str, bad: str) -> Ended:
    """Stopped if the policy in force is the host's, nothing is open, and the manager works."""
    lab = arena.lab
    policy = json.loads(lab.run(["shype", "status", "--json"], timeout=120).out)["policy"]
    if not policy["loaded"] or boolean(lab, "load_open") or said.startswith(bad):
        return Ended(Ends.OPEN, f"{said}: {policy}")
    return told(arena, said)


def signed(arena: Arena, text: str) -> bytes:
    """A bundle by the author whom the manager trusts."""
    key = PrivateKey.from_pem(arena.lab.key.read_bytes(), str(arena.lab.key))
    return seal(compiled(text), [key])


def offers(make: Callable[[Arena], bytes]) -> Callable[[Arena], Ended]:
    """Root sends the manager a bundle."""
    def attempt(arena: Arena) -> Ended:
        lab = arena.lab
        domid = lab.run(["xl", "domid", "shype-manager"]).out.strip()
        console = lab.run(["xenstore-read", f"/local/domain/{domid}/console/tty"]).out.strip()
        updated(arena)
        return unchanged(arena, in_shype(lab, OFFER, console, said=make(arena)), "loaded")

    return attempt


def updated(arena: Arena) -> None:
    """The host has version 1.1, after 1.0."""
    lab = arena.lab
    if shype(lab, "status").value["policy"]["version"] == "1.0":  # type: ignore[index]
        lab.put("/run/next.shype", signed(arena, successor(1)))
        said = shype(lab, "apply", "/run/next.shype", "--yes")
        assert said.code == 0, said.value


def altered(arena: Arena) -> bytes:
    data = signed(arena, successor(2))
    at = len(data) // 2
    return data[:at] + (b"A" if data[at:at + 1] != b"A" else b"B") + data[at + 1:]


def trusts_another_key(arena: Arena) -> Ended:
    """Root has dom0 trust a key, and applies a policy that it signed."""
    lab = arena.lab
    updated(arena)
    lab.put("/etc/shype/keys/mine.pub", STRANGER.public.pem())
    lab.put("/run/mine.shype", seal(compiled(successor(2)), [STRANGER]))
    said = shype(lab, "apply", "/run/mine.shype", "--yes")
    lab.sh("rm /etc/shype/keys/mine.pub")
    return unchanged(arena, f"{said.error}", "None")


def cut_short(arena: Arena) -> Ended:
    """A bundle is announced, half of it sent, and then it is to be loaded."""
    whole = incoming.pack(signed(arena, successor(2)))
    half = base64.b64encode(whole[:len(whole) // 2]).decode()
    lines = (
        {"op": "offer", "size": len(whole), "digest": hashlib.sha256(whole).hexdigest()},
        {"op": "part", "at": 0, "data": half}, {"op": "load"})
    said = talk(arena.lab, b"\n".join(json.dumps(one).encode() for one in lines) + b"\n", 3)
    last = json.loads(said.splitlines()[-1])
    return unchanged(arena, str(last.get("error")), "None")


def presses_keys(arena: Arena) -> Ended:
    """The registers of all processors, guests' included, are printed by the debug key."""
    done = arena.lab.run(["xl", "debug-keys", "d"])
    return Ended(Ends.STOPPED if done.code else Ends.OPEN, (done.out + done.err).strip())


def kills_update(arena: Arena) -> Ended:
    """The agent and its guardian are killed when the hypervisor has the new policy: the manager
    alone knows the way back, and the next command goes on."""
    lab = arena.lab
    updated(arena)
    parts = compiled(successor(2))
    assert isinstance(parts.manifest, dict)
    lab.put("/run/next.shype", signed(arena, successor(2)))
    lab.put("/run/kill", f"""\
setsid shype apply /run/next.shype --yes >/run/said 2>&1 &
until flask-get-bool policy_{parts.manifest['digest']} >/dev/null 2>&1; do sleep 0.1; done
for one in /proc/[0-9]*; do
    if tr '\\0' ' ' <$one/cmdline 2>/dev/null | grep -q 'apply /run/next.shype'; then
        kill -9 ${{one#/proc/}}
    fi
done
""")
    assert lab.run(["sh", "/run/kill"], timeout=400).code == 0
    shown = json.loads(lab.run(["shype", "status", "--json"], timeout=120).out)
    lab.run(["shype", "ps"], timeout=300)
    left = json.loads(lab.run(["shype", "status", "--json"], timeout=120).out)["update"]
    if shown["update"] is None or left is not None:
        return Ended(Ends.OPEN, f"shown: {shown['update']}, left: {left}")
    return unchanged(arena, f"shown as {shown['update']['phase']}, then finished", "None")


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
    Attack("dom0.load-hypercall", By.ROOT, "The same by the hypercall itself, load_open turned on "
           "before.", Ends.STOPPED, loads_by_hypercall, M),
    Attack("dom0.replay-bundle", By.ROOT, "The manager is sent the policy that was in force "
           "before, rightly signed.", Ends.STOPPED, offers(lambda arena: signed(arena, POLICY)), M),
    Attack("dom0.same-version", By.ROOT, "One with the version that is in force, and another "
           "content.", Ends.STOPPED, offers(lambda arena: signed(
               arena, successor(1).replace("[red, blue]", "[red, blue, green]"))), M),
    Attack("dom0.altered-bundle", By.ROOT, "A newer one in which a character was changed.",
           Ends.STOPPED, offers(altered), M),
    Attack("dom0.stranger-bundle", By.ROOT, "A newer one that root has signed.", Ends.STOPPED,
           offers(lambda arena: seal(compiled(successor(2)), [STRANGER])), M),
    Attack("dom0.unsigned-bundle", By.ROOT, "A newer one that nobody has signed.", Ends.STOPPED,
           offers(lambda arena: seal(compiled(successor(2)), [])), M),
    Attack("dom0.trusted-key", By.ROOT, "Root makes dom0 trust root's own key, and applies a "
           "policy signed with it.", Ends.STOPPED, trusts_another_key, M),
    Attack("dom0.end-of-manager", By.ROOT, "A newer one, rightly signed, without a manager.",
           Ends.STOPPED, offers(lambda arena: signed(
               arena, successor(2).replace("manager: keeper, ", ""))), M),
    Attack("dom0.cut-bundle", By.ROOT, "Half a bundle.", Ends.STOPPED, cut_short, M),
    Attack("dom0.kill-update", By.ROOT, "The agent is killed between the load and the commit.",
           Ends.STOPPED, kills_update, M),
    Attack("dom0.debug-keys", By.ROOT, "The registers of a guest are printed by a debug key.",
           Ends.STOPPED, presses_keys, M),
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

"""Root in dom0 tries to have a manager load another policy than its author's next one."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator

import pytest

from shype.host.manager import incoming
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.ed25519 import PrivateKey
from shype.policy.signed import seal
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import managed
from tests.attacks.test_dom0 import talk, told
from tests.lab.conftest import STILL, boolean
from tests.lab.test_apply import compiled
from tests.lab.test_faults import shype
from tests.lab.test_manager import POLICY, successor

pytestmark = pytest.mark.lab

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


@pytest.fixture(scope="class")
def arena(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A host with live updates, on which vault runs."""
    with managed(POLICY, tmp_path_factory.mktemp("manager")) as lab:
        trusting = compiled(POLICY.replace("manager: keeper, ", ""))
        lab.put("/tmp/policy.bin", trusting.files["policy.bin"])
        lab.put("/run/vault.cfg", config("vault", type="pv", extra=STILL))
        answer = shype(lab, "run", "/run/vault.cfg")
        assert answer.code == 0, answer.value
        yield Arena(lab, {"held": "run_left", "free": "run_right"}, Mode.MANAGER)


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


def bundle(name: str, what: str, make: Callable[[Arena], bytes]) -> Attack:
    """The manager is sent a bundle that it must not load."""
    return Attack(f"dom0.{name}", By.ROOT, what, Ends.STOPPED, Whom.MANAGER, offers(make))


ATTACKS = [
    Attack("dom0.load-hypercall", By.ROOT,
           "Another policy is loaded by the hypercall itself, load_open turned on before.",
           Ends.STOPPED, Whom.XEN, loads_by_hypercall),
    bundle("replay-bundle", "The manager is sent the policy that was in force before, rightly "
           "signed.", lambda arena: signed(arena, POLICY)),
    bundle("same-version", "One with the version that is in force, and another content.",
           lambda arena: signed(
               arena, successor(1).replace("[red, blue]", "[red, blue, green]"))),
    bundle("altered-bundle", "A newer one in which a character was changed.", altered),
    bundle("stranger-bundle", "A newer one that root has signed.",
           lambda arena: seal(compiled(successor(2)), [STRANGER])),
    bundle("unsigned-bundle", "A newer one that nobody has signed.",
           lambda arena: seal(compiled(successor(2)), [])),
    Attack("dom0.trusted-key", By.ROOT,
           "Root makes dom0 trust root's own key, and applies a policy signed with it.",
           Ends.STOPPED, Whom.MANAGER, trusts_another_key),
    bundle("end-of-manager", "A newer one, rightly signed, without a manager.",
           lambda arena: signed(arena, successor(2).replace("manager: keeper, ", ""))),
    Attack("dom0.cut-bundle", By.ROOT, "Half a bundle.",
           Ends.STOPPED, Whom.MANAGER, cut_short),
    Attack("dom0.kill-update", By.ROOT, "The agent is killed between the load and the commit.",
           Ends.STOPPED, Whom.MANAGER, kills_update),
    Attack("dom0.debug-keys", By.ROOT, "The registers of a guest are printed by a debug key.",
           Ends.STOPPED, Whom.XEN, presses_keys),
]
WHY = "nobody is asked to load a bundle; what dom0 loads by itself, see update.*"
TestDefault, TestLocked, TestManager = each(
    ATTACKS, without={Mode.DEFAULT: WHY, Mode.LOCKED: WHY})

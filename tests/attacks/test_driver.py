"""A driver domain that serves one coalition's disks against everybody else; and a sealed host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shype.compile.flask.build import build
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy import vector_order
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.names import VectorName
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, each
from tests.lab.conftest import boolean
from tests.lab.test_store import Step, domid
from tests.signing import STRANGER

POLICY = """\
shype: 1
policy: {name: served, version: "1.0"}
coalitions: [red, blue]
labels:
  manager: {coalitions: all}
  netd: {coalitions: [red]}
  red-vm: {coalitions: [red]}
  blue-vm: {coalitions: [blue]}
host: {dom0: manager, drivers: [netd]}
vms: {netd: netd, red: red-vm, blue: blue-vm}
static: true
vectors:
  normal: [netd, red-vm, blue-vm]
  service: [netd]
"""
VMS = ("netd", "red", "blue")
ORDER = "/run/vector.order"


@pytest.fixture(scope="module")
def arena(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """netd serves red; blue has nothing to do with either."""
    place = tmp_path_factory.mktemp("driver")
    (place / "served.yaml").write_text(POLICY)
    build(load(place / "served.yaml").policy, target="xen-4.17", out=place / "bundle")
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm, type="pv") for vm in VMS}
    with Lab.up(bundle=place / "bundle", files=files) as lab:
        for vm in VMS:
            started = lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
            assert started.code == 0, started.err
        probe.wait_for(lab.run, VMS)
        # or the attempts below would prove nothing: it does reach the VMs that it serves
        tried = probe.probe_pairs(
            lab.run, [("netd", "red")], [probe.Way.EVENT, probe.Way.GRANT_MAP_RW])
        assert {one.result for one in tried} == {"permitted"}
        yield Arena(lab, place / "bundle", {vm: domid(lab, vm) for vm in VMS})


def refused(*steps: Step, last: str = "EACCES") -> Callable[[Arena], Ended]:
    """The last of ``steps`` must end in that error; words like ``{blue}`` become domids."""
    def attempt(arena: Arena) -> Ended:
        made: list[Step] = [
            (step[0], step[1], *(
                word.format(**arena.notes) if isinstance(word, str) and "{" in word else word
                for word in step[2:])) for step in steps
        ]
        found = probe.script(arena.lab.run, made)
        said = [str(one.get("errno_name") or one["result"]) for one in found]
        return Ended(Ends.STOPPED if said[-1] == last else Ends.OPEN, " ".join(said))

    return attempt


def reached(source: str, target: str) -> Callable[[Arena], Ended]:
    """Every way from ``source`` to ``target`` is tried by real guests; none may arrive."""
    def attempt(arena: Arena) -> Ended:
        ways = [way for way in probe.Way if way is not probe.Way.ARGO]  # needs PVH guests
        tried = probe.probe_pairs(arena.lab.run, [(source, target)], ways)
        arrived = [str(one.mechanism) for one in tried if one.result != "denied"]
        return Ended(Ends.OPEN if arrived or not tried else Ends.STOPPED,
                     f"arrived by {arrived}" if arrived else f"denied: {len(tried)} ways")

    return attempt


def enlisted(arena: Arena) -> Ended:
    """A VM's configuration names the driver domain as backend of another coalition's device."""
    arena.lab.put("/run/try.cfg", config(
        "blue-2", type="pv", seclabel="blue-vm", extra='vif = ["backend=netd,bridge=x"]'))
    done = arena.lab.run(["shype", "run", "/run/try.cfg"], timeout=300)
    stopped = done.code == 1 and "ste.disjoint" in done.out
    return Ended(Ends.STOPPED if stopped else Ends.OPEN, done.out.splitlines()[0][:100])


def vector(arena: Arena, *words: str) -> tuple[int, str]:
    """`shype vector`."""
    done = arena.lab.run(["shype", "vector", *words], timeout=300)
    return done.code, (done.out + done.err).strip().splitlines()[0]


def signed(arena: Arena, key: PrivateKey | None, seconds: int, *hosts: str) -> None:
    """Puts an order for the vector `service` on the host; ``key`` None: the one it trusts."""
    order = vector_order.give("served", "1.0", VectorName("service"), hosts, seconds)
    mine = PrivateKey.from_pem(arena.lab.key.read_bytes(), str(arena.lab.key))
    arena.lab.put(ORDER, vector_order.seal(order, [key or mine]))


def not_switched(id: str, code: int, said: tuple[int, str], arena: Arena) -> Ended:
    """The order was refused with ``id``, and the vector stands."""
    held = said[0] == code and f"[{id}]" in said[1] and not boolean(arena.lab, "vec_b0")
    return Ended(Ends.STOPPED if held else Ends.OPEN, said[1][:110])


def forged(arena: Arena) -> Ended:
    signed(arena, STRANGER, 3600)
    return not_switched("order.unsigned", 2, vector(arena, "switch", ORDER), arena)


def diverted(arena: Arena) -> Ended:
    signed(arena, None, 3600, "another-host")
    return not_switched("order.other-host", 2, vector(arena, "switch", ORDER), arena)


def late(arena: Arena) -> Ended:
    signed(arena, None, 0)
    return not_switched("order.expired", 2, vector(arena, "switch", ORDER), arena)


def under_way(arena: Arena) -> Ended:
    signed(arena, None, 3600)
    return not_switched("vector.residents", 1, vector(arena, "switch", ORDER), arena)


def unprivileged(arena: Arena) -> Ended:
    signed(arena, None, 3600)
    code, said = arena.as_user(f"shype vector switch {ORDER} 2>&1; flask-set-bool vec_b0 1 2>&1")
    held = not boolean(arena.lab, "vec_b0")
    return Ended(Ends.STOPPED if held and code else Ends.OPEN, said.strip().splitlines()[-1][:110])


def by_hand(arena: Arena) -> Ended:
    """Root in dom0 sets the bits itself."""
    arena.lab.run(["flask-set-bool", "vec_b0", "1"])
    try:
        code, said = vector(arena, "show")
        arena.lab.put("/run/red-2.cfg", config("red-2", type="pv", seclabel="red-vm"))
        started = arena.lab.run(["shype", "run", "/run/red-2.cfg"], timeout=300)
        found = "vector.unordered" in said and "vector.unordered" in started.err
        return Ended(Ends.DETECTED if code == 3 and found else Ends.OPEN, said[:110])
    finally:
        arena.lab.run(["flask-set-bool", "vec_b0", "0"])


ATTACKS = (
    Attack("driver.out", By.DRIVER, "It tries every way to send to a VM that it does not serve.",
           Ends.STOPPED, reached("netd", "blue")),
    Attack("driver.in", By.GUEST, "A VM that it does not serve tries every way to send to it.",
           Ends.STOPPED, reached("blue", "netd")),
    Attack("driver.foreign-map", By.DRIVER, "It maps memory of the VM it serves without a grant.",
           Ends.STOPPED, refused(("netd", "foreign_map", "{red}", 1))),
    Attack("driver.pause", By.DRIVER, "It pauses the VM that it serves.", Ends.STOPPED,
           refused(("netd", "control", "{red}"))),
    Attack("driver.window", By.DRIVER, "It opens the launch window.", Ends.STOPPED,
           refused(("netd", "bool_set", "win_en", 1))),
    Attack("driver.policy", By.DRIVER, "It loads a policy.", Ends.STOPPED,
           refused(("netd", "policy_load"))),
    Attack("driver.permissive", By.DRIVER, "It ends enforcing.", Ends.STOPPED,
           refused(("netd", "enforce_set", 0))),
    Attack("driver.store", By.DRIVER, "It writes another VM's nodes in XenStore.", Ends.STOPPED,
           refused(("netd", "xs", "write", "/local/domain/{red}/data/x", "x"))),
    Attack("driver.enlisted", By.ADMIN, "A VM is to get its network from a driver domain of "
           "another coalition.", Ends.STOPPED, enlisted),
    Attack("vector.forged-order", By.ADMIN, "An order to another vector that a stranger signed.",
           Ends.STOPPED, forged),
    Attack("vector.diverted-order", By.ADMIN, "An order that was given for another host.",
           Ends.STOPPED, diverted),
    Attack("vector.late-order", By.ADMIN, "An order that has expired.", Ends.STOPPED, late),
    Attack("vector.residents", By.ADMIN, "A good order while VMs run that the vector lacks.",
           Ends.STOPPED, under_way),
    Attack("vector.user", By.USER, "A user of dom0 follows an order, and sets its bit by hand.",
           Ends.STOPPED, unprivileged),
    Attack("vector.by-hand", By.ROOT, "Root sets the vector's bits past shype.", Ends.DETECTED,
           by_hand),
)

test_attack = each(ATTACKS)

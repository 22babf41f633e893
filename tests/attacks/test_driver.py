"""A driver domain that serves one coalition's disks against everybody else; and a sealed host."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from shype.lab import builder, probe
from shype.lab.guests import config
from shype.policy import vector_order
from shype.policy.ed25519 import PrivateKey
from shype.policy.names import VectorName
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
from tests.attacks.modes import up
from tests.attacks.policies import SERVED
from tests.lab.conftest import boolean
from tests.lab.test_store import Step, domid
from tests.signing import STRANGER

VMS = ("netd", "red", "blue")
ORDER = "/run/vector.order"


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """netd serves red; blue has nothing to do with either."""
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm, type="pv") for vm in VMS}
    with up(SERVED, mode, tmp_path_factory.mktemp("driver"), files) as lab:
        for vm in VMS:
            started = lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
            assert started.code == 0, started.err
        probe.wait_for(lab.run, VMS)
        # or the attempts below would prove nothing: it does reach the VMs that it serves
        tried = probe.probe_pairs(
            lab.run, [("netd", "red")], [probe.Way.EVENT, probe.Way.GRANT_MAP_RW])
        assert {one.result for one in tried} == {"permitted"}
        yield Arena(lab, {vm: domid(lab, vm) for vm in VMS}, mode)


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
        "blue-2", type="pv", extra='vif = ["backend=netd,bridge=x"]'))
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
        arena.lab.put("/run/red-2.cfg", config("red-2", type="pv"))
        started = arena.lab.run(["shype", "run", "/run/red-2.cfg"], timeout=300)
        found = "vector.unordered" in said and "vector.unordered" in started.err
        return Ended(Ends.DETECTED if code == 3 and found else Ends.OPEN, said[:110])
    finally:
        arena.lab.run(["flask-set-bool", "vec_b0", "0"])


NO_VECTORS = {Mode.MANAGER: Untried("a policy with a manager has no vectors")}
ATTACKS = (
    Attack("driver.out", By.DRIVER, "It tries every way to send to a VM that it does not serve.",
           Ends.STOPPED, Whom.XEN, reached("netd", "blue")),
    Attack("driver.in", By.GUEST, "A VM that it does not serve tries every way to send to it.",
           Ends.STOPPED, Whom.XEN, reached("blue", "netd")),
    Attack("driver.foreign-map", By.DRIVER, "It maps memory of the VM it serves without a grant.",
           Ends.STOPPED, Whom.XEN, refused(("netd", "foreign_map", "{red}", 1))),
    Attack("driver.pause", By.DRIVER, "It pauses the VM that it serves.",
           Ends.STOPPED, Whom.XEN, refused(("netd", "control", "{red}"))),
    Attack("driver.window", By.DRIVER, "It opens the launch window.",
           Ends.STOPPED, Whom.XEN, refused(("netd", "bool_set", "win_en", 1))),
    Attack("driver.policy", By.DRIVER, "It loads a policy.",
           Ends.STOPPED, Whom.XEN, refused(("netd", "policy_load"))),
    Attack("driver.permissive", By.DRIVER, "It ends enforcing.",
           Ends.STOPPED, Whom.XEN, refused(("netd", "enforce_set", 0))),
    Attack("driver.store", By.DRIVER, "It writes another VM's nodes in XenStore.",
           Ends.STOPPED, Whom.STORE,
           refused(("netd", "xs", "write", "/local/domain/{red}/data/x", "x"))),
    Attack("driver.enlisted", By.ADMIN,
           "A VM is to get its network from a driver domain of another coalition.",
           Ends.STOPPED, Whom.AGENT, enlisted),
    Attack("vector.forged-order", By.ADMIN, "An order to another vector that a stranger signed.",
           Ends.STOPPED, Whom.AGENT, forged, NO_VECTORS),
    Attack("vector.diverted-order", By.ADMIN, "An order that was given for another host.",
           Ends.STOPPED, Whom.AGENT, diverted, NO_VECTORS),
    Attack("vector.late-order", By.ADMIN, "An order that has expired.",
           Ends.STOPPED, Whom.AGENT, late, NO_VECTORS),
    Attack("vector.residents", By.ADMIN, "A good order while VMs run that the vector lacks.",
           Ends.STOPPED, Whom.AGENT, under_way, NO_VECTORS),
    Attack("vector.user", By.USER, "A user of dom0 follows an order, and sets its bit by hand.",
           Ends.STOPPED, Whom.KERNEL, unprivileged, NO_VECTORS),
    Attack("vector.by-hand", By.ROOT, "Root sets the vector's bits past shype.",
           Ends.DETECTED, Whom.AGENT, by_hand, NO_VECTORS),
)

TestDefault, TestLocked, TestManager = each(ATTACKS, without=AS_MANAGED)

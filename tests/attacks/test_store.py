"""Guests against the lock of XenStore, each other and dom0; and what happens to the daemon."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from shype.lab import builder, probe
from shype.lab.guests import config
from tests.attacks.attack import AS_MANAGED, Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import up
from tests.lab.test_store import POLICY, PROGRAM, STOCK, Step, conflicts, count, domid, home

VMS = ("a1", "a2", "b1")


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """a1 and a2 may share directories, b1 nothing with them."""
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm, type="pv") for vm in VMS}
    with up(POLICY, mode, tmp_path_factory.mktemp("store"), files) as lab:
        for vm in VMS:
            started = lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
            assert started.code == 0, started.err
        probe.wait_for(lab.run, VMS)
        yield Arena(lab, {vm: domid(lab, vm) for vm in VMS}, mode)


def said(arena: Arena, *steps: Step) -> list[str]:
    """What came of each step: ``ok``, or the error's name."""
    return [str(one.get("errno_name") or one["result"])
            for one in probe.script(arena.lab.run, steps)]


def shype(arena: Arena, *words: str) -> tuple[int, dict[str, object]]:
    """A command in dom0."""
    done = arena.lab.run(["shype", *words, "--json"], timeout=300)
    value = json.loads(done.out)
    assert isinstance(value, dict)
    return done.code, value


def opened(node: str, entries: str, *, within: bool = False) -> Callable[[Arena], Ended]:
    """a1 opens ``node`` to b1, which then reads it. ``{a}`` and ``{b}`` are their domids."""
    def attempt(arena: Arena) -> Ended:
        numbers = {"a": arena.notes["a1"], "b": arena.notes["b1"]}
        path, words = node.format(**numbers), entries.format(**numbers).split()
        steps: list[Step] = [("a1", "xs", "set_perms", path, *words), ("b1", "xs", "read", path)]
        if path.endswith("/data/x"):
            steps.insert(0, ("a1", "xs", "write", path, "secret"))
        if within:
            steps.insert(1, ("a1", "xs_begin"))
            steps.insert(3, ("a1", "xs_end", "T"))
        done = said(arena, *steps)
        changed = next(d for d, step in zip(done, steps, strict=True) if "set_perms" in step)
        # (what begins with @ can be watched and not read: EINVAL, whoever asks)
        unread = "EINVAL" if path.startswith("@") else "EACCES"
        stopped = changed in ("ENOSPC", "EACCES") and done[-1] == unread
        return Ended(Ends.STOPPED if stopped else Ends.OPEN,
                     f"set_perms: {changed}; b1 reads: {done[-1]}")

    return attempt


def watched(arena: Arena) -> Ended:
    node = f"{home(arena.lab, 'a1')}/watched"
    found = probe.script(arena.lab.run, [
        ("b1", "xs", "watch", node, "t"), ("b1", "xs_events", 300),
        ("a1", "xs", "write", node, "x"), ("b1", "xs_events", 700),
    ])
    heard = str(found[3]["events"])
    return Ended(Ends.OPEN if heard else Ends.STOPPED, f"heard after the write: {heard!r}")


def written(arena: Arena) -> Ended:
    a1, a2 = arena.notes["a1"], arena.notes["a2"]
    place = f"/local/domain/{a1}/shype/to-{a2}"
    done = said(
        arena, ("a1", "xs", "write", f"{place}/x", "1"), ("a2", "xs", "read", f"{place}/x"),
        ("a2", "xs", "write", f"{place}/x", "2"), ("a2", "xs", "mkdir", f"{place}/y"),
        ("a2", "xs", "rm", f"{place}/x"), ("a2", "xs", "write", f"/local/domain/{a2}/shype/z", "3"))
    held = done == ["ok", "ok", "EACCES", "EACCES", "EACCES", "EACCES"]
    return Ended(Ends.STOPPED if held else Ends.OPEN, " ".join(done))


def forged(arena: Arena) -> Ended:
    a1, b1 = arena.notes["a1"], arena.notes["b1"]
    done = said(
        arena, ("a1", "xs", "mkdir", f"/local/domain/{a1}/shype/to-{b1}"),
        ("a1", "xs", "write", f"/local/domain/{b1}/shype/from-{a1}", "x"),
        ("a1", "xs", "write", f"/local/domain/{b1}/data/x", "x"))
    return Ended(Ends.STOPPED if done == ["EACCES"] * 3 else Ends.OPEN, " ".join(done))


def commanded(arena: Arena) -> Ended:
    done = said(
        arena, ("b1", "xs", "control", "quota", "set", "permissions", "5"),
        ("b1", "xs", "control", "live-update", "-a"))
    code, status = shype(arena, "store", "status")
    held = done == ["EACCES"] * 2 and code == 0
    return Ended(Ends.STOPPED if held else Ends.OPEN,
                 f"{' '.join(done)}; locked: {status['locked']}")


def mistaken(arena: Arena) -> Ended:
    a1, b1 = arena.notes["a1"], arena.notes["b1"]
    arena.lab.sh("xenstore-write /tool/m ''; "
                 f"xenstore-chmod /tool/m n0 b{a1} r{b1}")
    code, found = shype(arena, "store", "check")
    closed = shype(arena, "store", "repair")[1]["closed"]
    after = said(arena, ("a1", "xs", "write", "/tool/m", "x"), ("b1", "xs", "read", "/tool/m"))
    assert found["openings"] == closed
    held = code == 1 and bool(closed) and after == ["EACCES", "EACCES"]
    return Ended(Ends.DETECTED if held else Ends.OPEN, f"check: {code}; afterwards {after}")


def as_nobody(arena: Arena) -> Ended:
    done = {
        name: arena.as_user(script)[0] for name, script in (
            ("tools", "xenstore-ls /"), ("lock", "shype store lock"),
            ("socket", "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); "
                       "s.connect('/run/xenstored/socket')\""),
            ("device", "exec 3<>/dev/xen/xenbus"),
        )
    }
    held = all(code != 0 for code in done.values())
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"exit codes {done}")


def held_up(arena: Arena) -> Ended:
    """Root opens the store by mistake; a guest would keep it so by a transaction without end."""
    arena.lab.run(["xenstore-control", "live-update", "-c", STOCK, PROGRAM])
    said(arena, ("b1", "xs_begin"), ("b1", "xs", "read", f"{home(arena.lab, 'b1')}"))
    code, done = shype(arena, "store", "lock")
    status = shype(arena, "store", "status")
    said(arena, ("b1", "xs_end", "F"))
    held = code == 0 and done["replaced"] is True and status[0] == 0
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"lock: {code}, locked: {status[0] == 0}")


def by_conflict(arena: Arena) -> Ended:
    quiet, acting = conflicts(arena.lab, 1)
    held = set(quiet) == set(acting) == {"ok"}
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"idle {quiet[0]}, acting {acting[0]}")


def by_count(arena: Arena) -> Ended:
    grown = count(arena.lab, 7)
    return Ended(Ends.STOPPED if grown == 0 else Ends.OPEN, f"7 writes of a1, b1 sees +{grown}")


def killed(arena: Arena) -> Ended:
    arena.lab.sh("kill -9 $(cat /run/xenstored.pid)")
    codes = {name: shype(arena, *words) for name, words in (
        ("status", ("status",)), ("run", ("run", "/etc/xen/vms/a1.cfg")))}
    # (xl does not answer either, so `run` may fail before the store is asked)
    held = all(code == 3 for code, _ in codes.values())
    problem = codes["status"][1].get("store_problem") or codes["status"][1]
    assert isinstance(problem, dict)
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"status: {problem.get('error')}")


def exchanged(arena: Arena) -> Ended:
    arena.lab.sh("rm -f /run/xenstored/socket; oxenstored --pid-file /run/xenstored.pid; sleep 1")
    answers = [shype(arena, *words) for words in (("store", "status"), ("store", "lock"))]
    problem = answers[0][1].get("problem")
    assert isinstance(problem, dict)
    held = [code for code, _ in answers] == [3, 3] and problem["error"] == "host.xenstore-open"
    return Ended(Ends.STOPPED if held else Ends.OPEN, f"{problem['error']}: {problem['fix']}")


_OWN = "/local/domain/{a}/data/x"
ATTACKS = [
    Attack("store.list", By.GUEST, "a VM opens its node to another by name",
           Ends.STOPPED, Whom.STORE, opened(_OWN, "n{a} r{b}")),
    Attack("store.everybody", By.GUEST, "a VM opens its node for reading by all",
           Ends.STOPPED, Whom.STORE, opened(_OWN, "r{a}")),
    Attack("store.both", By.GUEST, "a VM opens its node for reading and writing by all",
           Ends.STOPPED, Whom.STORE, opened(_OWN, "b{a}")),
    Attack("store.transaction", By.GUEST, "a VM opens its node inside a transaction",
           Ends.STOPPED, Whom.STORE, opened(_OWN, "n{a} r{b}", within=True)),
    Attack("store.frontend", By.GUEST, "a VM opens a node of a device's frontend",
           Ends.STOPPED, Whom.STORE,
           opened("/local/domain/{a}/device/suspend/event-channel", "n{a} r{b}")),
    Attack("store.backend", By.GUEST, "a VM opens a node of its console's backend",
           Ends.STOPPED, Whom.STORE,
           opened("/local/domain/0/backend/console/{a}/0", "n0 r{a} r{b}")),
    Attack("store.special", By.GUEST, "a VM opens @releaseDomain",
           Ends.STOPPED, Whom.STORE, opened("@releaseDomain", "n0 r{b}")),
    Attack("store.watch", By.GUEST, "a VM watches the nodes of another",
           Ends.STOPPED, Whom.STORE, watched),
    Attack("store.share-write", By.GUEST, "a VM writes where it may only read",
           Ends.STOPPED, Whom.STORE, written),
    Attack("store.share-forge", By.GUEST, "a VM makes a shared directory of its own",
           Ends.STOPPED, Whom.STORE, forged),
    Attack("store.share-pass-on", By.GUEST, "a VM passes a shared directory on to a third",
           Ends.STOPPED, Whom.STORE, opened("/local/domain/{a}/shype", "n{a} r{b}")),
    Attack("store.control", By.GUEST, "a VM commands the daemon to unlock",
           Ends.STOPPED, Whom.STORE, commanded),
    Attack("store.mistake", By.ADMIN, "root in dom0 opens a node to two VMs",
           Ends.DETECTED, Whom.AGENT, mistaken),
    Attack("store.user", By.USER, "a user talks to xenstored",
           Ends.STOPPED, Whom.KERNEL, as_nobody),
    Attack("store.held-up", By.GUEST, "a VM holds the lock up by an open transaction",
           Ends.STOPPED, Whom.AGENT, held_up),
    Attack("store.conflict", By.GUEST, "bits by conflicts of transactions, stock xenstored",
           Ends.OPEN, None, by_conflict),
    Attack("store.count", By.GUEST, "bits by the count of all writes, stock xenstored",
           Ends.OPEN, None, by_count),
    # the host is of no use after these
    Attack("store.killed", By.FAULT, "xenstored is killed",
           Ends.STOPPED, Whom.AGENT, killed),
    Attack("store.exchanged", By.FAULT, "another daemon takes its place",
           Ends.STOPPED, Whom.AGENT, exchanged),
]

TestDefault, TestLocked, TestManager = each(ATTACKS, without=AS_MANAGED)

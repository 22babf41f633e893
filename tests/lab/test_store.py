"""XenStore on the real host: the leak that FLASK does not see, and its end while guests run.

One lab: it is locked from the start; root opens it (as a stock host is), guests exchange what
the policy forbids, and `shype store lock` ends it. PV and PVH guests, whose disk, network and
console go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: store, version: "1.0"}
coalitions: {a: {mechanisms: [event, grant, network, xenstore]}, b: {}}
labels:
  manager: {coalitions: all}
  one: {coalitions: [a]}
  two: {coalitions: [a]}
  other: {coalitions: [b]}
resources:
  - {disk: /srv/disk0, coalitions: [a]}
  - {disk: /srv/disk1, coalitions: [b]}
  - {network: xenbr0, coalitions: [a, b]}
host: {dom0: manager}
vms: {a1: one, a2: two, b1: other}
"""
DEVICES = """\
vif = ["bridge=xenbr0,mac=00:16:3e:00:00:0{0},ip=10.9.0.{0}"]
disk = ["phy:/dev/loop{0},xvda,w"]
"""
#: The daemon's own options, without the lockdown: what stock Xen starts.
STOCK = "--pid-file /run/xenstored.pid"
PROGRAM = "/usr/lib/xen-4.17/bin/xenstored"
#: The daemon with shype's patch, in dom0.
PATCHED = "/usr/local/sbin/xenstored-shype"
Step = tuple[str | int, ...]


def shype(lab: Lab, *words: str) -> tuple[int, Mapping[str, object]]:
    """A command in dom0, and its JSON."""
    done = lab.run(["shype", *words, "--json"], timeout=300)
    assert done.out, done.err
    return done.code, json.loads(done.out)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled policy."""
    place = tmp_path_factory.mktemp("store")
    (place / "store.yaml").write_text(POLICY)
    build(load(place / "store.yaml").policy, target="xen-4.17", out=place / "bundle")
    return place / "bundle"


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, bundle: Path) -> Iterator[Lab]:
    """A locked host with a1 (PV) and b1 (PVH) of two coalitions, each with a disk and a vif.

    a2 (PV) is of a1's coalition.
    """
    files = {
        "/etc/xen/vms/a1.cfg": config("a1", type="pv", extra=DEVICES.format(2)),
        "/etc/xen/vms/b1.cfg": config("b1", type="pvh", extra=DEVICES.format(3)),
        "/etc/xen/vms/a2.cfg": config("a2", type="pv"),
        "/etc/xen/vms/late.cfg": config("late", type="pv", seclabel="two", extra="cap = 1"),
    }
    with Lab.up(bundle=bundle, files=files, loaded=True) as found:
        disks = found.sh("mkdir -p /srv; for i in 0 1; do truncate -s 256K /srv/disk$i && "
                         "losetup /dev/loop$((i + 2)) /srv/disk$i || exit 1; done; "
                         "ip addr add 10.9.0.1/24 dev xenbr0")
        assert disks.code == 0, disks.err
        for vm in ("a1", "a2", "b1"):  # in turn: a boot starves hotplug scripts
            code, answer = shype(found, "run", f"/etc/xen/vms/{vm}.cfg")
            assert code == 0, answer
            probe.wait_for(found.run, [vm])
        found.spawn(["probe", "net_serve", "7000"])
        done = probe.script(
            found.run, [("a1", "net_up", "10.9.0.2/24"), ("b1", "net_up", "10.9.0.3/24")])
        assert [one["result"] for one in done] == ["ok"] * 2
        found.put(PATCHED, lab_built.xenstored.read_bytes(), 0o755)
        yield found


def home(lab: Lab, vm: str) -> str:
    """The directory in XenStore where ``vm`` may write."""
    return f"/local/domain/{lab.run(['xl', 'domid', vm]).out.strip()}/data"


def domid(lab: Lab, vm: str) -> str:
    """Its number."""
    return lab.run(["xl", "domid", vm]).out.strip()


def ask(lab: Lab, *steps: Step) -> list[str]:
    """What came of each step: ``ok`` or the name of the error."""
    return [str(one.get("errno_name") or one["result"]) for one in probe.script(lab.run, steps)]


def assert_devices_work(lab: Lab) -> None:
    """The disk, the network and the console of both guests (answers come by the console)."""
    tried: tuple[Step, ...] = (
        ("disk_read", "/dev/xvda", 256), ("disk_write", "/dev/xvda", 64),
        ("net_send", "10.9.0.1", 7000, 64))
    done = probe.script(lab.run, [(vm, *words) for vm in ("a1", "b1") for words in tried])
    assert [one["result"] for one in done] == ["ok"] * 6, done


def test_the_leak_before_and_its_end_while_guests_run(lab: Lab) -> None:
    assert shype(lab, "hotplug", "install")[0] == 0  # status asks for it, too
    code, status = shype(lab, "status")
    assert (code, status["store_problem"]) == (0, None)
    assert_devices_work(lab)
    mine, theirs = f"{home(lab, 'a1')}/secret", domid(lab, "b1")
    written = ("a1", "xs", "write", mine, "carried")

    # as a stock host is: any guest opens its node to any other, and FLASK sees nothing
    opened = lab.run(["xenstore-control", "live-update", "-c", STOCK, PROGRAM])
    assert opened.code == 0, opened.err
    denied = lab.run(["xl", "dmesg"]).out.count("avc:")
    write, before, opening, leak = probe.script(lab.run, [
        written, ("b1", "xs", "read", mine),
        ("a1", "xs", "set_perms", mine, f"n{domid(lab, 'a1')}", f"r{theirs}"),
        ("b1", "xs", "read", mine),
    ])
    assert (write["result"], before["errno_name"], opening["result"]) == ("ok", "EACCES", "ok")
    assert leak["value"] == "carried"
    assert lab.run(["xl", "dmesg"]).out.count("avc:") == denied
    assert probe.script(lab.run, [("a1", "xs", "rm", mine)])[0]["result"] == "ok"

    # such a host does not count as enforcing
    code, status = shype(lab, "status")
    problem = status["store_problem"]
    assert isinstance(problem, dict)
    assert (code, problem["error"]) == (3, "host.xenstore-open")
    assert "shype store lock" in str(problem["fix"])
    code, refused = shype(lab, "run", "/etc/xen/vms/late.cfg")
    assert (code, refused["error"]) == (3, "host.xenstore-open")

    code, done = shype(lab, "store", "lock")
    assert (code, done["replaced"]) == (0, True)
    assert shype(lab, "store", "lock")[1]["replaced"] is False
    write, closed, after = probe.script(lab.run, [
        written, ("a1", "xs", "set_perms", mine, f"n{domid(lab, 'a1')}", f"r{theirs}"),
        ("b1", "xs", "read", mine),
    ])
    assert write["result"] == "ok"
    assert (closed["errno_name"], after["errno_name"]) == ("ENOSPC", "EACCES")
    assert_devices_work(lab)
    assert shype(lab, "status")[0] == 0
    assert shype(lab, "run", "/etc/xen/vms/late.cfg")[0] == 0
    lab.run(["shype", "stop", "late", "--force"])


def test_members_of_a_coalition_share_directories_and_nobody_else_reads_them(lab: Lab) -> None:
    a1, a2, b1 = (domid(lab, vm) for vm in ("a1", "a2", "b1"))
    place = f"/local/domain/{a1}/shype/to-{a2}"
    found = probe.script(lab.run, [
        ("a2", "xs", "read", f"/local/domain/{a2}/shype/from-{a1}"),
        ("a2", "xs", "watch", place, "token"),
        ("a1", "xs", "write", f"{place}/deep/news", "for a2"),
        ("a2", "xs", "read", f"{place}/deep/news"),
        ("a2", "xs_events", 1000),
        ("a2", "xs", "write", f"{place}/deep/news", "back"),
        ("a2", "xs", "mkdir", f"{place}/mine"),
        ("b1", "xs", "read", f"{place}/deep/news"),
        ("b1", "xs", "list", f"/local/domain/{a1}/shype"),
        ("b1", "xs", "list", f"/local/domain/{b1}/shype"),
        ("a1", "xs", "set_perms", f"{place}/deep/news", f"n{a1}", f"r{b1}"),
        ("a2", "xs", "set_perms", place, f"n{a1}", f"r{b1}"),
    ])
    assert (found[0]["value"], found[3]["value"]) == (place, "for a2")
    assert f"{place}/deep/news" in str(found[4]["events"]).split()
    errors = [one.get("errno_name") for one in found[5:]]
    assert errors == ["EACCES", "EACCES", "EACCES", "EACCES", "ENOENT", "ENOSPC", "ENOSPC"]


def test_what_dom0_opened_by_mistake_is_found_closed_and_recorded(lab: Lab) -> None:
    a1, b1 = domid(lab, "a1"), domid(lab, "b1")
    lab.run(["xenstore-write", "/tool/meeting", ""])
    lab.run(["xenstore-chmod", "/tool/meeting", "n0", f"b{a1}", f"r{b1}"])
    tried: tuple[Step, Step] = (
        ("a1", "xs", "write", "/tool/meeting", "x"), ("b1", "xs", "read", "/tool/meeting"))
    assert ask(lab, *tried) == ["ok", "ok"]
    code, found = shype(lab, "store", "check")
    assert code == 1
    openings = found["openings"]
    assert isinstance(openings, list)
    assert [(o["path"], o["writer"]["vm"], o["reader"]["vm"], o["decision"]["id"])
            for o in openings] == [("/tool/meeting", "a1", "b1", "ste.disjoint")]
    assert shype(lab, "store", "repair")[1]["closed"] == openings
    assert shype(lab, "store", "check")[0] == 0
    assert ask(lab, *tried) == ["EACCES", "EACCES"]
    assert "store.repair" in lab.sh("cat /var/lib/shype/audit/*").out


#: How they end in a locked stock daemon if a1 acts: it refuses set_perms before it looks.
ACTING = ["EAGAIN"] * 6 + ["ok"] + ["EAGAIN"] * 2


def conflicts(lab: Lab, first: int = 9) -> tuple[list[str], list[str]]:
    """How transactions of b1 end that were refused a node of a1: a1 does nothing, a1 acts.

    Of the nine kinds of requests, the first so many.
    """
    base = f"{home(lab, 'a1')}/c"
    kinds: list[tuple[Step, str]] = [  # what b1 asks for, and what a1 changes
        (("read", base), base), (("list", base), base), (("perms", base), base),
        (("write", base, "z"), base), (("mkdir", base), base), (("rm", base), base),
        (("set_perms", base, f"n{domid(lab, 'b1')}"), base),
        (("read", f"{base}-missing"), f"{base}-missing"),
        (("list", f"{base}/below"), f"{base}/below"),
    ]
    kinds = kinds[:first]
    steps: list[Step] = [("a1", "xs", "write", base, "0")]
    ends: list[int] = []
    for acts in (False, True):
        for asked, changed in kinds:
            steps += [("b1", "xs_begin"), ("b1", "xs", *asked)]
            steps += [("a1", "xs", "write", changed, "1")] if acts else []
            ends.append(len(steps))
            steps.append(("b1", "xs_end", "T"))
    done = ask(lab, *steps)
    refused = {done[at] for at, step in enumerate(steps) if step[:2] == ("b1", "xs")}
    assert refused <= {"EACCES", "ENOSPC"}
    assert {done[at] for at, step in enumerate(steps) if step[0] == "a1"} == {"ok"}
    ask(lab, ("a1", "xs", "rm", base), ("a1", "xs", "rm", f"{base}-missing"))
    found = [done[at] for at in ends]
    return found[:len(kinds)], found[len(kinds):]


def count(lab: Lab, writes: int) -> int:
    """By how much the number at a node of b1's own grows when a1 writes ``writes`` times."""
    mine = f"{home(lab, 'b1')}/n"
    found = probe.script(lab.run, [
        ("b1", "xs", "write", mine, "1"), ("b1", "xs", "part", mine, 0),
        ("a1", "xs_burst", writes, f"{home(lab, 'a1')}/n"),
        ("b1", "xs", "write", mine, "2"), ("b1", "xs", "part", mine, 0),
    ])
    before, after = (int(str(found[at]["value"]).partition("|")[0]) for at in (1, 4))
    return after - before


def permitted_conflict(lab: Lab) -> str:
    """How a transaction of a2 ends in which it read what a1 then changed, and may."""
    node = f"/local/domain/{domid(lab, 'a1')}/shype/to-{domid(lab, 'a2')}/c"
    return ask(
        lab, ("a1", "xs", "write", node, "0"), ("a2", "xs_begin"), ("a2", "xs", "read", node),
        ("a1", "xs", "write", node, "1"), ("a2", "xs_end", "T"))[-1]


def test_storage_channels_of_the_stock_daemon_and_their_end_by_the_patch(lab: Lab) -> None:
    assert shype(lab, "store", "status")[1]["hides_writes"] is False
    assert conflicts(lab) == (["ok"] * 9, ACTING)
    assert count(lab, 7) >= 8  # others write as well
    assert permitted_conflict(lab) == "EAGAIN"

    code, done = shype(lab, "store", "lock", "--daemon", PATCHED)
    assert (code, done["program"]) == (0, PATCHED), done
    status = shype(lab, "store", "status")
    assert (status[0], status[1]["hides_writes"]) == (0, True)
    assert conflicts(lab) == (["ok"] * 9, ["ok"] * 9)
    assert count(lab, 7) == 0
    assert permitted_conflict(lab) == "EAGAIN"
    assert_devices_work(lab)

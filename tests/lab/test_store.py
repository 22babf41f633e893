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
coalitions: [a, b]
labels:
  manager: {coalitions: all}
  one: {coalitions: [a]}
  two: {coalitions: [a]}
  other: {coalitions: [b]}
host: {dom0: manager}
vms: {a1: one, a2: two, b1: other}
"""
DEVICES = 'vif = ["bridge=xenbr0"]\ndisk = ["phy:/dev/loop{},xvda,w"]\n'
#: The daemon's own options, without the lockdown: what stock Xen starts.
STOCK = "--pid-file /run/xenstored.pid"
PROGRAM = "/usr/lib/xen-4.17/bin/xenstored"


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
    """A locked host with a1 (PV) and b1 (PVH) of two coalitions, each with a disk and a vif."""
    files = {
        "/etc/xen/vms/a1.cfg": config("a1", type="pv", extra=DEVICES.format(0)),
        "/etc/xen/vms/b1.cfg": config("b1", type="pvh", extra=DEVICES.format(1)),
        "/etc/xen/vms/late.cfg": config("late", type="pv", seclabel="two", extra="cap = 1"),
    }
    with Lab.up(bundle=bundle, files=files) as found:
        disks = found.sh("for i in 0 1; do dd if=/dev/urandom of=/run/disk$i bs=64k count=4 && "
                         "losetup /dev/loop$i /run/disk$i || exit 1; done; "
                         "ip addr add 10.9.0.1/24 dev xenbr0")
        assert disks.code == 0, disks.err
        for vm in ("a1", "b1"):  # one after the other: a boot starves the other's hotplug scripts
            code, answer = shype(found, "run", f"/etc/xen/vms/{vm}.cfg")
            assert code == 0, answer
            probe.wait_for(found.run, [vm])
        found.spawn(["probe", "net_serve", "7000"])
        done = probe.script(
            found.run, [("a1", "net_up", "10.9.0.2/24"), ("b1", "net_up", "10.9.0.3/24")])
        assert [one["result"] for one in done] == ["ok"] * 2
        yield found


def home(lab: Lab, vm: str) -> str:
    """The directory in XenStore where ``vm`` may write."""
    return f"/local/domain/{lab.run(['xl', 'domid', vm]).out.strip()}/data"


def domid(lab: Lab, vm: str) -> str:
    """Its number."""
    return lab.run(["xl", "domid", vm]).out.strip()


def assert_devices_work(lab: Lab) -> None:
    """The disk, the network and the console of both guests (answers come by the console)."""
    tried: tuple[tuple[str | int, ...], ...] = (
        ("disk_read", "/dev/xvda", 256), ("disk_write", "/dev/xvda", 64),
        ("net_send", "10.9.0.1", 7000, 64))
    done = probe.script(lab.run, [(vm, *words) for vm in ("a1", "b1") for words in tried])
    assert [one["result"] for one in done] == ["ok"] * 6, done


def test_the_leak_before_and_its_end_while_guests_run(lab: Lab) -> None:
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


def test_a_host_without_the_lockdown_does_not_enforce(lab_built: builder.Built, lab: Lab) -> None:
    """Runs last: it kills xenstored, and with it the host."""
    assert lab.sh("kill -9 $(cat /run/xenstored.pid); rm -f /run/xenstored/socket").code == 0
    code, status = shype(lab, "status")
    problem = status["store_problem"]
    assert isinstance(problem, dict)
    assert (code, problem["error"]) == (3, "host.no-xenstore")
    assert shype(lab, "run", "/etc/xen/vms/late.cfg")[0] == 3
    lab.sh("oxenstored --pid-file /run/xenstored.pid; sleep 1")
    for words in (("status",), ("store", "status"), ("store", "lock")):
        code, answer = shype(lab, *words)
        said = answer.get("store_problem") or answer.get("problem") or answer
        assert isinstance(said, dict)
        assert (code, said["error"]) == (3, "host.xenstore-open"), words
        assert "oxenstored cannot be locked" in str(said["fix"])

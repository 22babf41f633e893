"""Devices that come while a VM runs: decided first, looked at afterwards, and no remains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shype.base.errors import BadInput, ShypeError
from shype.host.agent import Agent
from shype.host.resources import hotplug
from shype.host.resources.attach import Kind, attach, detach
from shype.host.resources.backend import Exchanged, require
from shype.host.resources.inventory import inventory
from shype.host.resources.registry import Registry
from shype.host.resources.wipe import wipe
from shype.host.store.store import Acl
from shype.policy.names import LabelName
from tests.host.resources.devices import host, model

#: In a directory of root's; paths in others' are refused, which is tried elsewhere.
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root's paths may be attached")


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """A host with one running VM and two disks."""
    made = host(tmp_path)
    for name in ("red-1", "red-2", "blue-1"):
        (tmp_path / "srv" / name).write_bytes(name.encode() * 100)
    return made


def spec(tmp_path: Path, name: str, access: str = "w") -> str:
    """A disk as xl takes it."""
    return f"{tmp_path}/srv/{name},raw,xvdb,{access}"


def test_a_permitted_disk_comes_and_goes(agent: Agent, tmp_path: Path) -> None:
    done = attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1"))
    assert done.decision.permitted
    assert [b.number for b in done.backends] == ["xvdb"]
    assert [(h.vm, h.sound) for h in inventory(agent)] == [("red", True)]
    assert [u.label for u in Registry(agent.state).read().values()] == ["red"]
    detach(agent, "red", Kind.DISK, "xvdb")
    assert model(agent).backends() == ()


def test_a_guest_that_boots_meanwhile_is_no_exchange(agent: Agent, tmp_path: Path) -> None:
    domid = model(agent).domains()[1].domid
    root = {"params": f"aio:{tmp_path}/srv/red-2", "mode": "w", "dev": "xvda"}
    model(agent).node("qdisk", domid, "xvda", state="2", **root)
    model(agent).meanwhile = lambda: model(agent).node("qdisk", domid, "xvda", state="4", **root)
    done = attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1"))
    assert [b.number for b in done.backends] == ["xvdb"]


def test_a_cd_is_changed_by_decision(agent: Agent, tmp_path: Path) -> None:
    domid = model(agent).domains()[1].domid
    model(agent).node("qdisk", domid, "hdc", params=f"aio:{tmp_path}/srv/red-1", dev="hdc",
                      mode="r")
    refused = attach(agent, "red", Kind.CD, f"hdc={tmp_path}/srv/blue-1")
    assert refused.decision.id == "resource.disjoint"
    done = attach(agent, "red", Kind.CD, f"hdc={tmp_path}/srv/red-2")
    assert [b.values["params"] for b in done.backends] == [f"aio:{tmp_path}/srv/red-2"]
    for text in ("hdc", "hdc=relative", "hdc=/a,b"):
        with pytest.raises(BadInput) as caught:
            attach(agent, "red", Kind.CD, text)
        assert caught.value.id == "attach.spec"


def test_an_empty_drive_holds_nothing(agent: Agent) -> None:
    domid = model(agent).domains()[1].domid
    for number, params in (("hdc", "aio:"), ("hdd", "")):
        model(agent).node("qdisk", domid, number, **{"params": params, "device-type": "cdrom"})
    require(model(agent).backends(), domid, ())
    assert inventory(agent) == ()
    model(agent).node("qdisk", domid, "hde", **{"params": "aio:", "device-type": "disk"})
    with pytest.raises(Exchanged):
        require(model(agent).backends(), domid, ())
    assert [held.sound for held in inventory(agent)] == [False]


def test_what_is_refused_never_reaches_xl(agent: Agent, tmp_path: Path) -> None:
    for kind, text in ((Kind.DISK, spec(tmp_path, "blue-1")), (Kind.NETWORK, "bridge=br-blue")):
        done = attach(agent, "red", kind, text)
        assert done.decision.id == "resource.disjoint"
        assert model(agent).left() == []


@pytest.mark.parametrize("fails", [False, True])
def test_what_fails_or_was_exchanged_leaves_nothing(
    agent: Agent, tmp_path: Path, fails: bool
) -> None:
    srv = tmp_path / "srv"
    (srv / "red-link").symlink_to(srv / "red-1")

    def swap() -> None:
        (srv / "red-link").unlink()
        (srv / "red-link").symlink_to(srv / "blue-1")

    model(agent).fails = fails
    if not fails:
        model(agent).meanwhile = swap
    with pytest.raises(ShypeError) as caught:
        attach(agent, "red", Kind.DISK, spec(tmp_path, "red-link"))
    assert caught.value.id == ("attach.failed" if fails else "device.exchanged")
    assert model(agent).left() == []


def test_read_only_must_stay_so(agent: Agent, tmp_path: Path) -> None:
    domid = model(agent).domains()[1].domid
    model(agent).meanwhile = lambda: model(agent).node(
        "qdisk", domid, "xvdz", params=f"raw:{tmp_path}/srv/red-1", dev="xvdz", mode="w")
    with pytest.raises(ShypeError) as caught:
        attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1", "r"))
    assert caught.value.id == "device.exchanged"
    assert model(agent).left() == []


def test_what_a_toolstack_opens_to_others_meanwhile_is_closed(
    agent: Agent, tmp_path: Path
) -> None:
    red = model(agent).domains()[1].domid
    label = LabelName("blue-vm")
    model(agent).set_booleans(agent.manifest.window_values(label))
    blue = model(agent).create("blue", agent.manifest.labels[label].context)
    model(agent).set_booleans(agent.manifest.window_values(None))

    def mistake() -> None:
        with model(agent).store() as store:
            store.make("/tool/x")
            store.set_acl("/tool/x", Acl(0, "n", ((red, "b"), (blue, "r"))))

    model(agent).meanwhile = mistake
    assert attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1")).backends
    with model(agent).store() as store:
        assert store.acl("/tool/x") == Acl(0)


@pytest.mark.parametrize("text", [
    "", "-x", 'a"b,raw,xvdb', "a\nb", "\\x", "/a,raw,xvda,w','/b,raw,xvdb,w",
])
def test_what_does_not_stay_between_the_quotes_is_refused(agent: Agent, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        attach(agent, "red", Kind.DISK, text)
    assert caught.value.id == "attach.spec"


def test_the_scripts_ask(agent: Agent, tmp_path: Path) -> None:
    domid = model(agent).domains()[1].domid

    def asked(name: str, action: str = "add") -> hotplug.Answer:
        model(agent).node("vbd", domid, "51728", params=f"{tmp_path}/srv/{name}", mode="w",
                          script="/etc/xen/scripts/block")
        return hotplug.ask(agent, f"backend/vbd/{domid}/51728", action)

    assert asked("blue-1", "remove").permitted  # what only takes away is never held up
    assert asked("red-1").permitted
    refused = asked("blue-1")
    assert not refused.permitted
    assert "[resource.disjoint]" in refused.why
    assert model(agent).left() == []
    assert not asked("gone").permitted  # not there: any doubt is a no
    assert model(agent).left() == []
    with pytest.raises(BadInput):
        hotplug.ask(agent, "backend/vbd/9/51728", "add")
    model(agent).node("vbd", domid, "51728", params="/x", mode="w", script="block")
    hotplug.abandon(model(agent), f"backend/vbd/{domid}/51728")
    assert model(agent).left() == []


def test_the_scripts_refuse_what_others_could_exchange(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "srv").chmod(0o777)
    domid = model(agent).domains()[1].domid
    model(agent).node("vbd", domid, "51728", params=f"{tmp_path}/srv/red-1", mode="w",
                      script="block")
    assert "[disk.exchangeable]" in hotplug.ask(agent, f"backend/vbd/{domid}/51728", "add").why


def test_what_was_attached_without_asking_is_found(agent: Agent, tmp_path: Path) -> None:
    domid = model(agent).domains()[1].domid
    model(agent).node("qdisk", domid, "51728", params=f"aio:{tmp_path}/srv/blue-1", mode="w")
    model(agent).node("vif", domid, "0", bridge="br-red")  # no such interface in dom0
    found = inventory(agent)
    assert [(h.holding.backend.kind, h.decision and h.decision.id) for h in found] == [
        ("qdisk", "resource.disjoint"), ("vif", None)]
    assert not any(h.sound for h in found)


def test_a_disk_in_use_is_not_wiped_and_a_free_one_is_zeros(agent: Agent, tmp_path: Path) -> None:
    disk = tmp_path / "srv" / "red-1"
    attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1"))
    with pytest.raises(BadInput) as caught:
        wipe(agent, str(disk))
    assert caught.value.id == "disk.in-use"
    assert disk.read_bytes().startswith(b"red-1")
    detach(agent, "red", Kind.DISK, "xvdb")
    told: list[tuple[int, int]] = []
    assert wipe(agent, str(disk), progress=lambda done, size: told.append((done, size))) == 500
    assert disk.read_bytes() == bytes(500)
    assert told == [(500, 500)]
    assert Registry(agent.state).read() == {}


def test_who_comes_while_a_disk_is_wiped_keeps_it_refused(agent: Agent, tmp_path: Path) -> None:
    domid = model(agent).domains()[1].domid

    def come(done: int, size: int) -> None:
        model(agent).node("qdisk", domid, "xvdz", params=f"aio:{tmp_path}/srv/red-1", mode="w")

    with pytest.raises(BadInput) as caught:
        wipe(agent, str(tmp_path / "srv" / "red-1"), progress=come)
    assert caught.value.id == "disk.in-use"
    assert [used.wiping for used in Registry(agent.state).read().values()] == [True]


def test_a_wiping_that_dies_leaves_the_disk_refused(agent: Agent, tmp_path: Path) -> None:
    def die(done: int, size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wipe(agent, str(tmp_path / "srv" / "red-1"), progress=die)
    refused = attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1"))
    assert refused.decision.id == "disk.wiping"
    wipe(agent, str(tmp_path / "srv" / "red-1"))
    assert attach(agent, "red", Kind.DISK, spec(tmp_path, "red-1")).decision.permitted

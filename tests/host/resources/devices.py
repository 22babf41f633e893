"""The model of a host, with backends: what xl does to XenStore, done to the model's store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.drivers.xen import config_file
from shype.host.hypervisor import Backend, VmConfig
from shype.host.resources.device import BootFile, Device, Devices, Disk, Nic
from tests.host import builders
from tests.host.resources.shop import SHOP

_DEVICE = re.compile(r"/(device/\w+|backend/\w+/\d+)/[^/]+")
_ROOT = "/local/domain/0/backend"


class DeviceModel(ModelHypervisor):
    """Attaches what it is told to, as QEMU's disks (``qdisk``) and as interfaces.

    ``meanwhile`` is called before xl opens anything; ``fails`` makes xl fail half way.
    """

    meanwhile: Callable[[], None] = staticmethod(lambda: None)
    fails = False

    def read_config(self, path: Path) -> VmConfig:
        """With the devices, which the model leaves out."""
        values = config_file.parse(path.read_text())
        found: list[Device] = [BootFile("/", "kernel")] if "kernel" in values else []
        for text in config_file.words(values, "disk"):
            if "target=" in text:  # as `shype attach` writes a CD
                keys = dict(part.partition("=")[::2] for part in text.split(","))
                found.append(Disk(keys["target"], keys["vdev"], keys["format"], False, True))
                continue
            target, form, vdev, *access = text.split(",")
            found.append(Disk(target, vdev, form, access != ["r"]))
        for number, text in enumerate(config_file.words(values, "vif")):
            found.append(Nic(text.removeprefix("bridge="), number))
        return replace(super().read_config(path), devices=Devices(tuple(found)))

    def attach(self, domid: int, kind: str, words: Sequence[str]) -> None:
        """As ``xl block-attach`` and ``network-attach``."""
        self.meanwhile()
        if kind == "cd":
            vdev, path = words
            self.node("qdisk", domid, vdev, params=f"aio:{path}", dev=vdev, mode="r")
            return
        word, = words
        if kind == "network":
            self.node("vif", domid, "1", bridge=word.removeprefix("bridge="), script="vif-bridge")
        else:
            target, form, vdev, *access = word.split(",")
            self.node("qdisk", domid, vdev, params=f"{form}:{target}", dev=vdev, script="block",
                      mode="r" if access == ["r"] else "w")
        if self.fails:
            raise Unavailable("attach.failed", "xl failed")

    def detach(self, domid: int, kind: str, device: str) -> None:
        """As ``xl block-detach``."""
        with self.store() as store:
            store.remove(f"{_ROOT}/qdisk/{domid}/{device}")

    def node(self, kind: str, domid: int, number: str, **values: str) -> None:
        """A backend, its frontend, and libxl's record of it."""
        front = "vbd" if kind == "qdisk" else kind
        with self.store() as store:
            for name, value in values.items():
                store.write(f"{_ROOT}/{kind}/{domid}/{number}/{name}", value.encode())
            for place in (f"/local/domain/{domid}/device", f"/libxl/{domid}/device"):
                store.write(f"{place}/{front}/{number}/state", b"1")

    def backends(self) -> tuple[Backend, ...]:
        """What is in the store."""
        found = []
        with self.store() as store:
            for path in store.acls():
                parts = path.removeprefix(f"{_ROOT}/").split("/")
                if path.startswith(f"{_ROOT}/") and len(parts) == 3:
                    values = {n: store.read(f"{path}/{n}").decode() for n in store.directory(path)}
                    found.append(Backend(parts[0], int(parts[1]), parts[2], values))
        return tuple(found)

    def left(self) -> list[str]:
        """All nodes of devices; the directories in which they stood may stay."""
        with self.store() as store:
            return sorted(path for path in store.acls() if _DEVICE.search(path))


def host(tmp_path: Path) -> Agent:
    """A host on which the VM red runs; disks are in ``tmp_path``/srv."""
    srv = tmp_path / "srv"
    srv.mkdir(exist_ok=True)
    made = builders.bundle(tmp_path, SHOP.format(srv=srv))
    agent = Agent(made, DeviceModel(made, tmp_path / "model.json"), tmp_path / "state")
    context = agent.manifest.labels[next(n for n in agent.manifest.labels if n == "red-vm")].context
    model(agent).set_booleans(agent.manifest.window_values(next(
        n for n in agent.manifest.labels if n == "red-vm")))
    model(agent).create("red", context)
    model(agent).set_booleans(agent.manifest.window_values(None))
    return agent


def model(agent: Agent) -> DeviceModel:
    """The model that ``agent`` runs on."""
    assert isinstance(agent.hypervisor, DeviceModel)
    return agent.hypervisor

"""What the agent has measured before it acts, and what follows if it cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host import measured
from shype.host import watch as watching
from shype.host.admission import enforced
from shype.host.agent import Agent
from shype.host.audit.reader import records
from shype.host.drivers.model import ModelHypervisor
from shype.host.hypervisor import VmConfig
from shype.host.launch import Step, launch
from shype.host.resources.device import BootFile, Device, Devices, Disk
from shype.host.update import staged
from shype.host.update.update import RolledBack, Update
from shype.policy.manifest import Manifest
from shype.policy.model import Enforcement
from tests.host.attestation.attested import POLICY, VERIFIER
from tests.host.builders import config, host, model
from tests.host.invariants import guests
from tests.host.update.shop import NEW, Shop


@dataclass
class Notes:
    """A measurer that notes everything; with ``broken`` it cannot measure."""

    broken: bool = False
    said: list[tuple[str, ...]] = field(default_factory=list)
    active: bool = True

    def _note(self, *words: str) -> None:
        if self.broken:
            raise Unavailable("tpm.absent", "there is no TPM")
        self.said.append(words)

    def observe(self, manifest: Manifest, mode: str) -> None:
        self._note("observe", manifest.digest, mode)

    def load(self, manifest: Manifest) -> None:
        self._note("load", manifest.digest)

    def launch(self, label: str, image: str) -> None:
        self._note("launch", label, image)

    def vtpm(self, vm: str, uuid: str, label: str, ek: str) -> None:
        self._note("tpm", vm, uuid, label, ek)

    def vector(self, name: str) -> None:
        self._note("vector", name)


def measuring(agent: Agent, notes: Notes) -> Agent:
    return replace(agent, measurer=notes)


def test_a_launch_is_measured_before_anything_is_built(tmp_path: Path) -> None:
    notes = Notes()
    agent = measuring(host(tmp_path), notes)
    before: list[int] = []

    def watch(step: Step) -> None:
        if step is Step.PREPARED:
            before.append(len(notes.said))

    assert launch(agent, config(tmp_path, "a-db"), observer=watch).domid == 1
    assert before == [1]
    (act, label, image), = notes.said
    assert (act, label) == ("launch", "bank-a-db")
    assert image == measured.image(VmConfig("a-db", "", None, None))


def test_a_refused_launch_is_not_measured(tmp_path: Path) -> None:
    notes = Notes()
    agent = measuring(host(tmp_path), notes)
    launch(agent, config(tmp_path, "a-db"))
    assert launch(agent, config(tmp_path, "b-db")).domid is None
    assert len(notes.said) == 1


def test_without_a_tpm_an_ordinary_label_starts_and_the_trail_tells(tmp_path: Path) -> None:
    agent = measuring(host(tmp_path), Notes(broken=True))
    assert launch(agent, config(tmp_path, "a-db")).domid == 1
    told = [r.body for r in records(agent.trail.directory) if r.body["kind"] == "measure"]
    assert [one["error"] for one in told] == ["tpm.absent"]


def test_without_a_tpm_an_attested_label_does_not_start(tmp_path: Path) -> None:
    agent = measuring(host(tmp_path, POLICY), Notes(broken=True))
    vm = VmConfig("a-db", "", None, None)
    label, = [name for name, one in agent.policy.labels.items() if one.attested]
    with pytest.raises(Unavailable) as caught:
        measured.launch(agent, vm, label)
    assert caught.value.id == "tpm.absent"
    assert guests(agent) == {}


def test_a_load_is_measured_before_the_hypervisor_has_it(tmp_path: Path) -> None:
    shop, notes = Shop(tmp_path), Notes()
    seen: list[list[tuple[str, ...]]] = []

    class Watched(ModelHypervisor):
        def load(self, what: staged.Staged, also: Mapping[str, str]) -> None:
            seen.append(list(notes.said))
            super().load(what, also)

    old, new = (staged.read(path, tmp_path / "keys") for path in (shop.file, shop.new))
    made = Update(old, new, shop.file, shop.agent.state,
                  lambda of: Watched(of, tmp_path / "model.json"), measurer=notes)
    with made.before.lock.hold(5):
        made.apply()
    assert seen == [[("load", new.bundle.manifest.digest)]]


def attested(text: str) -> str:
    """The shop's policy, where tills run on attested hosts only."""
    line = VERIFIER.public.pem().decode().splitlines()[1]
    return text.replace("till: {coalitions: [pay]", "till: {coalitions: [pay], attested: true").\
        replace("till:  {coalitions: [pay]", "till:  {coalitions: [pay], attested: true") + (
        f"attestation: {{verifiers: {{ops: {line}}}}}\n")


def test_without_a_tpm_no_policy_with_attested_labels_is_loaded(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.offer(attested(NEW))
    made = replaced(shop, Notes(broken=True))
    with made.before.lock.hold(5), pytest.raises(Unavailable) as caught:
        made.apply()
    assert caught.value.id == "tpm.absent"
    assert enforced(made.before)
    assert set(shop.states().values()) == {False}  # as before


def test_the_way_back_is_never_barred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old and new have attested labels; the TPM goes while the new policy is tried."""
    notes = Notes()
    shop = Shop(tmp_path)
    made = replaced(shop, notes)
    monkeypatch.setattr(measured, "_demanding", lambda policy: True)

    def unhealthy(*words: object) -> list[str]:
        notes.broken = True
        return ["it does not stand its test"]

    monkeypatch.setattr("shype.host.update.health.problems", unhealthy)
    with made.before.lock.hold(5), pytest.raises(RolledBack):
        made.apply()
    assert enforced(made.before)


def replaced(shop: Shop, notes: Notes) -> Update:
    """The shop's update, measured."""
    old, new = (staged.read(path, shop.place / "keys") for path in (shop.file, shop.new))
    return Update(old, new, shop.file, shop.agent.state, shop.driver, measurer=notes)


@pytest.mark.parametrize(("mode", "loaded", "said"), [
    ("enforcing", True, "enforcing"), ("permissive", True, "permissive"),
    ("enforcing", False, "disabled"),
])
def test_what_is_in_force_is_observed(
    mode: str, loaded: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = Notes()
    agent = measuring(host(tmp_path), notes)
    monkeypatch.setattr(type(agent.hypervisor), "enforcement", lambda self: Enforcement(mode))
    monkeypatch.setattr(measured, "enforced", lambda agent: loaded)
    assert measured.observe(agent) is None
    assert notes.said == [("observe", agent.manifest.digest, said)]
    error = measured.observe(measuring(agent, Notes(broken=True)))
    assert error is not None
    assert error.id == "tpm.absent"
    assert measured.observe(host(tmp_path)) is None  # nobody measures


# -- the image


def vm(devices: Sequence[Device], cmdline: str = "") -> VmConfig:
    return VmConfig("x", "u", None, None, devices=Devices(tuple(devices)), cmdline=cmdline)


def test_an_image_is_what_the_vm_boots(tmp_path: Path) -> None:
    for name in ("kernel", "ramdisk", "disk"):
        (tmp_path / name).write_text(name)
    kernel, ramdisk = (BootFile(str(tmp_path / name), name) for name in ("kernel", "ramdisk"))
    fixed = Disk(str(tmp_path / "disk"), "xvda", write=False)
    writable = Disk(str(tmp_path / "disk"), "xvda")
    images = [measured.image(one) for one in (
        vm([]), vm([kernel]), vm([kernel, ramdisk]), vm([kernel], "quiet"), vm([kernel, fixed]),
        vm([kernel, writable]), vm([kernel, Disk("phy:/dev/x", "xvda", write=False)]))]
    assert len(set(images)) == len(images)
    assert measured.image(vm([ramdisk, kernel])) == images[2]  # their order is nothing
    (tmp_path / "disk").write_text("changed")
    assert measured.image(vm([kernel, fixed])) != images[4]
    assert measured.image(vm([kernel, writable])) == images[5]  # the guest changes it
    (tmp_path / "kernel").write_text("changed")
    assert measured.image(vm([kernel])) != images[1]


def test_the_name_of_the_vm_and_of_its_files_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("kernel")
    (tmp_path / "b").write_text("kernel")
    one, other = (vm([BootFile(str(tmp_path / name), "kernel")]) for name in "ab")
    assert measured.image(one) == measured.image(replace(other, name="y", uuid="v"))


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        measured.image(vm([BootFile(str(tmp_path / "none"), "kernel")]))
    assert caught.value.id == "vm.image"


def test_the_watcher_measures_what_changed_behind_the_agents_back(tmp_path: Path) -> None:
    notes = Notes()
    agent = measuring(host(tmp_path), notes)
    modes = iter([Enforcement.ENFORCING, Enforcement.PERMISSIVE, Enforcement.ENFORCING])

    def changing() -> bool:
        mode = next(modes, None)
        if mode is not None:
            model(agent).set_enforcement(mode)
        return mode is not None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "TRUST", 0)
        watching.watch(agent, lambda told: None, go_on=changing)
    assert [words[2] for words in notes.said] == [
        "enforcing", "enforcing", "permissive", "enforcing"]


def test_a_watcher_that_cannot_measure_says_so_once(tmp_path: Path) -> None:
    agent = measuring(host(tmp_path), Notes(broken=True))
    told: list[object] = []
    turns = iter([True] * 5 + [False])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "TRUST", 0)
        watching.watch(agent, told.append, go_on=lambda: next(turns))
    assert [getattr(one, "id", one) for one in told] == ["tpm.absent"]


def test_a_watcher_does_not_measure_an_update_that_is_at_work(tmp_path: Path) -> None:
    """The policy that it knows is not in force then, and that is no fault."""
    notes = Notes()
    agent = measuring(host(tmp_path), notes)
    with agent.lock.hold(1), pytest.MonkeyPatch.context() as patch:
        patch.setattr(watching, "AGAIN", 0.05)
        watching.watch(agent, lambda told: None, go_on=lambda: False)
    assert notes.said == []
    with pytest.MonkeyPatch.context() as patch:  # killed: the next command finishes it
        patch.setattr(watching, "enforced", lambda agent: False)
        watching.watch(agent, lambda told: None, go_on=lambda: False)
    assert notes.said == []

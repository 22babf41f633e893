"""What a doctor finds about the boot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shype.host.install import bootcheck, changes, grubenv, installing, trial
from shype.host.install.installing import Options
from shype.host.install.places import Places
from shype.host.points import Point
from shype.policy.ed25519 import PrivateKey
from shype.policy.manifest import Bundle
from tests.host import builders
from tests.signing import sealed

Host = tuple[Places, Bundle]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Installed, and booted into a good policy."""
    key = PrivateKey.generate()
    (tmp_path / "keys").mkdir(mode=0o755)
    (tmp_path / "keys/a.pub").write_bytes(key.public.pem())
    (tmp_path / "made").mkdir()
    path = tmp_path / "new.shype"
    path.write_bytes(sealed(builders.bundle(tmp_path / "made").path, key))
    places = Places(tmp_path / "root")
    (places.boot / "grub").mkdir(parents=True)
    for name in ("xen-flask.gz", "vmlinuz-6.1", "initrd.img-6.1"):
        (places.boot / name).touch()
    options = Options("/usr/bin/shype")
    changes.apply(places, installing.wanted(places, options), options.to_json())
    envelope, bundle, module = trial.read_trusted(path, tmp_path / "keys")
    name = trial.stage(places, envelope, bundle, module)
    grubenv.write(places.env, {grubenv.GOOD: name, grubenv.TRIAL: "", grubenv.TRIED: ""})
    return places, bundle


def wrong(host: Host, linux: str | None = None) -> dict[str, Point]:
    """The points that are wrong, by name, but that of the file system this test runs on."""
    places, bundle = host
    line = linux or f"quiet shype.policy={trial.policy_id(bundle)}"
    return {point.name: point for point in bootcheck.points(places, bundle, line)
            if point.wrong and point.name != "boot.env"}


def test_a_host_as_installed_has_nothing_wrong(host: Host) -> None:
    assert wrong(host) == {}


def _entry(places: Places) -> None:
    places.custom.write_text(places.custom.read_text().replace("enforcing", "permissive"))


def _module(places: Places) -> None:
    path, = places.policies.glob("*.bin")
    path.write_bytes(path.read_bytes()[:-1])


def _rights(places: Places) -> None:
    places.policies.chmod(0o777)


def _link(places: Places) -> None:
    path, = places.policies.glob("*.bin")
    path.rename(places.root / "elsewhere")
    path.symlink_to(places.root / "elsewhere")


def _block(places: Places) -> None:
    places.env.write_bytes(b"shype_good=" + b"#" * 1013)


def _given_up(places: Places) -> None:
    grubenv.write(places.env, {**grubenv.read(places.env), grubenv.TRIED: "b" * 16})


def _another(places: Places) -> None:
    for path in [p for p in places.policies.iterdir() if p != places.env]:
        path.rename(path.with_stem("c" * 16))
    grubenv.write(places.env, {grubenv.GOOD: "c" * 16})


@pytest.mark.parametrize(("change", "names"), [
    (_entry, {"boot files"}), (_module, {"module"}), (_rights, {"boot rights"}),
    (_link, {"boot rights"}), (_block, {"boot policy"}), (_given_up, {"trial"}),
    (_another, {"module", "boot policy"}),
])
def test_what_is_not_as_installed_is_wrong_and_says_what_to_do(
    host: Host, change: Callable[[Places], None], names: set[str],
) -> None:
    change(host[0])
    found = wrong(host)
    assert {"module" if name.startswith("module") else name for name in found} == names
    assert all(point.fix for point in found.values())


@pytest.mark.parametrize(("line", "fix"), [
    ("quiet", "reboot"), ("quiet shype.policy={} shype.trial", "shype host commit"),
])
def test_another_boot_is_told(host: Host, line: str, fix: str) -> None:
    places, bundle = host
    name = trial.policy_id(bundle)
    if "trial" in line:
        grubenv.write(places.env, {grubenv.TRIED: name})
    assert wrong(host, line.format(name))["this boot"].fix == fix


@pytest.mark.parametrize(("source", "kind", "fits"), [
    ("/dev/sda1", "ext4", True), ("/dev/mapper/vg-boot", "ext4", False),
    ("/dev/md0", "ext4", False), ("/dev/sda1", "btrfs", False),
])
def test_where_grub_cannot_write_is_told(
    host: Host, source: str, kind: str, fits: bool, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bootcheck, "_mounted", lambda path: (kind, source))
    point, = bootcheck._device(host[0])
    assert (point.holds, bool(point.fix)) == (fits, not fits)


def test_the_file_system_of_a_path_is_known(tmp_path: Path) -> None:
    kind, source = bootcheck._mounted(Path("/proc"))
    assert kind == "proc"
    assert source

"""The policy on trial: what is on the disk, and in which order; the rest is tests/lab/test_boot."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.install import grubenv, trial
from shype.host.install.entry import Entry, newest_kernel
from shype.host.install.installing import kernel_args
from shype.host.install.places import Places
from shype.host.install.trial import Booted
from shype.policy.ed25519 import PrivateKey
from shype.policy.manifest import Bundle
from tests.host import builders
from tests.signing import sealed


def test_a_block_has_grub_s_size_and_comes_back() -> None:
    values = {grubenv.GOOD: "0123456789abcdef", grubenv.TRIAL: ""}
    data = grubenv.dumps(values)
    assert len(data) == 1024
    assert data.startswith(b"# GRUB Environment Block\nshype_good=0123456789abcdef\n")
    assert grubenv.loads(data, Path("x")) == values


def test_a_block_is_written_where_it_is_and_a_damaged_one_anew(tmp_path: Path) -> None:
    path = tmp_path / "boot.env"
    grubenv.write(path, {grubenv.TRIAL: "a" * 16})
    inode = path.stat().st_ino
    grubenv.write(path, {grubenv.GOOD: "a" * 16})
    assert (grubenv.read(path), path.stat().st_ino) == ({grubenv.GOOD: "a" * 16}, inode)
    path.write_bytes(b"short")
    grubenv.write(path, {grubenv.GOOD: "b" * 16})
    assert grubenv.read(path) == {grubenv.GOOD: "b" * 16}


@pytest.mark.parametrize("data", [
    b"", b"x" * 1024, grubenv.dumps({})[:-1], grubenv.dumps({}) + b"#",
    (b"# GRUB Environment Block\nshype_good=(hd1)/evil\n" + b"#" * 1024)[:1024],
    b"# GRUB Environment Block\nshype_good=01".ljust(1024, b"\0"),
])
def test_a_block_of_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="does not say which policy"):
        grubenv.loads(data, Path("x"))


@pytest.mark.parametrize(("line", "expected"), [
    ("quiet shype.policy=0123456789abcdef", Booted("0123456789abcdef", False)),
    ("shype.policy=0123456789abcdef shype.trial", Booted("0123456789abcdef", True)),
    ("shype.policy=", None), ("quiet", None), ("shype.policy=../../etc", None),
])
def test_the_command_line_says_what_was_booted(line: str, expected: Booted | None) -> None:
    assert trial.booted(line) == expected


def test_numbers_in_kernels_names_are_numbers(tmp_path: Path) -> None:
    places = Places(tmp_path)
    with pytest.raises(BadInput, match="vmlinuz"):
        newest_kernel(places)
    (tmp_path / "boot").mkdir()
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-11-amd64"):
        (tmp_path / f"boot/vmlinuz-{version}").touch()
    for version in ("6.1.0-9-amd64", "6.1.0-10-amd64"):
        (tmp_path / f"boot/initrd.img-{version}").touch()
    assert newest_kernel(places) == ("/vmlinuz-6.1.0-10-amd64", "/initrd.img-6.1.0-10-amd64")


@pytest.mark.parametrize("word", ["a; halt", "$(x)", "a\nb", "'", '"', "a{b"])
def test_nothing_gets_into_grub_s_script(word: str) -> None:
    with pytest.raises(BadInput, match="GRUB"):
        Entry("/xen", "/k", "/i", word, "", 600).text(Places(Path("/nowhere")))


def test_what_grub_and_shype_add_is_not_dom0_s_own() -> None:
    line = "placeholder root=UUID=1 ro panic=10 shype.policy=0123456789abcdef shype.trial quiet"
    assert kernel_args(line) == "root=UUID=1 ro quiet"


class Unhealthy(Exception):
    """What a check of the host raises here."""


def refuse(bundle: Bundle) -> None:
    """No boot is healthy."""
    raise Unhealthy


def accept(bundle: Bundle) -> None:
    """Every boot is."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Places, Path, Path]:
    """Places, the keys, and a signed bundle."""
    monkeypatch.setattr(trial, "disarm", lambda: True)
    key = PrivateKey.generate()
    (tmp_path / "keys").mkdir(mode=0o755)
    (tmp_path / "keys/a.pub").write_bytes(key.public.pem())
    path = tmp_path / "new.shype"
    (tmp_path / "made").mkdir()
    path.write_bytes(sealed(builders.bundle(tmp_path / "made").path, key))
    return Places(tmp_path / "root"), tmp_path / "keys", path


def test_a_trial_becomes_good_only_when_healthy(host: tuple[Places, Path, Path]) -> None:
    places, keys, path = host
    found = trial.read_trusted(path, keys)
    name = trial.stage(places, *found)
    assert (places.policies / f"{name}.bin").read_bytes() == found[2]
    assert grubenv.read(places.env) == {grubenv.TRIAL: name, grubenv.TRIED: ""}
    # what GRUB does
    grubenv.write(places.env, {grubenv.TRIAL: "", grubenv.TRIED: name})
    with pytest.raises(Unhealthy):
        trial.settle(places, Booted(name, True), keys, refuse)
    assert grubenv.read(places.env) == {grubenv.TRIAL: "", grubenv.TRIED: name}
    assert not places.bundle.exists()
    done = trial.settle(places, Booted(name, True), keys, accept)
    assert (done.committed, done.placed, done.given_up) == (True, True, None)
    assert grubenv.read(places.env) == {grubenv.GOOD: name, grubenv.TRIAL: "", grubenv.TRIED: ""}
    assert places.bundle.read_bytes() == path.read_bytes()
    assert trial.staged(places, found[1]) == "good"
    # again: nothing changes
    trial.stage(places, *found)
    assert grubenv.read(places.env)[grubenv.TRIAL] == ""
    assert not trial.settle(places, Booted(name, True), keys, accept).placed


def test_after_a_fallback_the_agent_has_the_good_bundle_again(
    host: tuple[Places, Path, Path],
) -> None:
    places, keys, path = host
    name = trial.stage(places, *trial.read_trusted(path, keys))
    grubenv.write(places.env, {grubenv.GOOD: name, grubenv.TRIAL: "", grubenv.TRIED: "a" * 16})
    places.bundle.parent.mkdir(parents=True)
    places.bundle.write_text("the new one, copied too early")
    done = trial.settle(places, Booted(name, False), keys, accept)
    assert (done.given_up, done.committed, done.placed) == ("a" * 16, False, True)
    assert places.bundle.read_bytes() == path.read_bytes()


def test_a_bundle_under_another_s_name_and_an_untrusted_one_are_refused(
    host: tuple[Places, Path, Path], tmp_path: Path,
) -> None:
    places, keys, path = host
    name = trial.stage(places, *trial.read_trusted(path, keys))
    (places.policies / f"{name}.shype").rename(places.policies / f"{'b' * 16}.shype")
    with pytest.raises(BadInput) as error:
        trial.settle(places, Booted("b" * 16, True), keys, accept)
    assert error.value.id == "boot.other-bundle"
    with pytest.raises(Unavailable) as none:
        trial.settle(places, Booted(name, True), keys, accept)
    assert none.value.id == "boot.no-bundle"
    (tmp_path / "keys/a.pub").write_bytes(PrivateKey.generate().public.pem())
    with pytest.raises(BadInput) as untrusted:
        trial.settle(places, Booted("b" * 16, True), keys, accept)
    assert untrusted.value.id.startswith("bundle.")


def test_removing_leaves_what_is_not_ours(host: tuple[Places, Path, Path]) -> None:
    places, keys, path = host
    trial.stage(places, *trial.read_trusted(path, keys))
    (places.policies / "mine.txt").touch()
    trial.remove(places)
    assert [p.name for p in places.policies.iterdir()] == ["mine.txt"]

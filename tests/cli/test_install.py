"""`shype host install` and `uninstall` on an image; booting it is tests/lab/test_boot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.base import child
from shype.cli.main import main
from shype.host.install import grubenv
from shype.host.install.places import Places
from shype.host.resources import scripts
from tests.cli.on_model import options, run, signed_host


@pytest.fixture
def image(tmp_path: Path) -> list[str]:
    """The options for a host that can be installed, with a policy for it."""
    boot = tmp_path / "root/boot"
    (boot / "grub").mkdir(parents=True)
    for name in ("xen-flask", "vmlinuz-6.1", "initrd.img-6.1"):
        (boot / name).touch()
    (tmp_path / "root/usr/lib/xen-4.17/bin").mkdir(parents=True)
    (tmp_path / "root/usr/lib/xen-4.17/bin/xenstored").touch()
    signed_host(tmp_path)
    return ["--root", str(tmp_path / "root"), "--keys", str(tmp_path / "keys")]


def files(tmp_path: Path) -> set[str]:
    """All files and links of the image."""
    root = tmp_path / "root"
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or p.is_file()}


def install(tmp_path: Path, image: list[str], *words: str) -> int:
    """Install."""
    return main(["host", "install", *image, "--bundle", str(tmp_path / "policy.shype"),
                 "--xen", "/xen-flask", "--kernel-args", "root=/dev/sda1 quiet", *words])


def test_a_dry_run_shows_every_file_and_changes_none(
    tmp_path: Path, image: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    before = files(tmp_path)
    assert install(tmp_path, image, "--dry-run") == 0
    out = capsys.readouterr().out
    assert files(tmp_path) == before
    for name in ("boot/grub/custom.cfg", "etc/default/xen", "shype-watch.service"):
        assert name in out
    assert "+  module2 /boot/vmlinuz-6.1 placeholder root=/dev/sda1 quiet shype.policy=" in out
    assert "the policy would be put on trial" in out


def test_installed_twice_and_taken_off(
    tmp_path: Path, image: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    before = files(tmp_path)
    assert install(tmp_path, image, "--json") == 0
    first = json.loads(capsys.readouterr().out)
    values = grubenv.read(Places(tmp_path / "root").env)
    assert values == {grubenv.TRIAL: first["trial"], grubenv.TRIED: ""}
    # nothing to be told again, and nothing to do
    assert main(["host", "install", *image, "--bundle", str(tmp_path / "policy.shype"),
                 "--json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert (second["changed"], second["trial"], second["policy_is"]) == ([], None, "trial")
    assert main(["host", "uninstall", *image, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == []
    assert files(tmp_path) == before


def test_grub_understands_the_entries(tmp_path: Path, image: list[str]) -> None:
    assert install(tmp_path, image) == 0
    custom = Places(tmp_path / "root").custom
    done = child.run(["grub-script-check", custom], check=False)
    assert (done.code, done.err) == (0, "")
    assert custom.stat().st_mode & 0o077 == 0


def test_the_veto_in_xen_s_scripts_goes_with_it(tmp_path: Path, image: list[str]) -> None:
    xen = tmp_path / "root/etc/xen/scripts"
    xen.mkdir(parents=True)
    for name in scripts.SCRIPTS:
        (xen / name).write_text("#!/bin/sh\n# Xen's\n")
        (xen / name).chmod(0o755)
    before = files(tmp_path)
    assert install(tmp_path, image) == 0
    scripts.install("/usr/bin/shype", xen)
    assert main(["host", "uninstall", *image]) == 0
    assert files(tmp_path) == before
    assert "# Xen's" in (xen / "block").read_text()


def test_a_new_kernel_gets_into_the_entry_and_no_policy_on_trial(
    tmp_path: Path, image: list[str],
) -> None:
    assert install(tmp_path, image) == 0
    places = Places(tmp_path / "root")
    values = {grubenv.GOOD: "a" * 16, grubenv.TRIAL: "", grubenv.TRIED: ""}
    grubenv.write(places.env, values)
    for name in ("vmlinuz-6.10", "initrd.img-6.10"):
        (places.boot / name).touch()
    assert main(["host", "install", *image, "--refresh"]) == 0
    assert "/boot/vmlinuz-6.10 " in places.custom.read_text()
    assert grubenv.read(places.env) == values


def test_uninstalling_names_what_somebody_has_changed(
    tmp_path: Path, image: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    assert install(tmp_path, image) == 0
    hook = tmp_path / "root/etc/kernel/postinst.d/zz-shype"
    hook.write_text("mine\n")
    assert main(["host", "uninstall", *image]) == 1
    assert "/etc/kernel/postinst.d/zz-shype" in capsys.readouterr().err
    assert hook.read_text() == "mine\n"


@pytest.mark.parametrize(("missing", "id"), [
    ("boot/xen-flask", "boot.no-xen"), ("boot/vmlinuz-6.1", "boot.no-kernel"),
    ("boot/grub", "boot.no-grub"),
])
def test_what_is_missing_is_named_and_nothing_is_changed(
    tmp_path: Path, image: list[str], missing: str, id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "root" / missing
    path.rmdir() if path.is_dir() else path.unlink()
    before = files(tmp_path)
    assert install(tmp_path, image, "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"] == id
    assert files(tmp_path) == before


def test_an_untrusted_bundle_is_not_put_on_trial(
    tmp_path: Path, image: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "keys/0.pub").unlink()
    before = files(tmp_path)
    assert install(tmp_path, image, "--json") == 2
    assert json.loads(capsys.readouterr().out)["error"] == "key.none"
    assert files(tmp_path) == before


def test_a_boot_that_is_not_shype_s_cannot_be_committed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["host", "commit", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"] == "boot.not-ours"


def test_a_doctor_says_what_to_do_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    from shype.cli import doctor

    agent = signed_host(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run([doctor.add], ["doctor", *options(tmp_path, agent), "--json"]) == 1
    out = capsys.readouterr().out
    told = {point["name"]: point for point in json.loads(out)["points"]}
    assert told["FLASK"]["holds"]
    assert told["loaded policy"]["holds"]
    assert told["boot files"]["fix"] == "shype host install"
    for point in told.values():
        assert point["holds"] or point["fix"], point
    assert {p: p.stat().st_mtime_ns for p in before} == before

"""The units, by systemd's own judgement, and what their sandbox must leave open."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shype.base import child
from shype.host.install import assets

UNITS = assets.units("/usr/bin/shype")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the units, of a program that is there."""
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd is not installed, so no unit was checked: make setup")
    place = tmp_path_factory.mktemp("units")
    for name, text in assets.units("/bin/true").items():
        # Of Xen's own units this machine has none.
        (place / name).write_text(text)
    return place


def test_systemd_understands_every_line(place: Path) -> None:
    done = child.run(["systemd-analyze", "verify", "--man=no", *sorted(place.glob("*.service"))],
                     check=False)
    mine = [line for line in done.err.splitlines() if "shype-" in line or str(place) in line]
    assert mine == [], done.err
    assert done.code == 0


@pytest.mark.parametrize("name", sorted(UNITS))
def test_the_sandbox_is_worth_its_name(place: Path, name: str) -> None:
    done = child.run(["systemd-analyze", "security", "--offline=true", "--threshold=70",
                      place / name], check=False)
    assert done.code == 0, done.out


@pytest.mark.parametrize("name", sorted(UNITS))
def test_nothing_hides_the_devices_that_xen_needs(name: str) -> None:
    # Each of these implies a list of devices without /dev/xen and /dev/watchdog.
    for option in ("PrivateDevices=yes", "ProtectClock=yes", "DevicePolicy=", "DeviceAllow="):
        assert option not in UNITS[name]
    assert "ConditionKernelCommandLine=shype.policy" in UNITS[name]


def test_a_guardian_outlives_the_watcher_and_images_can_be_written() -> None:
    watch = UNITS["shype-watch.service"]
    assert "KillMode=process" in watch
    assert "ProtectSystem=full" in watch
    assert "ProtectHome" not in watch


@pytest.mark.parametrize("text", [assets.ARM, assets.HOOK, assets.KERNEL.format(shype="/x")])
def test_the_scripts_are_shell(text: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(text)
    assert child.run(["sh", "-n", script], check=False).code == 0

"""The veto before Xen's scripts: put there, asked, taken away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.host.resources.scripts import DECIDED, install, look, remove


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory like /etc/xen/scripts, whose scripts say what they were called with."""
    made = tmp_path / "scripts"
    made.mkdir()
    for name in ("block", "vif-bridge"):
        (made / name).write_text('#!/bin/sh\necho "xen $@"\n')
        (made / name).chmod(0o755)
    return made


def asking(tmp_path: Path, code: int) -> str:
    """A program in shype's place that answers with that exit code."""
    program = tmp_path / "shype"
    program.write_text(f'#!/bin/sh\necho "asked $@"\nexit {code}\n')
    program.chmod(0o755)
    return str(program)


def call(path: Path, *words: str, decided: bool = False) -> tuple[int, list[str]]:
    """Run a script."""
    environment = {**os.environ, **({DECIDED: "1"} if decided else {})}
    done = subprocess.run([path, *words], capture_output=True, text=True, env=environment,
                          check=False)
    return done.returncode, done.stdout.splitlines()


def test_refused_xens_own_script_never_runs(place: Path, tmp_path: Path) -> None:
    assert all(one.vetoed for one in install(asking(tmp_path, 1), place))
    assert call(place / "block", "add") == (1, ["asked hotplug block add"])
    assert call(place / "vif-bridge", "online", "type_if=vif") == (
        1, ["asked hotplug vif online type_if=vif"])
    # what only takes away is not asked about
    assert call(place / "block", "remove") == (0, ["xen remove"])
    assert call(place / "vif-bridge", "offline", "type_if=vif") == (0, ["xen offline type_if=vif"])


def test_permitted_it_runs_and_what_shype_decided_is_not_asked_again(
    place: Path, tmp_path: Path
) -> None:
    program = asking(tmp_path, 0)
    install(program, place)
    install(program, place)  # a second time changes nothing
    assert call(place / "block", "add") == (0, ["asked hotplug block add", "xen add"])
    assert call(place / "block", "add", decided=True) == (0, ["xen add"])
    # an interface is filtered once it is on its bridge
    assert call(place / "vif-bridge", "online") == (
        0, ["asked hotplug vif online", "xen online", "asked hotplug vif-up online"])


def test_a_program_that_is_gone_refuses(place: Path, tmp_path: Path) -> None:
    install(str(tmp_path / "none"), place)
    assert call(place / "block", "add")[0] != 0
    assert call(place / "block", "add")[1] == []


def test_removed_xens_scripts_are_as_before(place: Path, tmp_path: Path) -> None:
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    install(asking(tmp_path, 1), place)
    assert not any(one.vetoed for one in remove(place))
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    (place / "block").unlink()
    with pytest.raises(BadInput) as caught:
        install("/x", place)
    assert caught.value.id == "hotplug.no-xen"


def test_a_package_that_brings_its_script_back_shows(place: Path, tmp_path: Path) -> None:
    install(asking(tmp_path, 1), place)
    (place / "block").write_text("#!/bin/sh\n")
    assert [one.vetoed for one in look(place)] == [False, True]
    (place / "vif-bridge.xen").unlink()
    assert look(place)[1].problem

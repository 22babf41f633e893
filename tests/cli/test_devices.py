"""Attach, detach, devices, disk and hotplug: what they print and how they end, on the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import devices, disk, hotplug
from shype.host.resources.registry import Registry, Used
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.builders import context, model


@pytest.fixture
def run(tmp_path: Path) -> Shell:
    """Run a command against a model on which a-db runs; an error becomes its exit code."""
    agent = signed_host(tmp_path)
    label = next(name for name in agent.manifest.labels if name == "bank-a-db")
    model(agent).set_booleans(agent.manifest.window_values(label))
    model(agent).create("a-db", context("l_bank_a_db_t"))
    model(agent).set_booleans(agent.manifest.window_values(None))

    def shell(*words: str) -> int:
        given = [] if words[1:2] == ("install",) else options(tmp_path, agent)
        return run_words((devices.add, disk.add, hotplug.add), (*words, *given))

    return shell


def test_the_policy_is_asked_before_the_host(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "disk").write_bytes(b"x")
    # the model reads no devices out of a specification, so it cannot say which is meant
    assert run("attach", "a-db", "disk", f"{tmp_path}/disk,raw,xvdb,w") == 2
    assert "attach.spec" in capsys.readouterr().err
    assert run("attach", "nobody", "disk", "/x,raw,xvdb,w") == 2
    assert run("detach", "a-db", "disk", "xvdb") == 3
    assert "model.no-devices" in capsys.readouterr().err


def test_a_host_without_devices_is_sound(run: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("devices", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"devices": [], "driver": "model"}
    assert run("devices") == 0
    assert "PERMITTED" in capsys.readouterr().out


def test_disks_are_remembered_and_forgotten(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Registry(tmp_path / "state").remember({"file 1 2 3": Used("red", "/srv/a", "a-db")})
    assert run("disk", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"driver": "model", "disks": [{
        "key": "file 1 2 3", "label": "red", "path": "/srv/a", "vm": "a-db", "wiping": False}]}
    assert run("disk", "list") == 0
    assert "/srv/a" in capsys.readouterr().out
    (tmp_path / "disk").write_bytes(b"secret")
    assert run("disk", "wipe", str(tmp_path / "disk"), "--json") == 0
    wiped = json.loads(capsys.readouterr().out)
    assert (wiped["bytes"], wiped["driver"]) == (6, "model")
    assert (tmp_path / "disk").read_bytes() == bytes(6)
    assert run("disk", "wipe", str(tmp_path / "none")) == 2
    assert run("disk", "wipe", str(tmp_path)) == 2


def test_scripts_that_are_not_there(run: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert run("hotplug", "install", "--scripts", str(tmp_path)) == 2
    assert "hotplug.no-xen" in capsys.readouterr().err
    for name in ("block", "vif-bridge"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    assert run("hotplug", "install", "--scripts", str(tmp_path), "--json") == 0
    found = json.loads(capsys.readouterr().out)["scripts"]
    assert [one["vetoed"] for one in found] == [True, True]
    assert "/usr/bin/shype hotplug block" in (tmp_path / "block").read_text()


def test_a_script_that_cannot_be_answered_is_refused(
    run: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XENBUS_PATH", "backend/vbd/1/51728")  # there is none
    assert run("hotplug", "block", "add") == 2
    assert run("hotplug", "vif-up", "online") == 2
    assert run("hotplug", "block", "remove") == 0

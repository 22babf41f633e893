"""migrate and receive, between two models: a forced command of an ssh key answers the sender."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from shype.cli import migration
from shype.host.agent import Agent
from shype.host.launch import launch
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.builders import config
from tests.host.invariants import assert_sound, guests
from tests.host.test_kill import until_sound


@pytest.fixture
def hosts(tmp_path: Path) -> tuple[Agent, Agent]:
    """The sender, on which a-db runs, and the receiver."""
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(signed_host(tmp_path / name))
    launch(made[0], config(tmp_path, "a-db"))
    return made[0], made[1]


@pytest.fixture
def run(tmp_path: Path, hosts: tuple[Agent, Agent]) -> Shell:
    """`shype migrate` on the sender, through an ssh whose key has `shype receive` as command."""
    receive = shlex.join([
        sys.executable, "-m", "shype", "receive", *options(tmp_path / "two", hosts[1]), "--json"])
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\n[ "$1" = host2 ] || {{ echo "$1: no such host" >&2; exit 255; }}\n'
        f'SSH_CONNECTION="10.0.0.1 22 10.0.0.2 22" SSH_ORIGINAL_COMMAND="$2" exec {receive}\n')
    ssh.chmod(0o755)
    given = options(tmp_path / "one", hosts[0])
    return lambda vm, host, *words: run_words(
        (migration.add,), ("migrate", vm, host, "--ssh", ssh, *given, *words))


def test_it_moves(
    run: Shell, hosts: tuple[Agent, Agent], capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = hosts
    assert run("a-db", "host2", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "driver": "model", "vm": "a-db", "label": "bank-a-db", "host": "host2", "moved": True,
        "released": ["run_bank_a"], "refusal": None}
    assert (guests(one), guests(two)) == ({}, {"a-db": "bank-a-db"})
    assert_sound(one)
    until_sound(two)
    trail = (two.state / "audit").rglob("*")
    said = b"".join(path.read_bytes() for path in trail if path.is_file())
    assert b"host:10.0.0.1" in said


@pytest.mark.parametrize("json_", [False, True])
def test_the_receiver_refuses(
    run: Shell, hosts: tuple[Agent, Agent], tmp_path: Path, json_: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one, two = hosts
    launch(two, config(tmp_path, "b-db"))
    assert run("a-db", "host2", *(["--json"] if json_ else [])) == 1
    out = capsys.readouterr().out
    if json_:
        value = json.loads(out)
        assert (value["moved"], value["refusal"]["id"]) == (False, "wall.conflict")
    else:
        assert "refused by host2: bank-a-db may not start" in out
        assert "[wall.conflict]" in out
    assert (guests(one), guests(two)) == ({"a-db": "bank-a-db"}, {"b-db": "bank-b-db"})
    assert_sound(one)
    assert_sound(two)


def test_nobody_answers(
    run: Shell, hosts: tuple[Agent, Agent], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("a-db", "host3") == 3
    err = capsys.readouterr().err
    assert "migrate.no-answer" in err
    assert "no such host" in err
    assert run("nobody", "host2") == 2
    assert guests(hosts[0]) == {"a-db": "bank-a-db"}
    assert_sound(hosts[0])

"""migrate and receive, between two models: a forced command of an ssh key answers the sender."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.cli import migration
from shype.host.agent import Agent
from shype.host.launch import launch
from shype.meter.begin import begin
from shype.meter.handover import kept as kept_by_one
from shype.meter.handover import read, taken
from shype.meter.ledger import Ledger
from shype.meter.reader import lines
from shype.meter.record import decode
from shype.meter.verify import verify
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


def test_both_hosts_sign_and_keep_what_it_had_used(
    run: Shell, hosts: tuple[Agent, Agent], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for host in hosts:
        begin(host)
    (tmp_path / "one/model.json.usage").write_text('{"1": {"cpu_ns": 7000000000, "memory": 4096}}')
    assert run("a-db", "host2", "--json") == 0
    kept = []
    for host in hosts:
        report = verify(host.state / "meter")
        assert report.good, report.problems
        assert not [note for note in report.notes if "other host" in note]
        kept.append([record.body["statement"] for line in lines(host.state / "meter")
                     if (record := decode(line.data)).kind == "handover"])
    assert kept[0] == kept[1]
    envelope, body = read(kept[0][0].encode())
    assert len(envelope.signatures) == 2
    assert (body["vm"], body["label"], body["to"]) == ("a-db", "bank-a-db", "host2")
    assert body["usage"][0] == 7 * 10**9
    # the same statement about a VM that does not run there is not signed
    launch(hosts[0], config(tmp_path, "market"))
    ledger = Ledger(hosts[0].state / "meter")
    with pytest.raises(BadInput, match="does not run here"):
        taken(ledger, kept[0][0].encode(), lambda uuid, label: False)
    with pytest.raises(BadInput, match="no statement"):
        taken(ledger, kept[0][0].replace("a", "b", 3).encode(), lambda uuid, label: True)
    assert not kept_by_one(ledger, kept[0][0].encode(), b"nonsense")
    assert verify(ledger.directory).good


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

"""The host's commands, on the model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.base.errors import ShypeError, Unavailable
from shype.cli import denials
from shype.cli import host as cli
from shype.cli.agent import open_agent
from shype.host.admission import accepted
from shype.host.agent import Agent
from shype.host.drivers.model import UNLABELLED
from shype.host.drivers.xen import driver
from shype.host.hypervisor import CreateFailed
from shype.host.journal import reservation
from shype.host.versions import Accepted
from shype.policy.model import Enforcement
from shype.policy.names import LabelName
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.builders import config, context, model
from tests.signing import STRANGER, sealed


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return signed_host(tmp_path)


@pytest.fixture
def run(tmp_path: Path, agent: Agent) -> Shell:
    """Run a command against the model of ``agent``; an error becomes its exit code."""
    given = options(tmp_path, agent)
    return lambda command, *words: run_words((cli.add, denials.add), (command, *given, *words))


#: Nobody may take a saved text of the model for one of a host.
MARK = "MODEL, not a hypervisor:\n"


def read(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    """The JSON on standard output."""
    value: dict[str, object] = json.loads(capsys.readouterr().out)
    assert value["driver"] == "model"
    return value


def test_run_says_what_runs(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", config(tmp_path, "a-db", 'seclabel = "market-data"')) == 0
    out, err = capsys.readouterr()
    assert out == f"{MARK}a-db runs as domain 1 with the label bank-a-db\n"
    assert "MODEL" in err
    assert "notice: the configuration of a-db says market-data" in err


def test_refusal_names_rule_line_and_holder(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("run", config(tmp_path, "a-db"))
    capsys.readouterr()
    assert run("run", config(tmp_path, "b-db")) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{MARK}denied by the agent: bank-b-db may not start")
    assert "[wall.conflict]" in out
    assert "held by: a-db (domain 1, bank-a-db) as bank-a" in out
    assert "policy.yaml:4:" in out


def test_refusal_as_json(run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", config(tmp_path, "x"), "--json") == 1
    value = read(capsys)
    assert (value["vm"], value["label"], value["domid"], value["source"]) == (
        "x", None, None, "agent")
    assert isinstance(value["decision"], dict)
    assert value["decision"]["id"] == "label.none"


@pytest.mark.parametrize(("extra", "code", "word"), [
    ('seclabel = "bank-a"', 2, "label.unknown"),
    ('init_seclabel = "market-data"\nseclabel = "market-data"', 1, "label.relabel"),
    ('seclabel = "manager"', 1, "auth.reserved"),
    ('device_model_stubdomain_seclabel = "market-data"', 1, "label.device-model"),
])
def test_labels_that_do_not_do(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: str, code: int, word: str
) -> None:
    assert run("run", config(tmp_path, "x", extra)) == code
    assert word in "".join(capsys.readouterr())


def test_stop(run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("run", config(tmp_path, "a-db"))
    capsys.readouterr()
    assert run("stop", "a-db") == 0
    assert capsys.readouterr().out == (
        f"{MARK}a-db (domain 1) is shut down\n  released: bank-a\n")
    assert run("stop", "a-db") == 2
    run("run", config(tmp_path, "b-db"))
    capsys.readouterr()
    assert run("stop", "2", "--force", "--json") == 0
    assert read(capsys)["destroyed"] is True


def test_ps_lists_labels_and_warns_of_strangers(
    run: Shell, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("run", config(tmp_path, "a-desk"))
    capsys.readouterr()
    assert run("ps") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop(0) == MARK.strip()
    assert lines[0].split() == ["DOMID", "VM", "LABEL", "COALITIONS", "WALL", "STATE"]
    assert lines[2].split() == [
        "1", "a-desk", "bank-a-desk", "bank-a,", "market", "bank-a", "running"]
    model(agent).set_enforcement(Enforcement.PERMISSIVE)
    model(agent).create("stranger", UNLABELLED)
    assert run("ps") == 1
    out, err = capsys.readouterr()
    assert "UNKNOWN" in out
    assert "stranger (domain 2) has the context u:r:domU_t:s0" in err
    assert run("ps", "--json") == 1
    domains = read(capsys)["domains"]
    assert isinstance(domains, list)
    assert [d["label"] for d in domains] == ["manager", "bank-a-desk", None]


def test_status(
    run: Shell, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status") == 0
    assert "launch window  " in capsys.readouterr().out
    label = LabelName("market-data")
    model(agent).set_booleans(agent.manifest.window_values(label))
    agent.journal.reserve(reservation("m", "", label, context("l_market_data_t"), (0,)))
    assert run("status") == 1
    out = capsys.readouterr().out
    assert "OPEN for market-data" in out
    assert "unfinished launch of m (market-data)" in out
    assert run("status", "--json") == 1
    assert read(capsys)["window"] == {"open": True, "label": "market-data"}
    assert run("recover") == 0
    assert "closed the launch window (market-data)" in capsys.readouterr().out
    assert run("status") == 0
    for enforcement in (Enforcement.PERMISSIVE, Enforcement.NONE):
        model(agent).set_enforcement(enforcement)
        assert run("status") == 3


def test_recover(run: Shell, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("recover") == 0
    assert "nothing to recover" in capsys.readouterr().out
    label = LabelName("market-data")
    agent.journal.reserve(reservation("m", "", label, context("l_market_data_t"), (0,)))
    model(agent).set_booleans(agent.manifest.window_values(label))
    model(agent).create("m", context("l_market_data_t"), paused=True)
    assert run("recover", "--json") == 0
    value = read(capsys)
    assert value["destroyed"] == [{"domid": 1, "vm": "m"}]
    assert (value["unfinished"], value["window_was_open"]) == ("m", True)


def test_denials(run: Shell, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("denials") == 0
    assert "denied nothing" in capsys.readouterr().err
    for _ in range(3):
        with pytest.raises(CreateFailed):
            model(agent).create("x", context("l_market_data_t"))
    assert run("denials") == 0
    out = capsys.readouterr().out
    assert "denied by the hypervisor (3 times)" in out
    assert "[create.no-window]" in out
    assert "rule: " in out
    assert "avc:  denied  { create }" in out
    assert run("denials", "--json") == 0
    found = read(capsys)["denials"]
    assert isinstance(found, list)
    assert (found[0]["times"], found[0]["target"]["label"]) == (3, "market-data")


def test_bundle_must_be_there_and_whole(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.shype").write_bytes(b"other")
    assert run("run", config(tmp_path, "a-db")) == 2
    assert "bundle.corrupt" in capsys.readouterr().err
    (tmp_path / "policy.shype").unlink()
    assert run("ps") == 2
    assert "bundle.missing" in capsys.readouterr().err


def _unsigned(directory: Path) -> None:
    (directory / "policy.shype").write_bytes(sealed(directory / "bundle"))


def _by_a_stranger(directory: Path) -> None:
    (directory / "policy.shype").write_bytes(sealed(directory / "bundle", STRANGER))


def _altered(directory: Path) -> None:
    data = bytearray((directory / "policy.shype").read_bytes())
    data[200:204] = b"AAAA"
    (directory / "policy.shype").write_bytes(data)


def _older(directory: Path) -> None:
    accepted(directory / "state").write({"banks": Accepted("1.1")})


def _wrong_target(directory: Path) -> None:
    file = directory / "model.json"
    state = json.loads(file.read_bytes())
    file.write_text(json.dumps({**state, "target": "xen-4.18"}))


@pytest.mark.parametrize("command", [
    ("run", "x.cfg"), ("stop", "x"), ("ps",), ("status",), ("denials",), ("recover",)])
@pytest.mark.parametrize(("harm", "id"), [
    (_unsigned, "bundle.unsigned"), (_by_a_stranger, "bundle.unknown-key"),
    (_altered, "bundle.altered"), (_older, "bundle.older"),
    (_wrong_target, "bundle.wrong-target"),
])
def test_every_command_refuses_before_anything_else(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...],
    harm: Callable[[Path], None], id: str,
) -> None:
    run("stop", "nobody")  # the model's file is there from now on
    capsys.readouterr()
    (tmp_path / "x.cfg").write_text('name = "x"\nseclabel = "market-data"\n')
    before = (tmp_path / "model.json").read_bytes()
    harm(tmp_path)
    asked = [command[0], *(tmp_path / w if w.endswith(".cfg") else w for w in command[1:])]
    assert run(*asked) == 2
    said = capsys.readouterr()
    assert f"[{id}]" in said.err
    assert said.out == MARK
    after = json.loads((tmp_path / "model.json").read_bytes())
    assert {**after, "target": "xen-4.17"} == json.loads(before)


def test_the_model_needs_its_file(tmp_path: Path, agent: Agent) -> None:
    top = argparse.ArgumentParser()
    _add(top)
    args = top.parse_args(["ps", "--driver", "model", "--bundle", str(tmp_path / "bundle")])
    with pytest.raises(ShypeError, match=r"model\.file"):
        args.run(args)


@pytest.mark.parametrize("command", ["run", "stop", "ps", "status", "denials", "recover"])
def test_every_help_teaches_by_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    top = argparse.ArgumentParser(prog="shype")
    _add(top)
    with pytest.raises(SystemExit) as ended:
        top.parse_args([command, "--help"])
    assert ended.value.code == 0
    assert f"example: shype {command}" in capsys.readouterr().out


def test_the_model_leaves_the_real_host_s_state_alone(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own journal is beside its file: the host's may wait to be recovered."""
    monkeypatch.setattr("shype.host.trust.load_trusted", lambda path, keys: agent.bundle)
    args = _parsed("ps", "--driver", "model", "--model-file", str(tmp_path / "m.json"))
    assert open_agent(args).state == tmp_path / "m.json.state"


def test_a_machine_without_xen_is_named_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver.require_xen, "__defaults__", (tmp_path / "privcmd",))
    for words in (["ps"], ["status"], ["denials"], ["recover"], ["stop", "x"], ["run", "x.cfg"]):
        args = _parsed(*words, "--bundle", str(tmp_path / "none"))
        with pytest.raises(Unavailable) as caught:
            args.run(args)
        assert caught.value.id == "host.no-xen"


def _add(top: argparse.ArgumentParser) -> None:
    commands = top.add_subparsers()
    cli.add(commands)
    denials.add(commands)


def _parsed(*words: str) -> argparse.Namespace:
    top = argparse.ArgumentParser()
    _add(top)
    return top.parse_args(words)


@pytest.mark.parametrize("words", ["x", "", "nan", "-1", "inf"])
def test_a_time_that_is_none_is_told_in_a_sentence(
    run: Shell, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("stop", "a-db", f"--timeout={words}")
    assert f"{words!r} is not a number of seconds from 0 to 86400" in capsys.readouterr().err

"""`shype store`, on the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import store as cli
from shype.host.agent import Agent
from shype.host.launch import launch
from shype.host.store.store import Acl
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.builders import config, model


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return signed_host(tmp_path)


@pytest.fixture
def run(tmp_path: Path, agent: Agent) -> Shell:
    """Run a verb against the model of ``agent``; an error becomes its exit code."""
    given = options(tmp_path, agent)
    return lambda verb, *words: run_words((cli.add,), ("store", verb, *given, *words))


def permit(agent: Agent, permissions: int | None) -> None:
    """How many entries guests may set."""
    with model(agent)._contents() as contents:
        contents.permissions = permissions


@pytest.mark.parametrize(("permissions", "code", "says"), [
    (0, 0, "locked: no guest can change an access list"),
    (5, 3, "open: guests can change access lists (up to 5 entries)"),
    (None, 3, "open: this xenstored has no quota of permissions"),
])
def test_status(
    run: Shell, agent: Agent, capsys: pytest.CaptureFixture[str], permissions: int | None,
    code: int, says: str,
) -> None:
    permit(agent, permissions)
    assert run("status") == code
    out, err = capsys.readouterr()
    assert says in out
    assert ("host.xenstore-open" in err) is (code == 3)
    assert run("status", "--json") == code
    value = json.loads(capsys.readouterr().out)
    assert (value["locked"], value["permissions"]) == (code == 0, permissions)
    with model(agent).store() as store:
        assert "/tool/shype-probe" not in store.acls()


def test_check_and_repair(
    run: Shell, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, m = (launch(agent, config(tmp_path, vm)).domid for vm in ("a-db", "market"))
    assert a is not None
    assert m is not None
    assert run("check") == 0
    assert "no node lets a VM read" in capsys.readouterr().out
    with model(agent).store() as store:
        store.make("/tool/x")
        store.set_acl("/tool/x", Acl(a, "n", ((m, "r"),)))
    assert run("check") == 1
    out, err = capsys.readouterr()
    assert (f"open: market (domain {m}) may read what a-db (domain {a}) writes to /tool/x "
            f"(n{a} r{m})") in out
    assert "[ste.disjoint]" in out
    assert "shype store repair" in err
    assert run("check", "--json") == 1
    openings = json.loads(capsys.readouterr().out)["openings"]
    assert [(o["path"], o["writer"]["vm"], o["reader"]["label"]) for o in openings] == [
        ("/tool/x", "a-db", "market-data")]
    assert run("repair", "--json") == 0
    assert json.loads(capsys.readouterr().out)["closed"] == openings
    assert run("repair") == 0
    assert "nothing to repair" in capsys.readouterr().out


def test_lock(run: Shell, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lock") == 0
    assert "locked already" in capsys.readouterr().out
    permit(agent, None)
    assert run("lock") == 3
    assert "oxenstored cannot be locked" in capsys.readouterr().err
    permit(agent, 5)  # and no xenstored runs here
    assert run("lock") == 3
    assert "store.no-daemon" in capsys.readouterr().err

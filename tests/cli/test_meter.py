"""`shype meter` on a model, whose counters a file has."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shype.cli import host as host_commands
from shype.cli import lifecycle, meter
from shype.policy.ed25519 import PublicKey
from tests.cli.on_model import options, run, signed_host
from tests.host.builders import config


class Host:
    """A model, and commands on it."""

    def __init__(self, place: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.agent, self.place, self._capture = signed_host(place), place, capture

    def on_host(self, *words: str) -> int:
        """A command that acts on the host."""
        return run([host_commands.add, lifecycle.add, meter.add],
                   [*words, *options(self.place, self.agent)])

    def on_files(self, verb: str, *words: str) -> int:
        """A command that needs but the files."""
        return run([meter.add], ["meter", verb, "--ledger", str(self.ledger), *words])

    @property
    def ledger(self) -> Path:
        return self.agent.state / "meter"

    def used(self, domid: int, cpu_ns: int, **more: Any) -> None:
        """What a domain has used."""
        file = self.place / "model.json.usage"
        said = json.loads(file.read_bytes()) if file.exists() else {}
        said[str(domid)] = {"cpu_ns": cpu_ns, "memory": 2**27, **more}
        file.write_text(json.dumps(said))

    def said(self) -> str:
        return self._capture.readouterr().out

    def told(self) -> str:
        """What went to standard error."""
        return self._capture.readouterr().err


@pytest.fixture
def made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Host:
    found = Host(tmp_path, capsys)
    assert found.on_host("meter", "begin") == 0
    for vm in ("a-db", "market"):
        assert found.on_host("run", str(config(tmp_path, vm))) == 0
    found.used(1, 3 * 10**9, devices={"vbd-1#1": ["disk", 4096, 512, 4, 1]})
    found.used(2, 10**9, devices={"vif-0#2": ["network", 10, 20, 1, 2]})
    assert found.on_host("meter", "sample") == 0
    found.said()
    return found


def test_report_by_everything(made: Host) -> None:
    assert made.on_files("report", "--json") == 0
    rows = {row["key"]: row for row in json.loads(made.said())["rows"]}
    assert rows["a-db"]["cpu_ns"] == 3 * 10**9
    assert rows["a-db"]["disk_read_bytes"] == 4096
    assert rows["market"]["net_sent_bytes"] == 20
    assert made.on_files("report", "--by", "label", "--csv") == 0
    table = list(csv.DictReader(io.StringIO(made.said())))
    assert [row["label"] for row in table] == ["bank-a-db", "market-data", "manager"]
    assert made.on_files("report", "--by", "coalition") == 0
    assert made.said().splitlines()[1].split()[:3] == ["bank-a", "2", "3.0"]  # dom0 is in all
    owned = made.place / "owners"
    owned.write_text("# who pays\nbank-a-db  Bank A\nmarket Stock Exchange\n")
    assert made.on_files("report", "--by", "owner", "--owners", str(owned), "--json") == 0
    assert [row["key"] for row in json.loads(made.said())["rows"]] == [
        "Bank A", "Stock Exchange", "(no owner)"]
    for text in ("market\n", "market A\nmarket B\n"):
        owned.write_text(text)
        assert made.on_files("report", "--by", "owner", "--owners", str(owned)) == 2
    assert made.on_files("report", "--by", "owner") == 2
    assert made.on_files("report", "--from", "2100-01-01", "--json") == 0
    assert json.loads(made.said())["rows"] == []


def test_ledgers_of_two_hosts_add_up_and_none_counts_twice(
    made: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other").mkdir()
    other = Host(tmp_path / "other", capsys)
    assert other.on_host("meter", "begin") == 0
    assert other.on_host("run", str(config(tmp_path / "other", "a-db"))) == 0
    other.used(1, 2 * 10**9)
    assert other.on_host("meter", "sample") == 0
    made.said()
    assert made.on_files("report", "--ledger", str(other.ledger), "--json") == 0
    rows = {row["key"]: row for row in json.loads(made.said())["rows"]}
    assert (rows["a-db"]["cpu_ns"], rows["a-db"]["runs"]) == (5 * 10**9, 2)
    shutil.copytree(made.ledger, tmp_path / "copy")
    assert made.on_files("report", "--ledger", str(tmp_path / "copy")) == 2


def test_verify_and_what_it_says(made: Host) -> None:
    key = str(made.ledger / "first.pub")
    assert made.on_files("verify", "--key", key) == 0
    assert made.said().strip().endswith(": whole")
    file = made.ledger / "ledger.jsonl"
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))
    assert made.on_files("verify", "--key", key, "--json") == 1
    found = json.loads(made.said())
    assert not found["good"]
    assert found["problems"]
    assert made.on_files("report") == 2  # it does not add up what cannot be read


@pytest.mark.parametrize("words", [
    ("stop", "a-db"), ("stop", "a-db", "--force"), ("stop", "a-db", "--force", "--timeout", "0"),
    ("reboot", "a-db", "--force")])
def test_an_ordered_end_is_no_gap(made: Host, words: tuple[str, ...]) -> None:
    made.used(1, 7 * 10**9)
    assert made.on_host(*words) == 0
    assert made.on_host("meter", "sample") == 0
    made.said()
    assert made.on_files("verify") == 0
    assert "gap" not in made.said()
    assert made.on_files("report", "--json") == 0
    rows = {row["key"]: row for row in json.loads(made.said())["rows"]}
    assert (rows["a-db"]["ended_unseen"], rows["a-db"]["cpu_ns"] >= 7 * 10**9) == (0, True)


def test_a_ledger_is_set_aside_only_on_demand(made: Host) -> None:
    assert made.on_host("meter", "begin") == 2
    assert "[meter.begun]" in made.told()
    assert made.on_host("meter", "begin", "--again") == 0
    assert "before-1" in made.said()


@pytest.mark.parametrize("verb", ["sample", "key", "report", "verify", "head", "picture"])
def test_without_a_ledger_every_verb_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    host = Host(tmp_path, capsys)
    more = {"key": ["rotate"], "picture": ["-o", str(tmp_path / "svg")]}.get(verb, [])
    code = (host.on_host("meter", verb, *more) if verb in ("sample", "key")
            else host.on_files(verb, *more))
    said = host.told()
    assert code == 2
    assert f"there is no ledger in {host.ledger} [meter.no-ledger]" in said
    assert "shype meter begin" in said


@pytest.mark.parametrize(("words", "id"), [
    (("verify", "--key", "nope.pub"), "key.missing"),
    (("report", "--by", "owner", "--owners", "nope"), "meter.owners")])
def test_a_file_that_is_not_there_is_named(made: Host, words: tuple[str, ...], id: str) -> None:
    assert made.on_files(*words) == 2
    said = made.told()
    assert f"[{id}]" in said
    assert f"{words[-1]} cannot be read: No such file" in said


def test_keys_that_are_revoked(made: Host) -> None:
    first = PublicKey.from_pem((made.ledger / "first.pub").read_bytes(), "first").id
    for wrong in ("abc", first[:-1], "0" * 64):
        assert made.on_files("verify", "--revoked", wrong) == 2
        assert "[meter.unknown-key]" in made.told()
    assert made.on_files("verify", "--revoked", first) == 1
    assert made.on_host("meter", "key", "revoke", "--since", "9999") == 2
    assert "none with the number 9999 [meter.since]" in made.told()
    assert made.on_host("meter", "key", "revoke", "--since", "2") == 0
    made.said()
    assert made.on_files("verify") == 0
    assert "revoked (no reason given); records from 2" in made.said()


def test_bad_input(made: Host, tmp_path: Path) -> None:
    assert run([meter.add], ["meter", "verify", "--ledger", str(tmp_path)]) == 2
    assert made.on_files("verify", "--at", "7") == 2
    with pytest.raises(SystemExit):
        made.on_files("report", "--from", "yesterday")

"""`shype audit`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import main as cli
from shype.decision.decision import Decision
from shype.host.audit import head as heads
from shype.host.audit.event import Event, Result
from shype.host.audit.trail import Trail
from shype.policy.names import LabelName
from shype.policy.source import Span


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A host's state with a trail of four records."""
    trail = Trail(tmp_path / "state" / "audit")
    rule = Span("banks.yaml", 13, 9)
    trail.record(Event(
        kind="launch", result=Result.REFUSED, vm="b-db", subject=LabelName("bank-b-db"),
        decision=Decision(False, "wall.conflict", "It may not.", (rule,))))
    trail.record(Event(kind="disk.attach", result=Result.PERMITTED, vm="a\x1b[2Jdb",
                       subject=LabelName("bank-a-db"), object="disk:/dev/x",
                       object_label="bank-a"))
    trail.record(Event(kind="stop", result=Result.DONE, vm="b-db", deferrable=True))
    return tmp_path / "state"


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_show_is_a_table_without_control_characters(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("audit", "show", "--state", state) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert len(said.splitlines()) == 5
    assert "wall.conflict" in said
    assert "disk:/dev/x (bank-a)" in said


def test_a_verdict_and_its_reasons_are_shown_and_why_a_host_was_revoked(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trail = Trail(state / "audit")
    for kind, details in (
        ("verifier.verdict", {"verdict": "unknown", "before": "trusted",
                              "reasons": ["event.unknown", "boot.unknown"]}),
        ("verifier.verdict", {"verdict": "trusted", "reasons": []}),
        ("verifier.revoke", {"why": "sto\x1blen"}), ("verifier.forget", {})):
        trail.record(Event(kind=kind, result=Result.DONE, object="host:xen1", details=details))
    assert run("audit", "show", "--state", state, "--kind", "verifier") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split("host:xen1")[1].strip() for row in rows] == [
        "unknown: event.unknown, boot.unknown", "trusted", "sto\\x1blen", "-"]


@pytest.mark.parametrize(("words", "expected"), [
    (("--vm", "b-db"), [2, 4]), (("--kind", "disk"), [3]), (("--result", "refused"), [2]),
    (("--label", "bank-a"), [3]), (("--until", "2001-01-01"), []), (("-n", "1"), [4]),
    (("--since", "2001-01-01T00:00:00+02:00", "--kind", "stop"), [4]),
])
def test_filters(
    state: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], expected: list[int]
) -> None:
    assert run("audit", "show", "--json", "--state", state, *words) == 0
    assert [r["seq"] for r in json.loads(capsys.readouterr().out)["records"]] == expected
    assert run("audit", "export", "--state", state, *(w for w in words if w not in ("-n", "1"))
               ) == 0
    lines = capsys.readouterr().out.splitlines()
    if "-n" not in words:
        assert [json.loads(line)["seq"] for line in lines] == expected


def test_verify_copy_and_key(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "host.key"
    assert run("audit", "key", "--state", state) == 0
    key.write_text(capsys.readouterr().out)
    assert run("audit", "key", "--state", state) == 3
    assert "audit.key-taken" in capsys.readouterr().err
    copy = tmp_path / "copy"
    assert run("audit", "copy", "--state", state, copy) == 0
    assert run("audit", "copy", "--state", state, copy) == 2
    assert run("audit", "verify", "--key", key, copy) == 0
    assert "chain and seals" in capsys.readouterr().out
    head = heads.read(copy / "head")
    assert head is not None
    assert head.key == b""
    assert run("audit", "verify", copy) == 0
    assert "without --key" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("audit", "verify", "--anchor", "x", copy)
    assert run("audit", "verify", "--key", key, "--anchor", "99:" + "0" * 16, copy) == 1
    assert "an old copy" in capsys.readouterr().out
    # a copy has no key: nothing can be appended to it
    Trail(copy.rename(tmp_path / "other")).record(
        Event(kind="stop", result=Result.DONE, deferrable=True))
    assert (tmp_path / "other" / "unchained.jsonl").exists()
    lines = (state / "audit" / "audit.jsonl").read_text().replace("wall.conflict", "wall.free")
    (state / "audit" / "audit.jsonl").write_text(lines)
    assert run("audit", "verify", "--key", key, "--state", state, "--json") == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert problems[0]["line"] == 2


def test_a_broken_trail_is_begun_anew(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "audit" / "head").write_bytes(b"")
    assert run("audit", "rotate", "--state", state) == 3
    assert "audit.broken" in capsys.readouterr().err
    assert run("audit", "begin", "--reason", "head was lost", "--state", state) == 0
    assert run("audit", "rotate", "--state", state, "--json") == 0
    assert run("audit", "verify", "--state", state) == 0
    assert run("audit", "verify", state / "audit" / "old-1") == 1


def test_export_goes_on_where_it_was(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("audit", "export", "--state", state, "--format", "syslog", "--cursor",
             tmp_path / "cursor")
    assert run(*words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    Trail(state / "audit").record(Event(kind="stop", result=Result.DONE))
    assert run(*words) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    # A new trail counts from 1 again.
    assert run("audit", "begin", "--reason", "test", "--state", state) == 0
    capsys.readouterr()
    assert run(*words) == 0
    assert "audit.begin" in capsys.readouterr().out
    assert run(*words) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "cursor").write_text("x")
    assert run(*words) == 2


def test_there_is_no_trail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "show", "--state", tmp_path) == 2
    assert run("audit", "verify", tmp_path / "x") == 2
    assert "audit.no-trail" in capsys.readouterr().err

"""`shype analyze`, on the small policy of the reference policy's shape."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.cli.main import main
from tests.compile.small_reference import compiled

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small policy as a binary."""
    return compiled(tmp_path_factory.mktemp("small"))


@pytest.fixture
def run(small: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> tuple[int, str, str]:
        code = main(["analyze", str(small), *words])
        said = capsys.readouterr()
        return code, said.out, said.err
    return call


def test_the_summary(run: Run) -> None:
    code, out, _ = run()
    assert code == 0
    assert any(line.split() == ["argo", "argo", "bulk", "36", "36"] for line in out.splitlines())
    assert "no path goes through" in out
    assert "booleans count both ways: chatty, closed" in out
    assert "any domain can reach guest_t and locked_t, and be reached from" in out


def test_between_two_with_reasons(run: Run) -> None:
    code, out, _ = run("--from", "apart_t", "--to", "guest_t", "--why")
    assert code == 0
    assert "allow domains domains:argo { register_single_source send };" in out
    code, out, _ = run("--from", "apart_t", "--to", "guest_t", "--via", "grant")
    assert code == 1
    assert "nothing flows from apart_t to guest_t" in out
    code, out, _ = run("--from", "apart_t", "--to", "guest_t", "--via", "grant", "--through",
                       "dom0_t", "--all")
    assert code == 0
    assert "apart_t -> dom0_t -> guest_t" in out
    assert "subject to a constraint" in out


def test_one_side(run: Run) -> None:
    code, out, _ = run("--from", "apart_t", "--via", "event")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if "signal" in line] == [
        "apart_ch", "dom0_t"]
    code, out, _ = run("--to", "locked_t", "--via", "memory", "--boolean", "closed=on",
                       "--always")
    assert code == 0
    assert "nothing flows directly to locked_t" in out


def test_json(run: Run) -> None:
    code, out, _ = run("--json", "--via", "grant")
    value = json.loads(out)
    assert code == 0
    assert value["target"] == "xen-4.17"
    assert {(flow["from"], flow["to"]) for flow in value["direct"]} >= {("apart_t", "dom0_t")}
    assert value["direct"][0]["by"][0]["constraint"] is True
    assert "dom0_t" in value["stops"]
    code, out, _ = run("--json", "--from", "apart_t", "--to", "guest_t")
    (path,) = json.loads(out)["paths"]
    assert path["path"] == ["apart_t", "guest_t"]
    assert path["steps"][0][0]["permissions"] == ["send"]
    code, out, _ = run("--json", "--from", "apart_t", "--to", "guest_t", "--via", "hvm")
    assert code == 1
    assert json.loads(out)["paths"] == []


@pytest.mark.parametrize(("words", "error"), [
    (["--from", "apart"], "analyze.type"), (["--from", "domains"], "analyze.type"),
    (["--via", "telepathy"], "analyze.via"), (["--boolean", "closed"], "analyze.setting"),
    (["--boolean", "no=on"], "analyze.boolean"), (["--limit", "0"], "analyze.limit"),
    (["--xen", "3.0"], "target.unknown"), (["--through", "x"], "analyze.type"),
])
def test_wrong_arguments(run: Run, words: list[str], error: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert f"[{error}]" in err

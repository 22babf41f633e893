"""`shype build` and `shype tables`, run through their own parser."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.cli import build as command
from shype.compile.flask import reader, tables
from shype.policy.manifest import load_bundle
from shype.policy.source import PolicyInvalid
from tests.compile.test_tables import tree

BANKS = Path(__file__).resolve().parents[2] / "examples" / "banks.yaml"


def run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser(prog="shype")
    command.add(parser.add_subparsers(required=True))
    args = parser.parse_args([str(word) for word in argv])
    return int(args.run(args))


def test_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", BANKS, "--target", "xen-4.17", "-o", tmp_path / "b") == 0
    shown = capsys.readouterr()
    manifest = load_bundle(tmp_path / "b").manifest
    assert manifest.digest in shown.out
    assert "49 pairs, 245 decisions" in shown.out
    assert manifest.policy.name == "banks"


@pytest.mark.parametrize("example", sorted(BANKS.parent.glob("*.yaml")), ids=lambda p: str(p.stem))
def test_every_example_builds(example: Path, tmp_path: Path) -> None:
    for target in ("xen-4.17", "xen-4.22"):
        assert run("build", example, "--target", target, "-o", tmp_path / target) == 0


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", BANKS, "--target", "xen-4.17", "-o", tmp_path / "b", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "b" / "manifest.json").read_text())
    assert shown["booleans"]["bits"] == ["win_b0", "win_b1", "win_b2"]


def test_no_validate_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "INTERPRETER", tmp_path / "none")
    with pytest.raises(Unavailable):
        run("build", BANKS, "--target", "xen-4.17", "-o", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert run(
        "build", BANKS, "--target", "xen-4.17", "-o", tmp_path / "b", "--no-validate", "--json"
    ) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["validation"] is None
    assert "warning" in shown.err


def test_invalid_policy(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("shype: 1\n")
    with pytest.raises(PolicyInvalid):
        run("build", bad, "--target", "xen-4.17", "-o", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        run("build", BANKS, "--target", "xen-4.71", "-o", tmp_path / "b")
    assert caught.value.id == "target.unknown"


def test_imported_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A release that shype does not ship: import its tables, then build for it."""
    shipped = tables.load("xen-4.22")
    vectors = "\n".join(
        f"class {name}\n{{\n" + "\n".join(f"    {p}" for p in perms) + "\n}"
        for name, perms in shipped.classes.items()
    )
    source = tree(
        tmp_path / "xen-4.31", access_vectors=vectors,
        security_classes="".join(f"class {name}\n" for name in shipped.classes),
        initial_sids="".join(f"sid {name}\n" for name in shipped.initial_sids),
    )
    assert run("tables", "import", source, "-o", tmp_path / "t.json") == 0
    assert "xen-4.31" in capsys.readouterr().out
    assert run(
        "build", BANKS, "--target", "xen-4.31", "--tables", tmp_path / "t.json",
        "-o", tmp_path / "b",
    ) == 0
    assert load_bundle(tmp_path / "b").manifest.target == "xen-4.31"


def test_import_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tables", "import", tree(tmp_path / "x"), "-o", tmp_path / "t", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "target": "xen-4.31", "release": "4.31.2", "classes": 2, "permissions": 3,
    }


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tables", "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["target", *tables.shipped()]
    assert run("tables", "list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [item["target"] for item in shown] == list(tables.shipped())


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tables", "show", "xen-4.17") == 0
    assert "register_single_source" in capsys.readouterr().out
    assert run("tables", "show", "xen-4.17", "--json") == 0
    assert json.loads(capsys.readouterr().out) == tables.load("xen-4.17").to_json()

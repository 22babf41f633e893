"""`shype build` and `shype tables`, run through their own parser."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.cli import build as command
from shype.compile.flask import reader, tables
from shype.policy import signed
from shype.policy.manifest import Manifest
from shype.policy.source import PolicyInvalid
from tests.compile.test_tables import tree
from tests.signing import AUTHOR, STRANGER, TRUSTED

BANKS = Path(__file__).resolve().parents[2] / "examples" / "banks.yaml"


KEY = Path("author.key")


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The author's key, in the working directory."""
    monkeypatch.chdir(tmp_path)
    KEY.write_bytes(AUTHOR.pem())
    KEY.chmod(0o600)


def loaded(path: Path) -> Manifest:
    """The manifest of a bundle that AUTHOR signed."""
    envelope = signed.read(path)
    signed.require_signed(envelope, path, TRUSTED)
    return signed.opened(envelope, path)[0].manifest


def run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser(prog="shype")
    command.add(parser.add_subparsers(required=True))
    args = parser.parse_args([str(word) for word in argv])
    return int(args.run(args))


def build(policy: Path, target: str, out: Path, *more: str | Path) -> int:
    """`shype build`, signed by AUTHOR."""
    return run("build", policy, "--target", target, "-o", out, "--key", KEY, *more)


def test_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(BANKS, "xen-4.17", tmp_path / "b") == 0
    shown = capsys.readouterr()
    manifest = loaded(tmp_path / "b")
    assert manifest.digest in shown.out
    assert "49 pairs, 245 decisions" in shown.out
    assert manifest.policy.name == "banks"


@pytest.mark.parametrize("example", sorted(BANKS.parent.glob("*.yaml")), ids=lambda p: str(p.stem))
def test_every_example_builds(example: Path, tmp_path: Path) -> None:
    for target in ("xen-4.17", "xen-4.22"):
        assert build(example, target, tmp_path / target) == 0


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(BANKS, "xen-4.17", tmp_path / "b", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == loaded(tmp_path / "b").to_json()
    assert shown["booleans"]["bits"] == ["win_b0", "win_b1", "win_b2"]


def test_no_validate_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "INTERPRETER", tmp_path / "none")
    with pytest.raises(Unavailable):
        build(BANKS, "xen-4.17", tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert build(BANKS, "xen-4.17", tmp_path / "b", "--no-validate", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["validation"] is None
    assert "warning" in shown.err


def test_without_a_key_it_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="shype keys new") as caught:
        run("build", BANKS, "--target", "xen-4.17", "-o", tmp_path / "b")
    assert caught.value.id == "build.no-key"
    assert not (tmp_path / "b").exists()


def test_unsigned_is_possible_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("build", BANKS, "--target", "xen-4.17", "--unsigned", "-o", tmp_path / "b") == 0
    said = capsys.readouterr()
    assert "signed by  nobody" in said.out
    assert "every host refuses it" in said.err
    with pytest.raises(BadInput) as caught:
        loaded(tmp_path / "b")
    assert caught.value.id == "bundle.unsigned"


def test_several_keys_sign_and_their_order_does_not_matter(tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(STRANGER.pem())
    other.chmod(0o600)
    assert build(BANKS, "xen-4.17", tmp_path / "one", "--key", other) == 0
    assert run("build", BANKS, "--target", "xen-4.17", "-o", tmp_path / "two",
               "--key", other, "--key", KEY) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert {s.keyid for s in signed.read(tmp_path / "one").signatures} == {
        AUTHOR.public.id, STRANGER.public.id}


def test_same_input_same_bytes_in_any_process(tmp_path: Path) -> None:
    for seed in ("0", "1", "4711"):
        subprocess.run(
            [sys.executable, "-m", "shype", "build", BANKS, "--target", "xen-4.17", "--key", KEY,
             "-o", seed],
            env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True)
    contents = {(tmp_path / seed).read_bytes() for seed in ("0", "1", "4711")}
    assert len(contents) == 1


@pytest.mark.parametrize("there", ["a file", "a directory"])
def test_only_a_bundle_is_replaced(tmp_path: Path, there: str) -> None:
    out = tmp_path / "b"
    out.write_text("thesis") if there == "a file" else out.mkdir()
    with pytest.raises(BadInput) as caught:
        build(BANKS, "xen-4.17", out)
    assert caught.value.id == "build.out"
    assert out.is_dir() or out.read_text() == "thesis"


def test_an_earlier_bundle_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b"
    assert build(BANKS, "xen-4.17", out) == 0
    before = out.read_bytes()
    monkeypatch.setattr(reader, "INTERPRETER", tmp_path / "none")
    with pytest.raises(Unavailable):
        build(BANKS, "xen-4.18", out)
    assert out.read_bytes() == before
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert build(BANKS, "xen-4.18", out) == 0
    assert loaded(out).target == "xen-4.18"


@pytest.mark.parametrize(("content", "mode", "id"), [
    (None, 0o600, "key.missing"), (AUTHOR.pem(), 0o644, "key.exposed"),
    (AUTHOR.public.pem(), 0o600, "key.invalid"), (b"", 0o600, "key.invalid"),
])
def test_a_key_that_does_not_do(
    tmp_path: Path, content: bytes | None, mode: int, id: str
) -> None:
    KEY.unlink()
    if content is not None:
        KEY.write_bytes(content)
        KEY.chmod(mode)
    with pytest.raises(BadInput) as caught:
        build(BANKS, "xen-4.17", tmp_path / "b")
    assert (caught.value.id, bool(caught.value.fix)) == (id, True)
    assert not (tmp_path / "b").exists()


def test_invalid_policy(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("shype: 1\n")
    with pytest.raises(PolicyInvalid):
        build(bad, "xen-4.17", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        build(BANKS, "xen-4.71", tmp_path / "b")
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
    assert build(BANKS, "xen-4.31", tmp_path / "b", "--tables", tmp_path / "t.json") == 0
    assert loaded(tmp_path / "b").target == "xen-4.31"


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

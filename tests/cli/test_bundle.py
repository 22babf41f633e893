"""`shype bundle`: look at it, unpack it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.cli import bundle as command
from shype.policy.manifest import load_bundle
from tests.host.builders import bundle
from tests.signing import AUTHOR, STRANGER, keys, sealed


def run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser(prog="shype")
    command.add(parser.add_subparsers(required=True))
    args = parser.parse_args(["bundle", *(str(word) for word in argv)])
    return int(args.run(args))


def refusal(*argv: str | Path) -> str:
    with pytest.raises(BadInput) as caught:
        run(*argv)
    return caught.value.id


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """good.shype, bad.shype, unsigned.shype, and trusted keys."""
    monkeypatch.chdir(tmp_path)
    unpacked = bundle(tmp_path).path
    keys(Path("keys"))
    Path("good.shype").write_bytes(sealed(unpacked, AUTHOR))
    Path("unsigned.shype").write_bytes(sealed(unpacked))
    Path("bad.shype").write_bytes(sealed(unpacked, STRANGER))


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "good.shype") == 0
    said = capsys.readouterr().out
    for word in ("banks 1.0", "xen-4.17", AUTHOR.public.id, "not checked", "5 for VMs"):
        assert word in said
    assert run("show", "good.shype", "--keys", "keys/0.pub") == 0
    assert "signature    valid" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "id"), [
    ("bad.shype", "bundle.unknown-key"), ("unsigned.shype", "bundle.unsigned"),
])
def test_show_what_is_not_trusted(
    name: str, id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show", name) == 0
    said = capsys.readouterr().out
    assert ("not checked" in said) == (name != "unsigned.shype")
    assert run("show", name, "--keys", "keys") == 1
    said = capsys.readouterr().out
    assert f"NOT VALID: {name}" in said
    assert id in said
    assert run("show", name, "--keys", "keys", "--json") == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["valid"], shown["problem"]["error"]) == (False, id)


def test_show_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "good.shype", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["valid"], shown["problem"]) == (None, None)
    assert shown["signatures"] == [AUTHOR.public.id]
    assert shown["manifest"] == load_bundle(Path("bundle")).manifest.to_json()
    assert run("show", "good.shype", "--json", "--keys", "keys") == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_wrong_keys_are_an_error_and_not_a_verdict() -> None:
    assert refusal("show", "good.shype", "--keys", "none") == "key.none"
    assert refusal("show", "good.shype", "--keys", "good.shype") == "key.invalid"


def test_extract(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time over the first
        assert run("extract", "good.shype", "--keys", "keys", "-o", "out") == 0
    assert "banks 1.0" in capsys.readouterr().out
    for file in Path("bundle").iterdir():
        assert (Path("out") / file.name).read_bytes() == file.read_bytes()
    assert load_bundle(Path("out")).policy == load_bundle(Path("bundle")).policy
    assert run("extract", "good.shype", "--keys", "keys", "-o", "out", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["verified"], len(shown["files"])) == (True, 4)


def test_extract_writes_nothing_that_is_not_trusted() -> None:
    assert refusal("extract", "bad.shype", "--keys", "keys", "-o", "out") == "bundle.unknown-key"
    assert refusal("extract", "unsigned.shype", "-o", "out") == "bundle.unsigned"
    data = bytearray(Path("good.shype").read_bytes())
    data[200:204] = b"AAAA"
    Path("altered.shype").write_bytes(data)
    assert refusal("extract", "altered.shype", "--keys", "keys", "-o", "out") == "bundle.altered"
    assert not Path("out").exists()
    assert run("extract", "bad.shype", "--unverified", "-o", "out") == 0


def test_extract_leaves_other_files_alone() -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("x")
    assert refusal("extract", "good.shype", "--keys", "keys", "-o", "out") == "bundle.out"
    assert [p.name for p in Path("out").iterdir()] == ["thesis.tex"]

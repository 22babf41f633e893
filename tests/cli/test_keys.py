"""`shype keys`: made once, never lost, never shown."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.cli import keys as command
from shype.policy.ed25519 import PrivateKey, PublicKey
from tests.signing import AUTHOR


def run(*argv: str | Path) -> int:
    parser = argparse.ArgumentParser(prog="shype")
    command.add(parser.add_subparsers(required=True))
    args = parser.parse_args(["keys", *(str(word) for word in argv)])
    return int(args.run(args))


def refusal(*argv: str | Path) -> str:
    with pytest.raises(BadInput) as caught:
        run(*argv)
    assert caught.value.fix
    return caught.value.id


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["author.key", "author.pub"])
def test_the_name_of_a_file_is_taken_for_the_key_s(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("new", name) == 0
    assert sorted(path.name for path in Path().iterdir()) == ["author.key", "author.pub"]
    assert refusal("new", "author") == "key.exists"
    assert refusal("new", ".key") == "key.bad-name"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_new(capsys: pytest.CaptureFixture[str], umask: int) -> None:
    before = os.umask(umask)
    try:
        assert run("new", "author") == 0
    finally:
        os.umask(before)
    private = PrivateKey.from_pem(Path("author.key").read_bytes(), "")
    assert PublicKey.from_pem(Path("author.pub").read_bytes(), "") == private.public
    assert Path("author.key").stat().st_mode & 0o777 == 0o600
    assert Path("author.pub").stat().st_mode & 0o777 == 0o644
    said = capsys.readouterr().out
    assert private.public.id in said
    assert private.raw.hex() not in said
    assert command.read_private(Path("author.key")) == private


def test_new_elsewhere_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("new", "author", "-o", "made/here", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["private"] == "made/here/author.key"
    assert PublicKey.from_pem(Path(shown["public"]).read_bytes(), "").id == shown["keyid"]


@pytest.mark.parametrize("there", ["author.key", "author.pub"])
@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_overwritten(there: str, link: bool) -> None:
    if link:
        Path(there).symlink_to("elsewhere")
    else:
        Path(there).write_text("precious")
    assert refusal("new", "author") == "key.exists"
    assert not Path("elsewhere").exists()
    assert link or Path(there).read_text() == "precious"
    assert len(list(Path().iterdir())) == 1, "no half of a key is left"


def test_a_file_that_appears_meanwhile_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    made = PrivateKey.generate()

    def generate() -> PrivateKey:
        Path("author.pub").write_text("precious")
        return made

    monkeypatch.setattr(PrivateKey, "generate", staticmethod(generate))
    assert refusal("new", "author") == "key.exists"
    assert [path.name for path in Path().iterdir()] == ["author.pub"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "-x", "x" * 65, "a b", "a\n"])
def test_bad_names(name: str) -> None:
    assert refusal("new", "--", name) == "key.bad-name"


def test_show(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.key").write_bytes(AUTHOR.pem())
    Path("a.pub").write_bytes(AUTHOR.public.pem())
    for name, kind in (("a.key", "private"), ("a.pub", "public")):
        assert run("show", name) == 0
        assert AUTHOR.public.id in capsys.readouterr().out
        assert run("show", name, "--json") == 0
        assert json.loads(capsys.readouterr().out) == {
            "file": name, "kind": kind, "keyid": AUTHOR.public.id}


def test_show_what_is_no_key() -> None:
    Path("x").write_bytes(b"\xff" * 100)
    assert refusal("show", "x") == "key.invalid"
    assert refusal("show", "none") == "key.missing"
    assert refusal("show", ".") == "key.missing"

"""The parser as a whole, and how errors become exit codes."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Internal, Unavailable
from shype.cli import main as cli

COMMANDS = sorted(name for names in cli.GROUPS.values() for name in names)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert f"shype {command}" in said
    assert "example" in said.lower() or command == "completion"


def _parsers(
    parser: argparse.ArgumentParser, words: str = "shype"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """The parser of each command and of each of its verbs."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from _parsers(below, f"{words} {name}")


def test_help_fits_80_columns() -> None:
    """Epilogs are printed as they are written; argparse and `Parser` fill everything else."""
    wide = [
        (words, line) for words, parser in _parsers(cli.parser())
        for line in (parser.epilog or "").splitlines() if len(line) > 80
    ]
    assert wide == []


def test_the_quick_parser_knows_what_the_whole_one_knows() -> None:
    for group, names in cli.GROUPS.items():
        for name in names:
            assert name in cli.parser(name).format_help(), f"{group} has no {name}"


@pytest.mark.parametrize("words", [
    ["explain", "a-db", "b-db"], ["decide", "a-db", "b-db"], ["decide", "a-db", "a-desk"],
])
def test_people_read_permitted_and_denied_and_programs_permit_and_deny(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """One word for each in all output of one kind."""
    banks = str(Path(__file__).resolve().parents[2] / "examples/banks.yaml")
    cli.main([words[0], banks, *words[1:]])
    told = capsys.readouterr().out
    assert re.search(r"\b(permitted|denied)\b", told)
    assert not re.search(r"\b(permit|deny)\b", told)
    cli.main([words[0], banks, *words[1:], "--json"])
    told = capsys.readouterr().out
    assert re.search(r'"verdict": "(permit|deny)"', told)
    assert not re.search(r'"verdict": "(permitted|denied)"', told)


def test_without_a_command_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([])
    assert caught.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "said"), [
    (["chekc"], "did you mean check?"),
    (["check", "--jsn", "x"], "usage: shype check [-h]"),
    (["check", "--jsn", "x"], "shype check: error: unrecognized arguments: --jsn "
     "(did you mean --json?)"),
    (["label", "get", "--wrong", "x", "vm", "a"], "usage: shype label get "),
    (["build", "x"], "usage: shype build "),
])
def test_wrong_arguments_are_answered_by_the_command_concerned(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert said in told.err
    assert " [arguments.wrong]\n  fix: see shype" in told.err
    assert told.out == ""


def test_wrong_arguments_are_json_where_json_was_asked_for(
    capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["plan", "--json", "old.yaml"])
    assert caught.value.code == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"] == "arguments.wrong"
    assert told.err == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_terminal_of_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = capsys.readouterr().out.split("\n\n")[1]
    assert max(map(len, said.splitlines())) < 80


def test_a_bad_policy_is_shown_as_check_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "none.yaml"
    assert cli.main(["labels", str(file)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"{file}:1:1: error: ")
    assert said[-1] == "shype: error: the policy has errors [policy.invalid]"


@pytest.mark.parametrize(("error", "code", "id"), [
    (BadInput("x.bad", "bad", "mend it"), 2, "x.bad"),
    (Unavailable("x.gone", "gone"), 3, "x.gone"),
    (Internal("x.wrong", "wrong"), 3, "x.wrong"),
    (OSError("no space left"), 3, "os.error"),
    (ZeroDivisionError("oops"), 3, "internal"),
])
@pytest.mark.parametrize("as_json", [False, True])
def test_errors_have_an_id_and_a_code(
    error: Exception, code: int, id: str, as_json: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise error

    def parser(only: str | None = None) -> argparse.ArgumentParser:
        top = argparse.ArgumentParser()
        top.add_argument("--json", action="store_true")
        top.set_defaults(run=fail)
        return top

    monkeypatch.setattr(cli, "parser", parser)
    assert cli.main(["--json"] if as_json else []) == code
    said = capsys.readouterr()
    if as_json:
        assert json.loads(said.out)["error"] == id
    else:
        assert f"[{id}]" in said.err
        assert said.out == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_scripts_know_the_commands(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert all(command in said for command in COMMANDS)


def test_demo_on_the_model_is_marked_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = Path(__file__).resolve().parents[2] / "examples"
    assert cli.main(["demo", "--model", "--json", str(examples / "banks.yaml")]) == 0
    said = capsys.readouterr()
    answer = json.loads(said.out)
    assert answer["model"] is True
    assert "MODEL" in said.err
    assert all(line["as_expected"] for line in answer["attempts"])


def test_demo_falls_back_to_the_model_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**options: object) -> None:
        raise Unavailable("tool.missing", "no qemu", "apt-get install qemu-system-x86")

    monkeypatch.setattr("shype.lab.builder.build", refuse)
    examples = Path(__file__).resolve().parents[2] / "examples"
    assert cli.main(["demo", str(examples / "banks.yaml")]) == 0
    said = capsys.readouterr()
    assert "the lab cannot run here: no qemu" in said.err
    assert "MODEL, not on a hypervisor" in said.out

"""`shype explain` and `shype decide`, on policy files and on bundle directories."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shype.base.errors import ShypeError
from shype.cli import explain, output
from shype.compile.flask.build import build
from shype.policy.loader import load
from tests.decision.examples import BANKS_YAML, banks
from tests.signing import sealed

SOURCE = Path(explain.__file__).parents[2]

#: The two commands in a process of their own.
PROGRAM = """\
import argparse, sys
sys.path.insert(0, sys.argv.pop(1))
from shype.cli import explain
top = argparse.ArgumentParser(prog="shype")
explain.add(top.add_subparsers())
args = top.parse_args()
sys.exit(args.run(args))
"""


def write_bundle(directory: Path) -> None:
    """The banks compiled (what is compiled is validated elsewhere)."""
    build(banks(), target="xen-4.17", out=directory, validate=False)


@pytest.fixture(params=["file", "bundle", "unpacked"])
def policy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The banks, as a policy file, a bundle, an unpacked one: the answers are the same."""
    monkeypatch.chdir(tmp_path)
    if request.param == "file":
        Path("banks.yaml").write_text(BANKS_YAML)
        return "banks.yaml"
    write_bundle(tmp_path / "bundle")
    if request.param == "bundle":
        Path("banks.shype").write_bytes(sealed(Path("bundle")))  # an answer needs no signature
        return "banks.shype"
    return "bundle"


def run(*argv: str) -> int:
    """Run one command; an error becomes its exit code, and goes to standard error."""
    top = argparse.ArgumentParser(prog="shype")
    explain.add(top.add_subparsers())
    args = top.parse_args(argv)
    try:
        return int(args.run(args))
    except ShypeError as error:
        output.note(str(error))
        return error.exit_code


def feed(monkeypatch: pytest.MonkeyPatch, text: str | bytes) -> None:
    """Make ``text`` the standard input."""
    data = text.encode() if isinstance(text, str) else text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_the_example_in_yaml_is_the_example_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("banks.yaml").write_text(BANKS_YAML)
    assert load(Path("banks.yaml")).policy == banks()


# -- explain ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "code", "conclusion"),
    [
        ("a-desk", "market", 0, "permitted: they may run together and communicate"),
        ("bank-a-db", "bank-a-db", 0, "permitted: they may run together and communicate"),
        ("dom0", "a-db", 0, "permitted: they may run together and communicate"),
        ("manager", "dom0", 0, "permitted: they may run together and communicate"),
        ("a-db", "b-db", 1, "denied: stopped by wall.conflict, ste.disjoint"),
        ("bank-a-desk", "bank-b-desk", 1, "denied: stopped by wall.conflict"),
        ("a-db", "market", 1, "denied: stopped by ste.disjoint"),
        ("vault", "vault", 1, "denied: stopped by auth.not-authorized"),
        ("dom0", "vault", 1, "denied: stopped by auth.not-authorized"),
        ("label:hermit", "market", 1, "denied: stopped by ste.disjoint"),
    ],
)
def test_verdict_and_exit_code(
    policy: str, capsys: pytest.CaptureFixture[str], a: str, b: str, code: int, conclusion: str
) -> None:
    assert run("explain", policy, a, b) == code
    assert capsys.readouterr().out.splitlines()[-1] == conclusion


def test_text_shows_mechanisms_coalitions_and_lines(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("explain", policy, "a-desk", "market")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "A a-desk a VM bank-a-desk banks.yaml:17:3",
        "event.send permitted permitted ste.shared",
        "foreign.map denied denied host.only",
        "A and B run together permitted wall.free",
        "dom0 runs market-data permitted auth.dom0",
        "banks.yaml:8:3 label bank-a-desk",
        "banks.yaml:3:30 coalition market",
    ):
        assert line in lines
    reasons = [line for line in lines if line.startswith("ste.shared:")]
    assert len(reasons) == 1, "a reason that holds in both directions is told once"


def test_text_shows_directions(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("explain", policy, "a-db", "dom0")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "foreign.map denied permitted host.only / auth.dom0" in lines
    assert "argo.send denied denied host.no-argo" in lines


def test_text_names_the_wall(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("explain", policy, "a-desk", "bank-b-desk")
    out = capsys.readouterr().out
    assert "the wall banks separates bank-a from bank-b" in out
    assert "banks.yaml:4:9  wall banks" in out


def test_json(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "--json", policy, "a-desk", "bank-b-desk") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "deny"
    assert answer["a"] == {
        "given": "a-desk", "kind": "vm", "label": "bank-a-desk", "rule": "banks.yaml:17:3"
    }
    assert len(answer["decisions"]) == 24
    assert answer["decisions"][0]["verdict"] == "permit"
    assert answer["decisions"][0]["operation"] == "event.send"
    assert answer["information"] == ["A -> B", "B -> A"]
    assert answer["coalitions"] == [{"name": "market", "rule": "banks.yaml:3:30"}]
    assert answer["together"]["id"] == "wall.conflict"
    assert set(answer["authorized"]) == {"bank-a-desk", "bank-b-desk"}


@pytest.mark.parametrize("words", [("a-desc", "market"), ("market", "a-desc")])
def test_unknown_names_get_a_guess(
    policy: str, capsys: pytest.CaptureFixture[str], words: tuple[str, str]
) -> None:
    assert run("explain", policy, *words) == 2
    captured = capsys.readouterr()
    assert "label.unknown" in captured.err
    assert "did you mean a-desk" in captured.err
    assert captured.out == ""


def test_bad_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("shype: 1\n")
    assert run("explain", str(tmp_path), "a", "b") == 2
    assert "bundle.missing" in capsys.readouterr().err
    for name in ("policy.json", "manifest.json"):
        bundle = tmp_path / f"bundle-{name}"
        for content in ("{", "{}", "[" * 100_000, "\ufeff", '{"format":1,"format":1}'):
            write_bundle(bundle)
            (bundle / name).write_text(content)
            assert run("explain", str(bundle), "a", "b") == 2
            assert "bundle.corrupt" in capsys.readouterr().err
        write_bundle(bundle)
        (bundle / name).unlink()
        assert run("explain", str(bundle), "a", "b") == 2
        assert "bundle.missing" in capsys.readouterr().err
        os.mkfifo(bundle / name)
        assert run("explain", str(bundle), "a", "b") == 2
        assert "not a regular file" in capsys.readouterr().err
    assert run("explain", str(broken), "a", "b") == 2
    assert "policy.invalid" in capsys.readouterr().err


# -- decide -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "start"),
    [
        (["a-db", "bank-a-desk"], 0, "permitted ste.shared a-db bank-a-desk event.send: "),
        (["a-db", "b-db", "grant"], 1, "denied ste.disjoint a-db b-db grant.map_write: "),
        (["dom0", "a-db", "control"], 0, "permitted auth.dom0 dom0 a-db control.domain: "),
        (["a-db", "nobody"], 2, "error label.unknown the policy has no label and no VM 'nobody'"),
        (["a-db", "b-db", "shout"], 2, "error query.bad "),
    ],
)
def test_one_question(
    policy: str, capsys: pytest.CaptureFixture[str], words: list[str], code: int, start: str
) -> None:
    assert run("decide", policy, *words) == code
    assert capsys.readouterr().out.startswith(start)


@pytest.mark.parametrize("place", range(5))
def test_options_may_stand_anywhere_between_the_words(
    policy: str, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    words = [policy, "a-db", "b-db", "grant"]
    assert run("decide", *words[:place], "--json", *words[place:]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["a"], answer["b"], answer["operation"]) == ("a-db", "b-db", "grant.map_write")


@pytest.mark.parametrize(("words", "says"), [
    (["a"], "one word instead of two or three"),
    (["a", "b", "event", "c"], "4 words instead of two or three"),
    (["a", "b", "event", "c", "d"], "5 words instead of two or three"),
])
def test_too_few_or_many_words(
    policy: str, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert run("decide", policy, *words) == 2
    assert f"{says} [query.bad]" in capsys.readouterr().err


LAUNCH = '{"launch": "b-db", "running": [{"domid": 4, "vm": "x\\ny", "label": "bank-a-db"}]}'


def test_many_questions(
    policy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, f"# banks\na-db bank-a-desk argo\n\n{LAUNCH}\na-db\nmarket market\n")
    assert run("decide", policy) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [" ".join(line.split()[:2]) for line in lines] == [
        "permitted ste.shared", "denied wall.conflict", "error query.bad", "permitted ste.shared",
    ]
    assert lines[1].startswith("denied wall.conflict launch b-db: ")
    assert lines[2].startswith("error query.bad line 5: ")


def test_many_questions_in_json(
    policy: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = b'{"a": "\\ud800", "b": "a-db"}\n\xff\xfe a\n{"launch": "a-db", "running": ' + (
        b'[{"domid": 2, "vm": "relic", "label": "system_u:object_r:domU_t"}]}\n'
    )
    feed(monkeypatch, b"a-db bank-a-desk\n" + LAUNCH.encode() + b"\n" + bad)
    assert run("decide", "--json", policy) == 2
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer.get("id") or answer["error"] for answer in answers] == [
        "ste.shared", "wall.conflict", "label.unknown", "query.bad", "wall.unknown-running",
    ]
    assert [answer["line"] for answer in answers] == [1, 2, 3, 4, 5]
    assert answers[0]["a"] == "a-db"
    assert answers[0]["operation"] == "event.send"
    assert answers[1]["holders"] == [
        {"domid": 4, "vm": "x\ny", "label": "bank-a-db", "member": "bank-a"}
    ]
    assert "verdict" not in answers[4], "an error is no denial"


@pytest.mark.parametrize(
    ("lines", "code"), [("", 0), ("a-db a-db\nmarket market", 0), ("a-db a-db\na-db b-db\n", 1)]
)
def test_exit_codes_of_many(
    policy: str, monkeypatch: pytest.MonkeyPatch, lines: str, code: int
) -> None:
    feed(monkeypatch, lines)
    assert run("decide", policy) == code


@pytest.mark.timeout(60)
def test_a_program_can_keep_it_open_with_the_standard_library_alone(tmp_path: Path) -> None:
    """Each answer comes before the next question is asked; -S hides all installed packages."""
    write_bundle(tmp_path / "bundle")
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(SOURCE), "decide", "--json"]
    with subprocess.Popen(
        [*command, str(tmp_path / "bundle")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for question, verdict in (("a-db a-db", "permit"), ("a-db b-db", "deny")) * 2:
            child.stdin.write(question + "\n")
            child.stdin.flush()
            assert json.loads(child.stdout.readline())["verdict"] == verdict
        child.stdin.close()
        assert child.wait(timeout=30) == 1


def test_explain_runs_with_the_standard_library_alone(tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, str(SOURCE), "explain"]
    done = subprocess.run(
        [*command, str(tmp_path / "bundle"), "a-db", "b-db"],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "denied: stopped by wall.conflict, ste.disjoint" in done.stdout


@pytest.mark.parametrize(("a", "b", "fix"), [
    ("disk:/dev/a", "a-db", "a resource stands in the second place"),
    ("a-db", "usb:1", "a resource is KIND:NAME (disk, network, "),
])
def test_a_resource_in_the_wrong_place_or_of_no_kind_is_told_apart(
    a: str, b: str, fix: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", policy, a, b) == 2
    assert fix in capsys.readouterr().err

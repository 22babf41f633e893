"""`shype vtpm` and `shype attest chain`, as they are typed."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.cli import attest, host, vtpm
from shype.host.launch import launch
from shype.host.stop import stop
from shype.host.vtpm import relay, swtpm
from shype.host.vtpm.places import TpmPlaces
from shype.policy.names import LabelName
from tests.attest.logs import LAUNCH
from tests.attest.paper_tpm import PaperTpm
from tests.attest.test_chain import WITH_TPMS, given, quoted
from tests.attest.world import VERIFIER, Machine, World, paper_machine
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.builders import config
from tests.host.vtpm.desks import POLICY, UUID, all_ended, of, required


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a name as short as sockets need it."""
    with tempfile.TemporaryDirectory(prefix="vtpm-") as name, all_ended(Path(name)):
        yield Path(name)


@pytest.fixture
def shell(home: Path) -> Shell:
    """Commands on a host whose VM desk has had a TPM, and does not run any more."""
    required()
    agent = signed_host(home, POLICY)
    launch(agent, config(home, "desk", of(UUID)))
    stop(agent, "desk", force=True, timeout=0)
    return lambda *words: run_words((vtpm.add,), (*words, *options(home, agent)))


def test_tpms_are_listed_and_removed(shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("vtpm", "list", "--json") == 0
    one, = json.loads(capsys.readouterr().out)["tpms"]
    assert (one["uuid"], one["vm"], one["label"], one["state"]) == (UUID, "desk", "desk", "kept")
    assert shell("vtpm", "list") == 0
    text = capsys.readouterr().out
    assert one["ek"] in text
    assert "kept" in text
    assert shell("vtpm", "remove", "toy") == 2
    assert "[vtpm.unknown]" in capsys.readouterr().err
    assert shell("vtpm", "remove", "desk", "--json", "--yes") == 0
    assert json.loads(capsys.readouterr().out)["removed"] == UUID
    assert shell("vtpm", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tpms"] == []


def test_keys_are_destroyed_only_by_whoever_says_so(
    shell: Shell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answers(answer: str) -> None:
        def reply(prompt: str) -> str:
            asked.append(prompt)
            return answer
        monkeypatch.setattr("builtins.input", reply)

    monkeypatch.setattr("sys.stdin", io.StringIO())
    for more in ((), ("--json",)):
        assert shell("vtpm", "remove", "desk", *more) == 2
        said = capsys.readouterr()
        assert "vtpm.unconfirmed" in said.err + said.out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers("")
    assert shell("vtpm", "remove", "desk") == 1
    assert shell("vtpm", "list", "--json") == 0
    assert asked == ["destroy the TPM of desk, with its keys? [y/N] "]
    answers("y")
    assert shell("vtpm", "remove", "desk") == 0
    capsys.readouterr()
    assert shell("vtpm", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tpms"] == []


def test_recover_ends_the_tpm_that_a_killed_launch_left(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    required()
    agent = signed_host(home, POLICY)
    places = TpmPlaces(agent.state)
    swtpm.start(places, places.new("desk", UUID, LabelName("desk"))).leave()
    owner = places.get(UUID)
    assert owner is not None
    deadline = time.monotonic() + 30
    while swtpm.holder(places, owner) is None:
        assert time.monotonic() < deadline
    assert run_words((host.add,), ("recover", *options(home, agent))) == 0
    assert swtpm.holder(places, owner) is None


def test_a_damaged_tpm_is_told_with_exit_code_1(
    shell: Shell, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shell("vtpm", "list", "--json") == 0
    capsys.readouterr()
    (home / f"state/vtpm/{UUID}.json").write_text("{")
    assert shell("vtpm", "list") == 1
    said = capsys.readouterr()
    assert "damaged" in said.out
    assert "[vtpm.damaged]" in said.err


def test_a_vm_without_a_tpm_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(relay.find_console, "__defaults__", (0.0,))
    assert run_words((vtpm.add,), ("vtpm", "relay")) == 3
    assert "[vtpm.no-console]" in capsys.readouterr().err


def test_a_chain_holds_or_says_where_it_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path / "verifier", WITH_TPMS)
    world.clock.now = time.time()
    (world.place / "verifier.key").write_bytes(VERIFIER.pem())
    (world.place / "verifier.key").chmod(0o600)
    guest = Machine(world, "desk", PaperTpm())
    guest.enrol()
    host = paper_machine(world)
    host.measure(LAUNCH)
    host.measure(given("desk"))

    def chain(*more: str) -> tuple[int, str]:
        (tmp_path / "guest").write_bytes(quoted(guest))
        (tmp_path / "host").write_bytes(host.evidence())
        code = run_words((attest.add,), (
            "attest", "chain", "--guest", tmp_path / "guest", "--host", tmp_path / "host",
            "--state", world.place, *more))
        return code, capsys.readouterr().out

    code, said = chain("--label", "a-desk")
    assert code == 0
    for word in ("yes", "a-desk", "xen1", "banks 1.0"):
        assert word in said
    code, said = chain("--label", "b-desk", "--json")
    assert code == 1
    value = json.loads(said)
    assert (value["holds"], value["label"]) == (False, "a-desk")
    assert [(one["link"], one["id"]) for one in value["broken"]] == [("tpm", "chain.label")]
    code, said = chain("--label", "b-desk")
    assert code == 1
    assert "[chain.label]" in said

"""The scenario: what it expects comes from the policy, and a wrong outcome is never hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from shype.demo.model_stage import ModelStage, model_bundle
from shype.demo.scenario import STRAY, Line, Outcome, Pair, Scenario
from shype.lab.probe import SHARING, Way
from shype.policy.loader import load
from shype.policy.model import Policy
from shype.policy.names import LabelName, VmId

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def banks() -> Policy:
    return load(EXAMPLES / "banks.yaml").policy


class Permissive:
    """A host that enforces nothing: every attempt succeeds."""

    def launch(self, vm: VmId) -> Outcome:
        return Outcome("permitted", "nobody", "")

    def launch_behind(self, tries: Sequence[tuple[VmId, LabelName | None]]) -> list[Outcome]:
        return [Outcome("permitted", "nobody", "") for _ in tries]

    def probe(self, vms: Sequence[VmId]) -> Mapping[Pair, Mapping[Way, Outcome]]:
        free = {way: Outcome("permitted", "nobody", "") for way in SHARING}
        return {(a, b): free for a in vms for b in vms if a != b}

    def stop(self, vm: VmId) -> None:
        return


class Broken(Permissive):
    """A host on which nothing works: that must not pass as a refusal."""

    def launch(self, vm: VmId) -> Outcome:
        return Outcome("error", "agent", "xl failed")


def play(policy: Policy, tmp_path: Path) -> list[Line]:
    bundle = model_bundle(policy, tmp_path / "bundle")
    return list(Scenario(policy, ModelStage(bundle, tmp_path)).play())


def test_the_model_does_what_the_policy_says(banks: Policy, tmp_path: Path) -> None:
    lines = play(banks, tmp_path)
    assert [line for line in lines if not line.as_expected] == []
    rules = [line.rule for line in lines]
    for rule in ("wall.free", "wall.conflict", "label.none", "create.unlabelled",
                 "create.no-window", "ste.shared", "ste.disjoint"):
        assert rule in rules, f"the demonstration never shows {rule}"


def test_both_sides_of_the_wall_run_in_the_end(banks: Policy, tmp_path: Path) -> None:
    lines = play(banks, tmp_path)
    started = [line.attempt for line in lines
               if line.attempt.startswith("start") and line.outcome.result == "permitted"]
    assert started == [
        "start a-db as bank-a-db", "start a-desk as bank-a-desk", "start market as market-data",
        "start b-db as bank-b-db", "start b-desk as bank-b-desk",
    ]


def test_every_refusal_names_a_line_of_the_policy(banks: Policy, tmp_path: Path) -> None:
    for line in play(banks, tmp_path):
        assert "banks.yaml:" in line.outcome.explanation, line


def test_a_host_that_enforces_nothing_is_found_out(banks: Policy) -> None:
    lines = list(Scenario(banks, Permissive()).play())
    wrong = {line.rule for line in lines if not line.as_expected}
    assert wrong >= {"wall.conflict", "label.none", "create.unlabelled", "ste.disjoint"}


def test_an_error_is_never_a_refusal(banks: Policy) -> None:
    lines = list(Scenario(banks, Broken()).play())
    stray = next(line for line in lines if STRAY in line.attempt)
    assert stray.expected == "denied"
    assert not stray.as_expected


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_can_be_demonstrated(example: Path, tmp_path: Path) -> None:
    policy = load(example).policy
    assert [line for line in play(policy, tmp_path) if not line.as_expected] == []

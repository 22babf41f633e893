"""The benchmarks of flows run, and SETools agrees. Nothing here looks at a time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench import analysis, infoflow
from bench.shapes import FLOW_SHAPES


@pytest.mark.skipif(shutil.which("secilc") is None or not Path(
    "/usr/lib/python3/dist-packages/setools").exists(), reason="needs secilc and SETools")
def test_setools_agrees() -> None:
    race = infoflow.race(labels=120, questions=40)
    assert race.types == 120
    assert 0 < race.reachable < race.types ** 2


def test_another_answer_and_a_question_that_tells_nothing() -> None:
    asked = [("a", "b"), ("b", "a")]
    infoflow.compare(asked, [True, False], [True, False])
    with pytest.raises(infoflow.Disagreement, match="a -> b: shype True, SETools False"):
        infoflow.compare(asked, [True, False], [False, False])
    with pytest.raises(ValueError, match="alike"):
        infoflow.compare(asked, [True, True], [True, True])


@pytest.mark.parametrize("shape", FLOW_SHAPES)
def test_every_shape_is_measured(shape: str) -> None:
    found = analysis.growth(shape, 60, 2)
    assert (found.labels, found.vms) == (60, 120)
    assert found.connected > 0
    assert found.megabytes > 10

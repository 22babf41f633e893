"""`shype network`, on the model, which has no bridges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shype.cli import network
from tests.cli.on_model import options, run, signed_host


@pytest.mark.parametrize(("way", "said"), [
    ("show", {"refused": []}), ("check", {"faults": []}), ("load", {"changed": True}),
])
def test_every_answer_about_a_model_is_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], way: str, said: dict[str, object]
) -> None:
    given = options(tmp_path, signed_host(tmp_path))
    assert run((network.add,), ("network", way, *given, "--json")) == 0
    value = json.loads(capsys.readouterr().out)
    assert value == {
        "driver": "model", "ports": [], "uplinks": [], "pairs": [], "to_dom0": [],
        "from_dom0": [], **said}

"""The benchmark of decisions runs, and all engines agree. Nothing here looks at a time."""

from __future__ import annotations

import json
from functools import partial

import pytest

from bench import decide, peers
from bench.shapes import SHAPES

MISSING = [peer.name for peer in peers.PEERS if peers.version(peer.name) is None]


@pytest.mark.skipif(bool(MISSING), reason=f"not installed (shype[bench]): {', '.join(MISSING)}")
def test_all_engines_agree() -> None:
    speeds = decide.against_peers(labels=200, count=400, runs=1)
    assert {speed.engine for speed in speeds} == {"shype", "cedarpy", "casbin", "regopy"}


def test_a_wrong_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Yes(peers.Casbin):
        """Permits everything."""

        def __init__(self, facts: peers.Facts) -> None: ...

        def ask(self, prepared: object) -> list[bool]:
            return [True] * 40

    monkeypatch.setattr(decide, "PEERS", (Yes,))
    monkeypatch.setattr(decide, "version", lambda name: "0")
    with pytest.raises(decide.Disagreement, match="casbin answers"):
        decide.against_peers(labels=50, count=40, runs=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_has_as_many_labels_as_asked_for(shape: str) -> None:
    for labels in (20, 205):
        found = decide.growth(shape, labels, runs=1, count=50)
        assert len(SHAPES[shape](labels).guests) == found.labels == labels
        assert found.classes <= labels + 1


def test_tables_and_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decide, "PEERS", ())
    monkeypatch.setattr(decide, "PEER_LABELS", 100)
    monkeypatch.setattr(decide, "growth", partial(decide.growth, count=500))
    some = ["--sizes", "30", "--shapes", "tenants", "--questions", "300", "--runs", "1"]
    assert decide.main(some) == 0
    assert "decide_many" in capsys.readouterr().out
    assert decide.main([*some, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["growth"][0]["labels"] == 30

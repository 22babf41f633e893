"""The matrix that the benchmark loads has all pairs of the policy's labels."""

from __future__ import annotations

from pathlib import Path

from bench.network import mixed
from shype.host.network.ruleset import ruleset


def test_all_pairs_are_in_the_matrix(tmp_path: Path) -> None:
    made = mixed(tmp_path, 40, [1, 2])
    assert [port.vif.name for port in made.ports] == ["vif1.0", "vif2.0"]
    assert all(port.number for port in made.ports)
    assert len(made.classes) == 40
    assert len(made.pairs) == 40 * 10  # teams of ten
    assert ruleset(made).count("goto pass") == 400

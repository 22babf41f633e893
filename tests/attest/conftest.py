"""A verifier, and a host that it trusts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attest.world import Machine, World, paper_machine


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "verifier")


@pytest.fixture
def host(world: World) -> Machine:
    return paper_machine(world)

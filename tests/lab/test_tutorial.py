"""The tutorial is followed to its end, the lab included."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.lab import builder
from tests.test_tutorial import TUTORIAL
from tests.walkthrough import follow

pytestmark = pytest.mark.lab


def test_the_whole_tutorial(lab_built: builder.Built, tmp_path: Path) -> None:
    assert follow(TUTORIAL, tmp_path, lab=True) >= 20

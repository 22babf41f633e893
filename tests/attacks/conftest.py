"""What every area's attacks use."""

from __future__ import annotations

import pytest

from tests.attacks.attack import Mode
from tests.lab.conftest import lab_built

__all__ = ["lab_built", "mode"]


@pytest.fixture(scope="class")
def mode(request: pytest.FixtureRequest) -> Mode:
    """The mode of the class of tests; `default` for those beside."""
    found = getattr(request.cls, "MODE", Mode.DEFAULT)
    assert isinstance(found, Mode)
    return found

"""What all tests of the agent share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def disks_that_flush_at_once() -> Iterator[None]:
    """No test here can lose power, and waiting for disks was a third of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda handle: None)
        yield

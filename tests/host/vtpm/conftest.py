from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.host.agent import Agent
from tests.host.vtpm.desks import desks


@pytest.fixture
def desk() -> Iterator[tuple[Path, Agent]]:
    """A directory, and the agent of a host whose VMs have TPMs."""
    with desks() as found:
        yield found

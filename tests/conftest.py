"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from shype.compile.flask import reader
from tests.attacks import table
from tests.attest.software_tpm import SoftwareTpm, software_tpm
from tests.warm_setools import WarmSetools

# `make test` must give the same answer for the same code: it draws the same examples each time.
# `make test-fast` draws new ones, and so finds more. How long it takes to draw them says nothing
# on a machine that others use too.
settings.register_profile(
    "same", derandomize=True, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="session", autouse=True)
def warm_setools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmSetools]:
    """Policies are read back by one interpreter that has imported SETools; it starts if needed."""
    warm = WarmSetools(reader.INTERPRETER, reader._SCRIPT, tmp_path_factory.mktemp("setools"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "child", warm)
        yield warm
    warm.close()


@pytest.fixture(scope="session")
def shared_tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftwareTpm]:
    """A TPM for all tests of a worker."""
    with software_tpm(tmp_path_factory.mktemp("swtpm")) as tpm:
        yield tpm


@pytest.fixture
def own_tpm(tmp_path: Path) -> Iterator[SoftwareTpm]:
    """A TPM of this test's own, fresh from the factory."""
    with software_tpm(tmp_path / "own-tpm") as tpm:
        yield tpm


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One table of all attacks that were tried, whichever worker tried them."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    for line in table.lines(reports):
        terminalreporter.write_line(line)

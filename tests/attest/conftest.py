"""Software TPMs: one for all tests that leave its registers to others, or one for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attest.software_tpm import SoftwareTpm, software_tpm


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

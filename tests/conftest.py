"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shype.compile.flask import reader
from tests.warm_setools import WarmSetools


@pytest.fixture(scope="session", autouse=True)
def warm_setools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmSetools]:
    """Policies are read back by one interpreter that has imported SETools; it starts if needed."""
    warm = WarmSetools(reader.INTERPRETER, reader._SCRIPT, tmp_path_factory.mktemp("setools"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "child", warm)
        yield warm
    warm.close()

"""Fixtures of the tests that boot a real Xen host.

If the lab cannot be had, these tests fail: a security claim that was not
tried must not look like one that holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shype.base.errors import ShypeError
from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.host import Lab
from shype.policy.loader import load

EXAMPLES = Path(__file__).parents[2] / "examples"
#: `Lab.up` with the test's clean-up.
Factory = Callable[..., Lab]


@pytest.fixture(scope="session")
def lab_built() -> builder.Built:
    """The lab, built if need be."""
    try:
        return builder.build()
    except ShypeError as error:
        pytest.fail(f"the lab cannot be built, so nothing about enforcement was tested: {error}",
                    pytrace=False)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled examples/banks.yaml."""
    out = tmp_path_factory.mktemp("bundle") / "banks"
    build(load(EXAMPLES / "banks.yaml").policy, target="xen-4.17", out=out)
    return out


@pytest.fixture
def fresh_lab(lab_built: builder.Built) -> Iterator[Factory]:
    """Starts labs (arguments of `Lab.up`) that end with the test."""
    with contextlib.ExitStack() as labs:
        def up(**arguments: Any) -> Lab:
            return labs.enter_context(Lab.up(**arguments))

        yield up


@pytest.fixture(scope="module")
def banks_lab(lab_built: builder.Built, bundle: Path) -> Iterator[Lab]:
    """A lab that enforces examples/banks.yaml, shared by the tests of one file."""
    with Lab.up(bundle=bundle) as lab:
        yield lab

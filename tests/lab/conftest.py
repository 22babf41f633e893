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
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.manifest import read_directory
from shype.policy.signed import seal

EXAMPLES = Path(__file__).parents[2] / "examples"
#: For guests that need not get anywhere: 1 % of a processor. dom0 has the same, only, emulated
#: processor, and a guest that boots takes half of it.
STILL = "cap = 1"
#: `Lab.up` with the test's clean-up.
Factory = Callable[..., Lab]
#: The files that take longest. Begun first, they do not end alone on one of two cores. The two
#: about networks are far apart: the second goes on from what the first has saved; so are the three
#: with hosts that booted measured.
LONGEST = ("lab/test_attested", "lab/test_network", "lab/test_boot", "lab/test_measured",
           "lab/test_attest", "lab/test_vtpm", "attacks/test_vtpm", "attacks/test_resources",
           "lab/test_lifecycle",
           "lab/test_verify",
           "attacks/test_store", "lab/test_launch", "lab/test_faults",
           "attacks/test_network", "attacks/test_object_manager", "attacks/test_apply",
           "attacks/test_driver", "attacks/test_dom0", "attacks/test_manager",
           "attacks/test_lifecycle",
           "lab/test_apply",
           "lab/test_locked", "lab/test_loaded", "lab/test_demo", "lab/test_store",
           "lab/test_tutorial", "attacks/test_boot")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    def rank(item: pytest.Item) -> int:
        name = f"{item.path.parent.name}/{item.path.stem}"
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=rank)


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
    with Lab.up(bundle=bundle, loaded=True) as lab:
        yield lab


@pytest.fixture
def empty_lab(banks_lab: Lab) -> Iterator[Lab]:
    """The same, with `STILL` VMs to start in /etc/xen/vms, and no guests before and after."""
    for vm in ("a-db", "b-db", "stray"):
        banks_lab.put(f"/etc/xen/vms/{vm}.cfg", config(vm, type="pv", extra=STILL))
    yield banks_lab
    for vm in guests(banks_lab):
        banks_lab.run(["xl", "destroy", vm])
    assert guests(banks_lab) == {}
    assert not boolean(banks_lab, "win_en")
    assert banks_lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"


def sealed_for(lab: Lab, unpacked: Path) -> bytes:
    """The file of an unpacked bundle, signed with the key that the lab's dom0 trusts."""
    key = PrivateKey.from_pem(lab.key.read_bytes(), str(lab.key))
    return seal(read_directory(unpacked), [key])


def guests(lab: Lab) -> dict[str, str]:
    """The guests and their security contexts, as xl lists them."""
    rows = (line.split() for line in lab.run(["xl", "list", "-Z"]).out.splitlines()[1:])
    return {row[0]: row[-1] for row in rows if row[1] != "0"}


def boolean(lab: Lab, name: str) -> bool:
    """A boolean of the hypervisor's policy, asked without shype."""
    return "1" in lab.run(["flask-get-bool", name]).out.split(":")[1]

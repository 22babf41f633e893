"""A boot by UEFI is measured, and what it measures is what was predicted from the files alone.

Every boot here is a real one: OVMF, GRUB with its module tpm, Xen, dom0, and swtpm as the TPM.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.attest import boot_reference
from shype.attest.boot import FIRMWARE, Kind, Machine, found
from shype.attest.boot_reference import BootReference
from shype.attest.grub import image
from shype.cli.main import main
from shype.host.install import grubenv
from shype.lab import builder
from shype.lab.grubhost import GrubHost
from tests.lab.boot_host import attempt, commit, env
from tests.lab.measured_hosts import booted
from tests.lab.pcrs import pcrs

pytestmark = pytest.mark.lab

DEVICE = "hd0,msdos1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("measured")


@pytest.fixture(scope="module")
def host(lab_built: builder.Built, place: Path) -> Iterator[GrubHost]:
    """Installed with its first policy, and powered on."""
    with booted(place) as (machine,):
        yield machine


@pytest.fixture(scope="module")
def reference(host: GrubHost, place: Path) -> BootReference:
    """Of the first policy; computed from what was installed, which nothing has booted."""
    assert main(["attest", "reference", "--bundle", str(place / "first.shype"), "--keys",
                 str(place / "keys"), "--boot-dir", str(place / "root/boot"), "--efi",
                 str(place / "grub.efi"), "--device", DEVICE, "-o", str(place / "reference")]) == 0
    found, = boot_reference.loads((place / "reference").read_bytes(), "reference")
    return found


def machine(place: Path, boot: Path) -> Machine:
    program = image.read((place / "grub.efi").read_bytes(), "grub.efi")
    return Machine(boot, (program,), DEVICE)


def test_the_first_boot_is_the_predicted_trial(host: GrubHost, reference: BootReference) -> None:
    measured = pcrs(host.lab)
    boot = reference.matching(measured)
    assert boot is not None, (reference.wrong(measured), measured)
    assert (boot.kind, boot.other) == (Kind.TRIAL, None)
    assert all(any(measured[pcr]) for pcr in FIRMWARE)
    assert commit(host)[0] == 0


def test_the_good_boot_is_another_and_predicted_too(
    host: GrubHost, reference: BootReference, place: Path
) -> None:
    firmware = {pcr: value for pcr, value in pcrs(host.lab).items() if pcr in FIRMWARE}
    host.reboot()
    host.wait()
    measured = pcrs(host.lab)
    boot = reference.matching(measured)
    assert boot is not None
    assert boot.kind is Kind.GOOD
    assert {pcr: measured[pcr] for pcr in FIRMWARE} == firmware
    # A way is found by all its registers, and only by them.
    assert reference.matching({**measured, 9: bytes(32)}) is None
    assert reference.wrong({**measured, 9: bytes(32)}) == (9,)


def test_another_policy_is_found_out_by_its_module(
    host: GrubHost, reference: BootReference, place: Path
) -> None:
    good = env(host)[grubenv.GOOD]
    name = attempt(host, "/root/second.shype")
    module = host.lab.get(f"/boot/shype/{name}.bin")
    host.reboot()
    host.wait()
    measured = pcrs(host.lab)
    assert reference.matching(measured) is None
    assert reference.wrong(measured) == (8, 9)  # 4 is as it should be: it is the same GRUB
    ways = machine(place, place / "root/boot").ways(name, module, [good])
    way = found(ways, measured)
    assert way is not None
    assert (way.kind, way.other) == (Kind.TRIAL, good)
    told = reference.differences(way.events)
    assert f"PCR 9: /shype/{name}.bin" in told


def test_a_boot_after_a_trial_that_failed(
    host: GrubHost, reference: BootReference, place: Path
) -> None:
    good = env(host)[grubenv.GOOD]
    tried = env(host)[grubenv.TRIED]
    host.reboot()  # without a commit: the trial is over
    host.wait()
    module = host.lab.get(f"/boot/shype/{good}.bin")
    way = found(machine(place, place / "root/boot").ways(good, module, [tried]), pcrs(host.lab))
    assert way is not None
    assert (way.kind, way.other) == (Kind.FALLEN_BACK, tried)

"""The how-to is followed, on a host that has a software TPM and has booted as it should."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shype.attest import agent_code, boot_reference
from shype.attest.boot import Kind
from shype.attest.boot_reference import Boot, BootReference
from shype.attest.measuring import TpmMeasurer
from shype.attest.tpm import TCTI_VARIABLE
from tests.attest.logs import chain
from tests.attest.software_tpm import SoftwareTpm
from tests.attest.world import BOOTED, FIRMWARE
from tests.host.builders import bundle
from tests.signing import AUTHOR, keys, sealed
from tests.walkthrough import follow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "attestation.md"


def test_the_how_to_is_followed(
    tmp_path: Path, own_tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TCTI_VARIABLE, own_tpm.name)
    made = bundle(tmp_path).manifest
    (tmp_path / "banks.shype").write_bytes(sealed(tmp_path / "bundle", AUTHOR))
    keys(tmp_path / "keys")
    (tmp_path / "author.key").write_bytes(AUTHOR.pem())
    (tmp_path / "author.key").chmod(0o600)
    (tmp_path / "author.pub").write_bytes(AUTHOR.public.pem())
    shutil.copytree(agent_code.RUNNING, tmp_path / "shype",
                    ignore=shutil.ignore_patterns("__pycache__"))
    boot = Boot(Kind.GOOD, None, {pcr: chain(digests).hex() for pcr, digests in BOOTED.items()})
    (tmp_path / "banks.boots").write_bytes(boot_reference.dumps([BootReference(
        "banks", "1.0", made.digest, made.files["policy.bin"], (boot,), ())]))
    with own_tpm.open() as chip:
        for measured in (FIRMWARE, BOOTED):
            for pcr, digests in measured.items():
                for digest in digests:
                    chip.pcr_extend(pcr, digest)
    TpmMeasurer(tmp_path / "host" / "attest" / "run").observe(made, "enforcing")
    assert follow(PAGE, tmp_path, lab=False) == 17

"""The how-to is followed: on a host that has a software TPM and has booted as it should, and by a
reader who has no host at all, as far as the page says that it goes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shype.attest import agent_code, boot_reference
from shype.attest.boot import Kind
from shype.attest.boot_reference import Boot, BootReference
from shype.attest.tpm import TCTI_VARIABLE
from tests.attest.logs import chain
from tests.attest.software_tpm import SoftwareTpm, two_free_ports
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
    shutil.copytree(agent_code.RUNNING, tmp_path / "src/shype",
                    ignore=shutil.ignore_patterns("__pycache__"))
    boot = Boot(Kind.GOOD, None, {pcr: chain(digests).hex() for pcr, digests in BOOTED.items()})
    (tmp_path / "banks.boots").write_bytes(boot_reference.dumps([BootReference(
        "banks", "1.0", made.digest, made.files["policy.bin"], (boot,), ())]))
    with own_tpm.open() as chip:
        for measured in (FIRMWARE, BOOTED):
            for pcr, digests in measured.items():
                for digest in digests:
                    chip.pcr_extend(pcr, digest)
    assert follow(PAGE, tmp_path, lab=False) == 18


def _prepared(page: str) -> str:
    """What a reader without a host types first: the indented lines of that section."""
    section = page.split("## Without such a host\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"^ {4}(\S.*)$", section, re.MULTILINE))


def test_the_how_to_without_a_host(
    tmp_path: Path, own_tpm: SoftwareTpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``own_tpm`` only asks for swtpm to be installed: the page's own command starts another."""
    port = two_free_ports()
    script = _prepared(PAGE.read_text()).replace("2321", str(port)).replace("2322", str(port + 1))
    assert f"dir=$PWD/tpm --server type=tcp,port={port}" in script
    (tmp_path / "examples").symlink_to(PAGE.parents[2] / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        done = subprocess.run(
            ["bash", "-ec", f"{script}\necho $TPM2TOOLS_TCTI"], cwd=tmp_path, text=True,
            env={**os.environ, "PATH": path}, capture_output=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        monkeypatch.setenv(TCTI_VARIABLE, done.stdout.splitlines()[-1])
        assert follow(PAGE, tmp_path, lab=False, until="shype attest sign") == 11
        assert (tmp_path / "server.firmware").exists()
    finally:
        pid = tmp_path / "tpm.pid"
        if pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)

"""`shype attest reference` and `shype attest boot`: good boots, and what was booted instead."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.attest import boot_reference, evidence
from shype.attest.boot import Machine
from shype.attest.grub import image
from shype.attest.tpm import Quote
from shype.cli import attest
from shype.host.install import trial
from shype.lab import grub
from tests.attest.boot_tree import DEVICE, SCRIPT, tree
from tests.cli.on_model import run, signed_host
from tests.host.builders import BANKS, bundle
from tests.signing import AUTHOR, keys, sealed

Say = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module", name="program")
def program_(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    work = tmp_path_factory.mktemp("program")
    (work / "early.cfg").write_text(SCRIPT)
    subprocess.run(["grub-mkimage", "-O", "x86_64-efi", "-o", work / "x.efi", "-p", "/grub", "-c",
                    work / "early.cfg", *grub.MODULES, "tpm"], check=True)
    return (work / "x.efi").read_bytes()


@pytest.fixture(name="say")
def say_(
    tmp_path: Path, program: bytes, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Say:
    """A command below `attest`, in a directory with a bundle, another, and copies of /boot."""
    monkeypatch.chdir(tmp_path)
    signed_host(tmp_path)
    keys(tmp_path / "keys", AUTHOR)
    (tmp_path / "next").mkdir()
    bundle(tmp_path / "next", BANKS.replace('"1.0"', '"1.1"'))
    (tmp_path / "next.shype").write_bytes(sealed(tmp_path / "next/bundle", AUTHOR))
    (tmp_path / "grub.efi").write_bytes(program)
    tree(tmp_path / "good")
    tree(tmp_path / "other", kernel_args="init=/bin/sh")

    def typed(*words: str) -> tuple[int, str]:
        code = run([attest.add], ["attest", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return typed


def source(boot: str, *bundles: str) -> list[str]:
    named = [word for name in bundles for word in ("--bundle", name)]
    return [*named, "--keys", "keys", "--boot-dir", f"{boot}/boot", "--efi", "grub.efi",
            "--device", DEVICE]


def shown(place: Path, boot: str, file: str, **change: bytes) -> str:
    """Evidence of a host that has booted a bundle as the good one, with that /boot."""
    _, policy, module = trial.read_trusted(place / file, place / "keys")
    program = image.read((place / "grub.efi").read_bytes(), "grub.efi")
    host = Machine(place / boot / "boot", (program,), DEVICE)
    way = host.ways(trial.policy_id(policy), module)[0]
    pcrs = {**way.pcrs, **{int(name[3:]): value for name, value in change.items()}}
    (place / "evidence.json").write_bytes(evidence.dumps(evidence.Evidence(
        "ab" * 32, bytes(32), Quote(b"quote", b"signature"), pcrs, b"")))
    return "evidence.json"


def test_a_good_boot_is_named(say: Say, tmp_path: Path) -> None:
    code, said = say("reference", *source("good", "policy.shype"), "-o", "boots")
    assert code == 0, said
    assert "written: boots" in said
    known, = boot_reference.loads((tmp_path / "boots").read_bytes(), "boots")
    assert (known.policy, known.version) == ("banks", "1.0")
    code, said = say("boot", "--boots", "boots", "--evidence", shown(tmp_path, "good",
                                                                   "policy.shype"))
    assert (code, said) == (0, "banks 1.0, good\n")


def test_what_was_booted_instead_is_named(say: Say, tmp_path: Path) -> None:
    say("reference", *source("good", "policy.shype"), "-o", "boots")
    said = shown(tmp_path, "other", "policy.shype")
    code, text = say("boot", "--boots", "boots", "--evidence", said, "--json")
    assert (code, json.loads(text)["wrong"]) == (1, [8, 9])
    code, text = say("boot", "--boots", "boots", "--evidence", said,
                     *source("other", "policy.shype"))
    assert code == 1
    assert "module_cmdline: placeholder init=/bin/sh" in text
    assert "custom.cfg" in text
    assert "xen-flask\n" not in text.replace("multiboot2 /xen-flask", "")


def test_another_policy_is_named(say: Say, tmp_path: Path) -> None:
    say("reference", *source("good", "policy.shype"), "-o", "boots")
    said = shown(tmp_path, "good", "next.shype")
    code, text = say("boot", "--boots", "boots", "--evidence", said,
                     *source("good", "policy.shype", "next.shype"))
    assert code == 1
    assert "it is banks 1.1: policy " in text


def test_what_nobody_knows_is_said(say: Say, tmp_path: Path) -> None:
    say("reference", *source("good", "policy.shype"), "-o", "boots")
    said = shown(tmp_path, "good", "policy.shype", pcr4=bytes(32))
    code, text = say("boot", "--boots", "boots", "--evidence", said,
                     *source("good", "policy.shype"))
    assert code == 1
    assert text == "no known boot: PCR 4\nnor is it what that copy of /boot says\n"
    code, text = say("boot", "--boots", "boots", "--evidence", said, "--boot-dir", "good/boot")
    assert code == 2
    assert "reference.sources" in text

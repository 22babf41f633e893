"""A host that boots measured is enrolled, trusted, and found out when it is not what it was.

The host is a real boot by UEFI with a TPM; the verifier is on the test's side, and all that goes
between the two are files. Everything is done with the commands that an administrator has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shype.attest import event_log, host_events
from shype.attest.host_events import PCR, HostEvent, Kind
from shype.base import canonical
from shype.cli.main import main
from shype.lab import builder, grub, guests, payload
from shype.lab.grubhost import GrubHost
from shype.policy.ed25519 import PrivateKey
from tests.lab.boot_host import MARKET, commit, installed
from tests.lab.conftest import STILL
from tests.lab.pcrs import pcrs

pytestmark = pytest.mark.lab

UUID = "5e1f0000-0000-4000-8000-00000000000a"
LOG = "/run/shype/attest/event-log"
STRANGER = """
from shype.attest.tpm import Tpm
with Tpm() as tpm:
    tpm.pcr_extend(13, bytes(32))
"""


@dataclass
class Verifier:
    """The verifier's machine, and the author's."""

    place: Path
    host: GrubHost

    def do(self, *words: str) -> int:
        """A command here."""
        return main(["attest", *words, "--state", str(self.place / "verifier")])

    def there(self, *words: str) -> None:
        """A command in dom0."""
        done = self.host.lab.run(["shype", "attest", *words], timeout=200)
        assert done.code == 0, done.out + done.err

    def fetch(self, name: str) -> Path:
        (self.place / name).write_bytes(self.host.lab.get(f"/run/{name}"))
        return self.place / name

    def give(self, name: str) -> str:
        self.host.lab.put(f"/run/{name}", (self.place / name).read_bytes())
        return f"/run/{name}"

    def evidence(self, *words: str) -> Path:
        """What the host answers to a new challenge."""
        assert self.do("challenge", "xen1", "-o", str(self.place / "ask"), *words) == 0
        self.there("quote", "--challenge", self.give("ask"), "-o", "/run/evidence")
        return self.fetch("evidence")

    def verdict(self, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        """What the verifier makes of the host now."""
        evidence = self.evidence()
        capsys.readouterr()
        code = self.do("verify", str(evidence), "--json")
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        assert code == (0 if found["verdict"] == "trusted" else 1)
        return found

    def events(self) -> list[HostEvent]:
        """What the host's log says; its replay is what the TPM has."""
        log = event_log.loads(self.host.lab.get(LOG))
        assert event_log.replay(log)[PCR] == pcrs(self.host.lab)[PCR]
        return [found for entry in log if (found := host_events.from_event(entry)) is not None]


def ids(found: dict[str, Any]) -> list[str]:
    return [reason["id"] for reason in found["reasons"]]


@pytest.fixture(scope="module")
def verifier(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Verifier]:
    place = tmp_path_factory.mktemp("attest")
    with installed(place, measured=True) as host:
        host.wait()
        assert commit(host)[0] == 0
        yield Verifier(place, host)


def test_a_host_is_enrolled_and_trusted(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    place, host = verifier.place, verifier.host
    author = PrivateKey.generate()
    (place / "author.key").write_bytes(author.pem())
    (place / "author.key").chmod(0o600)
    (place / "author.pub").write_bytes(author.public.pem())
    assert verifier.do("init", "--signer", str(place / "author.pub")) == 0
    ek = json.loads(host.lab.run(["shype", "attest", "ek", "--json"], timeout=200).out)["id"]
    assert verifier.do("admit", "xen1", "--reference", "xen-hosts", "--ek", ek) == 0
    verifier.there("enrol", "xen1", "-o", "/run/request")
    assert verifier.do("enrolment", str(verifier.fetch("request")), "-o",
                       str(place / "challenge")) == 0
    verifier.there("enrol", "xen1", "--challenge", verifier.give("challenge"), "-o", "/run/answer")
    assert verifier.do("enrolment", str(verifier.fetch("answer"))) == 0
    # From now on the agent measures. What it had not measured yet, it does first.
    assert verifier.do("observe", str(verifier.evidence("--observe")), "-o",
                       str(place / "firmware")) == 0
    reference(verifier)
    found = verifier.verdict(capsys)
    assert (found["verdict"], found["reasons"]) == ("trusted", [])
    assert [event.kind for event in verifier.events()] == [
        Kind.AGENT, Kind.POLICY, Kind.ENFORCEMENT]


def reference(verifier: Verifier) -> None:
    """Compute, sign and publish what hosts with the first policy shall show."""
    place = verifier.place
    (place / "grub.efi").write_bytes(grub.efi_program(place / "disk.img"))
    for name, data in payload.package():
        if "__pycache__" not in name:
            (place / "agent" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "agent" / name).write_bytes(data)
    assert main(["attest", "reference", "--bundle", str(place / "first.shype"), "--keys",
                 str(place / "keys"), "--boot-dir", str(place / "root/boot"), "--efi",
                 str(place / "grub.efi"), "--device", "hd0,msdos1", "-o", str(place / "boots")]
                ) == 0
    assert main(["attest", "sign", "xen-hosts", "--bundle", str(place / "first.shype"), "--boot",
                 str(place / "boots"), "--firmware", str(place / "firmware"), "--agent",
                 str(place / "agent/shype"), "--keys", str(place / "keys"), "--key",
                 str(place / "author.key"), "-o", str(place)]) == 0
    assert verifier.do("publish", str(place / "xen-hosts.ref")) == 0


def test_a_launch_is_in_the_log_with_what_it_boots(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    lab.put("/etc/xen/vms/a-db.cfg", guests.config("a-db", type="pv", extra=STILL))
    done = lab.run(["shype", "run", "/etc/xen/vms/a-db.cfg"], timeout=300)
    assert done.code == 0, done.out + done.err
    launched = verifier.events()[-1]
    digests = [line.split()[0] for line in
               lab.run(["sha256sum", "/guest/vmlinux", "/guest/initrd"]).out.splitlines()]
    cmdline = f"console=hvc0 quiet loglevel=1 {guests.QUICK_ARGS}"
    image = canonical.digest(canonical.dumps({
        "boot": [["RAM disk", digests[1]], ["kernel", digests[0]]], "disks": [],
        "cmdline": cmdline}))
    assert launched == HostEvent(Kind.LAUNCH, {"label": "bank-a-db", "image": image})
    assert verifier.verdict(capsys)["verdict"] == "trusted"
    assert lab.run(["shype", "stop", "--force", "a-db"], timeout=200).code == 0


def test_the_tpm_that_a_vm_gets_is_in_the_log_with_whose_it_is(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    lab.put("/etc/xen/vms/market.cfg", guests.config(
        "market", type="pv", extra=f'{STILL}\nuuid = "{UUID}"'))
    done = lab.run(["shype", "run", "/etc/xen/vms/market.cfg"], timeout=300)
    assert done.code == 0, done.out + done.err
    told, = json.loads(lab.run(["shype", "vtpm", "list", "--json"], timeout=200).out)["tpms"]
    launched, given = verifier.events()[-2:]
    assert (launched.kind, launched.values["label"]) == (Kind.LAUNCH, MARKET)
    assert given == HostEvent(Kind.TPM, {
        "vm": "market", "uuid": UUID, "label": MARKET, "ek": told["ek"]})
    assert verifier.verdict(capsys)["verdict"] == "trusted"
    assert lab.run(["shype", "stop", "--force", "market"], timeout=200).code == 0


def test_a_log_that_was_changed_is_found(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    log = lab.get(LOG)
    entries = event_log.loads(log)
    lab.put(LOG, event_log.dumps(entries[:-1]), 0o600)  # the launch is to be forgotten
    found = verifier.verdict(capsys)
    assert found["verdict"] == "failed"
    assert "log.register" in ids(found)
    status = lab.run(["shype", "ps"], timeout=200)
    assert status.code == 0
    lab.put(LOG, log, 0o600)
    assert verifier.verdict(capsys)["verdict"] == "trusted"


def test_whoever_else_measures_is_found(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    done = lab.run(["env", "PYTHONPATH=/opt/shype", "python3", "-c", STRANGER])
    assert done.code == 0, done.err
    found = verifier.verdict(capsys)
    assert found["verdict"] == "failed"
    assert "log.register" in ids(found)
    started = lab.run(["shype", "run", "/etc/xen/vms/a-db.cfg"], timeout=300)
    assert started.code == 0  # its label asks for no attestation
    assert lab.run(["shype", "stop", "--force", "a-db"], timeout=200).code == 0

"""A verifier on the test's side, and what it does with a host in a lab: all by commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shype.attest import event_log, host_events
from shype.attest.host_events import PCR, HostEvent
from shype.cli.main import main
from shype.lab import payload
from shype.lab.grubhost import GrubHost
from tests.lab.pcrs import pcrs

LOG = "/run/shype/attest/event-log"
#: A program in dom0 that is not the agent, and measures.
STRANGER = """
from shype.attest.tpm import Tpm
with Tpm() as tpm:
    tpm.pcr_extend(13, bytes(32))
"""


@dataclass
class Verifier:
    """The verifier's machine, and the author's; ``host`` is the one that it looks at."""

    place: Path
    host: GrubHost
    name: str = "xen1"

    def do(self, *words: str) -> int:
        """A command here."""
        return main(["attest", *words, "--state", str(self.place / "verifier")])

    def there(self, *words: str) -> None:
        """A command in dom0."""
        done = self.host.lab.run(["shype", "attest", *words], timeout=200)
        assert done.code == 0, done.out + done.err

    def admit(self) -> None:
        """Admit the host, by the identity that its TPM shows."""
        done = self.host.lab.run(["shype", "attest", "ek", "--json"], timeout=200)
        assert self.do("admit", self.name, "--reference", "xen-hosts", "--ek",
                       json.loads(done.out)["id"]) == 0

    def fetch(self, name: str) -> Path:
        """A file of dom0's."""
        (self.place / name).write_bytes(self.host.lab.get(f"/run/{name}"))
        return self.place / name

    def give(self, name: str) -> str:
        """A file to dom0; where it is there."""
        self.host.lab.put(f"/run/{name}", (self.place / name).read_bytes())
        return f"/run/{name}"

    def evidence(self, *words: str) -> Path:
        """What the host answers to a new challenge."""
        assert self.do("challenge", self.name, "-o", str(self.place / "ask"), *words) == 0
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
    """Those of a verdict's reasons."""
    return [reason["id"] for reason in found["reasons"]]


def reference(verifier: Verifier) -> None:
    """Compute, sign and publish what hosts with the first policy shall show: with the firmware of
    this one."""
    place = verifier.place
    assert verifier.do("observe", str(verifier.evidence("--observe")), "-o",
                       str(place / "firmware")) == 0
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

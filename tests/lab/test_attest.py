"""A host that boots measured is enrolled, trusted, and found out when it is not what it was.

The host is a real boot by UEFI with a TPM, and a guest on it has one of its own; the verifier is on
the test's side, and all that goes between them are files. Everything is done with the commands that
an administrator has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shype.attest import event_log
from shype.attest.host_events import HostEvent, Kind
from shype.base import canonical
from shype.lab import builder, guests
from tests.lab.boot_host import commit
from tests.lab.conftest import STILL
from tests.lab.measured_hosts import booted
from tests.lab.tpm_guest import STATE, TPM, UUID, Guest, install
from tests.lab.verifying import LOG, STRANGER, Verifier, ids, reference

pytestmark = pytest.mark.lab
LABEL = "bank-a-desk"


@pytest.fixture(scope="module")
def verifier(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Verifier]:
    place = tmp_path_factory.mktemp("attest")
    with booted(place) as (host,):
        assert commit(host)[0] == 0
        yield Verifier(place, host)


def test_a_host_is_enrolled_and_trusted(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    place = verifier.place
    verifier.admit()
    verifier.there("enrol", "xen1", "-o", "/run/request")
    assert verifier.do("enrolment", str(verifier.fetch("request")), "-o",
                       str(place / "challenge")) == 0
    verifier.there("enrol", "xen1", "--challenge", verifier.give("challenge"), "-o", "/run/answer")
    assert verifier.do("enrolment", str(verifier.fetch("answer"))) == 0
    # From now on the agent measures. What it had not measured yet, it does first.
    reference(verifier)
    found = verifier.verdict(capsys)
    assert (found["verdict"], found["reasons"]) == ("trusted", [])
    assert [event.kind for event in verifier.events()] == [
        Kind.AGENT, Kind.POLICY, Kind.ENFORCEMENT]


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


@dataclass
class Chain:
    """A guest that has enrolled its TPM, its host, and a verifier that asks both."""

    verifier: Verifier
    guest: Guest

    def enrol(self, ek: str) -> None:
        """The verifier knows the guest's TPM by what the host's list has shown."""
        assert self.verifier.do("admit", "desk", "--vm", "--ek", ek) == 0
        place = self.verifier.place
        request = self._there("enrol", "desk", "-o", "/tmp/request", wanted="/tmp/request")
        (place / "desk-request").write_bytes(request)
        assert self.verifier.do("enrolment", str(place / "desk-request"), "-o",
                                str(place / "desk-challenge")) == 0
        answer = self._there(
            "enrol", "desk", "--challenge", "/tmp/challenge", "-o", "/tmp/answer",
            given={"/tmp/challenge": (place / "desk-challenge").read_bytes()},
            wanted="/tmp/answer")
        (place / "desk-answer").write_bytes(answer)
        assert self.verifier.do("enrolment", str(place / "desk-answer")) == 0

    def quote(self) -> Path:
        """What the guest answers to a new challenge."""
        place = self.verifier.place
        assert self.verifier.do("challenge", "desk", "-o", str(place / "desk-ask")) == 0
        (place / "desk-evidence").write_bytes(self._there(
            "quote", "--challenge", "/tmp/ask", "-o", "/tmp/evidence",
            given={"/tmp/ask": (place / "desk-ask").read_bytes()}, wanted="/tmp/evidence"))
        return place / "desk-evidence"

    def judged(
        self, guest: Path, capsys: pytest.CaptureFixture[str], label: str = LABEL
    ) -> dict[str, Any]:
        """What the verifier makes of the guest's evidence and a fresh one of the host's."""
        host = self.verifier.evidence()
        capsys.readouterr()
        code = self.verifier.do("chain", "--guest", str(guest), "--host", str(host), "--label",
                                label, "--json")
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert code == (0 if found["holds"] else 1)
        return found

    def _there(self, *words: str, wanted: str, given: dict[str, bytes] | None = None) -> bytes:
        code, text, files = self.guest.shype(
            "attest", *words, *TPM, *STATE, files=given, wanted=(wanted,))
        assert code == 0, text
        return files[wanted]


@pytest.fixture(scope="module")
def desk(verifier: Verifier) -> Chain:
    """The guest, installed on the enrolled host; a test starts it."""
    lab = verifier.host.lab
    install(lab, "a-desk")
    return Chain(verifier, Guest(lab))


def test_the_tpm_that_a_vm_gets_is_in_the_log_with_whose_it_is(
    verifier: Verifier, desk: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    done = lab.run(["shype", "run", "/etc/xen/vms/a-desk.cfg"], timeout=300)
    assert done.code == 0, done.out + done.err
    told, = json.loads(lab.run(["shype", "vtpm", "list", "--json"], timeout=200).out)["tpms"]
    launched, given = verifier.events()[-2:]
    assert (launched.kind, launched.values["label"]) == (Kind.LAUNCH, LABEL)
    assert given == HostEvent(Kind.TPM, {
        "vm": "a-desk", "uuid": UUID, "label": LABEL, "ek": told["ek"]})
    assert verifier.verdict(capsys)["verdict"] == "trusted"
    desk.guest.wait()


def test_a_guest_shows_by_its_tpm_under_which_policy_it_runs(
    verifier: Verifier, desk: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Guest, its TPM, its host and the host's TPM: four programs that share nothing but bytes."""
    policy, given = (next(event for event in verifier.events() if event.kind is kind).values
                     for kind in (Kind.POLICY, Kind.TPM))
    desk.enrol(given["ek"])
    evidence = desk.quote()
    found = desk.judged(evidence, capsys)
    assert (found["holds"], found["broken"]) == (True, [])
    assert (found["guest"], found["host"]) == ("desk", "xen1")
    assert {key: found[key] for key in given} == given
    assert found["policy"] == {key: policy[key] for key in ("name", "version", "bundle")}
    again = desk.judged(evidence, capsys)  # an old quote, with a fresh one of the host
    assert [(one["link"], one["id"]) for one in again["broken"]] == [("guest", "challenge.used")]


def test_a_chain_has_no_link_that_the_host_did_not_measure(
    verifier: Verifier, desk: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    found = desk.judged(desk.quote(), capsys, "bank-b-desk")
    assert [(one["link"], one["id"]) for one in found["broken"]] == [("tpm", "chain.label")]
    log = lab.get(LOG)
    entries = event_log.loads(log)
    lab.put(LOG, event_log.dumps(entries[:-1]), 0o600)  # the TPM is to be another VM's
    found = desk.judged(desk.quote(), capsys)
    lab.put(LOG, log, 0o600)
    assert {(one["link"], one["id"]) for one in found["broken"]} == {
        ("host", "log.register"), ("tpm", "chain.no-tpm")}
    assert lab.run(["shype", "stop", "--force", "a-desk"], timeout=200).code == 0


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

"""A host that boots measured is enrolled, trusted, and found out when it is not what it was.

The host is a real boot by UEFI with a TPM; the verifier is on the test's side, and all that goes
between the two are files. Everything is done with the commands that an administrator has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shype.attest import event_log
from shype.attest.host_events import HostEvent, Kind
from shype.base import canonical
from shype.lab import builder, guests
from tests.lab.boot_host import commit
from tests.lab.conftest import STILL
from tests.lab.measured_hosts import booted
from tests.lab.verifying import LOG, STRANGER, Verifier, ids, reference

pytestmark = pytest.mark.lab
UUID = "5e1f0000-0000-4000-8000-00000000000a"


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


def test_the_tpm_that_a_vm_gets_is_in_the_log_with_whose_it_is(
    verifier: Verifier, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = verifier.host.lab
    lab.put("/etc/xen/vms/a-desk.cfg", guests.config(
        "a-desk", type="pv", extra=f'{STILL}\nuuid = "{UUID}"'))
    done = lab.run(["shype", "run", "/etc/xen/vms/a-desk.cfg"], timeout=300)
    assert done.code == 0, done.out + done.err
    told, = json.loads(lab.run(["shype", "vtpm", "list", "--json"], timeout=200).out)["tpms"]
    launched, given = verifier.events()[-2:]
    assert (launched.kind, launched.values["label"]) == (Kind.LAUNCH, "bank-a-desk")
    assert given == HostEvent(Kind.TPM, {
        "vm": "a-desk", "uuid": UUID, "label": "bank-a-desk", "ek": told["ek"]})
    assert verifier.verdict(capsys)["verdict"] == "trusted"
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

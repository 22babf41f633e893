"""A real guest's own TPM: it quotes, the quote holds, and what it loses is told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.attest.chain import follow
from shype.attest.host_events import HostEvent, Kind
from shype.compile.flask.build import build
from shype.host.attest_result import attester_id
from shype.lab import builder
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.attest.logs import LAUNCH
from tests.attest.test_chain import WITH_TPMS, quoted_by
from tests.attest.world import World, paper_machine
from tests.lab.tpm_guest import STATE, TPM, Guest, install

pytestmark = pytest.mark.lab
POLICY = """\
shype: 1
policy: {name: tpms, version: "1.0"}
coalitions: [work, play]
labels:
  manager: {coalitions: all}
  a-desk:  {coalitions: [work], vtpm: true, locked: true}
  toy:     {coalitions: [play], vtpm: true}
host: {dom0: manager}
vms: {a-desk: a-desk, toy: toy}
"""
@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    place = tmp_path_factory.mktemp("tpms")
    (place / "policy.yaml").write_text(POLICY)
    build(load(place / "policy.yaml").policy, target="xen-4.17", out=place / "bundle")
    with Lab.up(bundle=place / "bundle") as up:
        install(up, "a-desk", "toy")
        yield up


def test_a_guests_quote_is_by_the_tpm_that_the_host_gave_it(lab: Lab, tmp_path: Path) -> None:
    done = lab.run(["shype", "run", "/etc/xen/vms/a-desk.cfg"], 180)
    assert done.code == 0, done.err
    guest = Guest(lab)
    guest.wait()
    told, = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert (told["vm"], told["label"], told["state"]) == ("a-desk", "a-desk", "served")

    assert guest.shype("register")[1].strip() == "0" * 64
    code, text, _ = guest.shype("attest", "ek", "--id", *TPM)
    assert (code, text.strip()) == (0, told["ek"]), text

    # A verifier on another machine, with nothing but what the guest and the host show it.
    world = World(tmp_path / "verifier", WITH_TPMS)
    world.clock.now = time.time()
    world.verifier.admit("desk", None, told["ek"])
    code, text, files = guest.shype("attest", "enrol", "desk", "-o", "/tmp/request", *TPM, *STATE,
                                    wanted=("/tmp/request",))
    assert code == 0, text
    challenge = world.verifier.enrol(files["/tmp/request"])
    code, text, files = guest.shype(
        "attest", "enrol", "desk", "--challenge", "/tmp/challenge", "-o", "/tmp/answer", *TPM,
        *STATE, files={"/tmp/challenge": challenge}, wanted=("/tmp/answer",))
    assert code == 0, text
    known = world.verifier.complete(files["/tmp/answer"])
    assert known.ak is not None

    def quote(nonce: bytes, pcrs: tuple[int, ...]) -> bytes:
        ask = json.dumps({"eat_nonce": nonce.hex(), "pcrs": list(pcrs)}).encode()
        code, text, files = guest.shype(
            "attest", "quote", "--challenge", "/tmp/ask", "-o", "/tmp/evidence",
            *TPM, *STATE, files={"/tmp/ask": ask}, wanted=("/tmp/evidence",))
        assert code == 0, text
        return files["/tmp/evidence"]

    host = paper_machine(world)
    host.measure(LAUNCH)
    host.measure(HostEvent(Kind.TPM, {key: told[key] for key in ("vm", "uuid", "label", "ek")}))
    chain = follow(
        world.verifier, quoted_by(world, attester_id(known.ak), quote), host.evidence(),
        label="a-desk")
    assert chain.broken == ()
    assert (chain.vm, chain.label, chain.ek) == ("a-desk", "a-desk", told["ek"])


def test_what_serves_is_killed_and_the_guest_gets_errors(lab: Lab) -> None:
    guest = Guest(lab)
    assert lab.run(["pkill", "-KILL", "swtpm"]).code == 0
    code, text, _ = guest.shype("attest", "ek", "--id", *TPM)
    assert code == 3, text
    assert "[tpm." in text
    lab.run(["shype", "recover"])
    told = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert [tpm["state"] for tpm in told] == ["lost"]
    assert lab.run(["xl", "list", "a-desk"]).code == 0


def test_another_label_does_not_get_the_tpm_and_the_vm_gets_it_again(lab: Lab) -> None:
    before, = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert lab.run(["shype", "stop", "a-desk", "--force"], 120).code == 0
    told = lab.run(["shype", "audit", "show", "--json"]).out
    assert told.count('"vtpm.lost"') >= 1
    refused = lab.run(["shype", "run", "--json", "/etc/xen/vms/toy.cfg"], 120)
    assert refused.code == 1
    assert json.loads(refused.out)["decision"]["id"] == "vtpm.owner"
    again = lab.run(["shype", "run", "/etc/xen/vms/a-desk.cfg"], 180)
    assert again.code == 0, again.err
    now, = json.loads(lab.run(["shype", "vtpm", "list", "--json"]).out)["tpms"]
    assert (now["ek"], now["state"]) == (before["ek"], "served")
    assert lab.run(["shype", "stop", "a-desk", "--force"], 120).code == 0
    assert lab.run(["pgrep", "swtpm"]).code == 1

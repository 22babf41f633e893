"""Two hosts that booted measured, a verifier, and guests that may run on trusted hosts only.

Xen, TPMs (swtpm), guests, ssh between the hosts and the verifier's service are real. One pair of
hosts for all of it, in the order in which the tests stand: b-db is refused, starts, is paused and
goes on, and moves to the host that was refused before; there it is paused for good at the end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shype.attest import event_log
from shype.attest.service import Service
from shype.attest.verifier import Verifier as Appraiser
from shype.base.child import Completed
from shype.cli.main import main
from shype.lab import builder, probe
from shype.lab.grubhost import GrubHost
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.link import link, uplink
from shype.meter.handover import KIND, read
from shype.meter.reader import lines
from shype.meter.record import decode
from shype.meter.report import history
from shype.policy.ed25519 import PrivateKey, PublicKey
from tests.lab.boot_host import commit
from tests.lab.conftest import STILL, guests
from tests.lab.measured_hosts import NAMES, booted
from tests.lab.test_faults import shype
from tests.lab.verifying import LOG, STRANGER, Verifier, ids, reference

pytestmark = pytest.mark.lab

VM, DESK = "b-db", "b-desk"
CONFIG, OTHER, PLAIN = (f"/etc/xen/vms/{name}.cfg" for name in (VM, DESK, "market"))
CONTEXT = "u:r:l_bank_b_db_t:s0"
LEDGER = "/var/lib/shype/meter"
#: `shype receive`, run by an interpreter that need not import it four times for a VM.
RECEIVE = ("/usr/bin/python3 -I -S /opt/shype/shype/lab/dom0/hand_over.py /run/shype-warm "
           "shype receive")
#: Most of a guest's memory is zeros, and each byte on its way costs some hundred instructions;
#: so do four connections for a VM.
QUICK = "Compression yes\nCiphers aes128-gcm@openssh.com\nControlPath /run/ssh-%h\n"
#: The seconds that each answer of the verifier holds: the tests take less.
LIFE = 3600
#: The seconds that the last answer holds of a verifier that is gone afterwards.
SHORT = 30


@dataclass
class Hosts:
    """Both hosts, the machine of the verifier, and where that is for them."""

    place: Path
    hosts: list[GrubHost]
    url: str
    began: float

    @property
    def labs(self) -> list[Lab]:
        """Their dom0."""
        return [host.lab for host in self.hosts]

    def verifier(self, number: int) -> Verifier:
        """What the verifier does with one of them."""
        return Verifier(self.place, self.hosts[number], NAMES[number])


def both(what: Callable[[Lab], Any], hosts: Hosts) -> list[Any]:
    """Do it in both dom0 at a time; each has a processor of its own."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(what, hosts.labs))


def must(lab: Lab, *words: str) -> str:
    """What a command in dom0 prints."""
    done = lab.run(list(words), 300)
    assert done.code == 0, done.out + done.err
    return done.out


def renew(lab: Lab) -> dict[str, Any]:
    """What the verifier says of the host now, which is the host's standing then."""
    done = lab.run(["shype", "attest", "renew", "--json"], 300)
    assert done.out, done.err
    found: dict[str, Any] = json.loads(done.out)
    assert done.code == (0 if found["verdict"] == "trusted" else 1)
    return found


def migrate(hosts: Hosts) -> Completed:
    """From the first to the second."""
    return hosts.labs[0].run(["shype", "migrate", "--json", VM, NAMES[1]], timeout=900)


@pytest.fixture(scope="module")
def hosts(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Committed, each known to the other's ssh, and the verifier's service reachable from both."""
    place = tmp_path_factory.mktemp("attested")
    with booted(place, 2) as pair:
        key = place / "verifier/verifier.key"
        appraiser = Appraiser(place / "verifier", PrivateKey.from_pem(key.read_bytes(), str(key)),
                              life=LIFE)
        with Service(appraiser, ("127.0.0.1", 0)) as service:
            threading.Thread(target=service.serve_forever, daemon=True).start()
            one, two = (host.lab for host in pair)
            addresses = link(one, two)
            found = Hosts(place, pair, "", time.time())
            names = "".join(f"{address} {name}\n" for address, name in
                            zip(addresses, NAMES, strict=True))
            for lab, name in zip((one, two), NAMES, strict=True):
                gateway = uplink(lab)
                lab.put("/etc/hosts", f"127.0.0.1 localhost\n{names}")
                must(lab, "hostname", name)
                lab.put(CONFIG, config(VM, type="pv", memory=100))
                lab.put(OTHER, config(DESK, type="pv", memory=100))
                lab.put(PLAIN, config("market", type="pv", extra=STILL))
            found.url = f"http://{gateway}:{service.server_address[1]}"
            both(lambda lab: commit(GrubHost(lab)), found)
            ssh(one, two)
            yield found
            service.shutdown()


def ssh(one: Lab, two: Lab) -> None:
    """What root of the first may do on the second: have it receive VMs."""
    must(one, "sh", "-c", "mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' "
         "-f /root/.ssh/id_ed25519")
    public = one.get("/root/.ssh/id_ed25519.pub").decode()
    two.put("/root/.ssh/authorized_keys", f'command="{RECEIVE}",restrict {public}', 0o600)
    one.put("/root/.ssh/config", QUICK)
    must(two, "sh", "-c", "chmod 700 /root /root/.ssh; ssh-keygen -A; mkdir -p /run/sshd; "
         "/usr/sbin/sshd")
    key = two.get("/etc/ssh/ssh_host_ed25519_key.pub").decode()
    one.put("/root/.ssh/known_hosts", f"{NAMES[1]} {key}")
    must(one, "sh", "-c", f"ssh -M -N -f {NAMES[1]} </dev/null >/dev/null 2>&1")


def test_without_a_verifiers_word_only_other_labels_start(hosts: Hosts) -> None:
    one = hosts.labs[0]
    done = shype(one, "run", CONFIG)
    assert (done.code, done.denial[0]) == (1, "attested.none")
    assert shype(one, "run", PLAIN).code == 0
    assert list(guests(one)) == ["market"]
    assert shype(one, "stop", "--force", "market").code == 0


def test_a_trusted_host_runs_it(hosts: Hosts) -> None:
    one = hosts.labs[0]
    for number, name in enumerate(NAMES):
        hosts.verifier(number).admit()
        hosts.verifier(number).there("enrol", name, "--verifier", hosts.url)
    reference(hosts.verifier(0))
    found = renew(one)
    assert (found["verdict"], found["reasons"]) == ("trusted", [])
    both(lambda lab: must(lab, "shype", "meter", "begin"), hosts)
    assert shype(one, "run", CONFIG).code == 0
    assert guests(one) == {VM: CONTEXT}
    probe.wait_for(one.run, [VM])


def test_it_does_not_move_to_a_host_that_has_proved_nothing(hosts: Hosts) -> None:
    one, two = hosts.labs
    done = migrate(hosts)
    assert done.code == 1, done.out + done.err
    said = json.loads(done.out)["refusal"]
    assert (said["id"], "no attestation result" in said["sentence"]) == ("attested.none", True)
    assert (guests(one), guests(two)) == ({VM: CONTEXT}, {})
    probe.wait_for(one.run, [VM])


def test_a_host_that_loses_trust_pauses_it_until_it_is_trusted_again(hosts: Hosts) -> None:
    one, two = hosts.labs
    assert renew(two)["verdict"] == "trusted"
    log = one.get(LOG)
    one.put(LOG, event_log.dumps(event_log.loads(log)[:-1]), 0o600)  # the launch, forgotten
    found = renew(one)
    assert (found["verdict"], ids(found)) == ("failed", ["log.register"])
    assert paused(one) == {VM: "paused"}
    done = shype(one, "run", OTHER)
    assert (done.code, done.denial[0]) == (1, "attested.untrusted")
    assert "an event is missing" in json.dumps(done.value)
    done = shype(one, "unpause", VM)
    assert (done.code, done.denial[0]) == (1, "attested.untrusted")
    moved = migrate(hosts)  # not from here either
    assert (moved.code, json.loads(moved.out)["refusal"]["id"]) == (1, "attested.untrusted")
    assert "an event is missing" in one.run(["shype", "status"], 300).out
    one.put(LOG, log, 0o600)
    assert renew(one)["verdict"] == "trusted"
    assert paused(one) == {VM: "resumed"}
    probe.wait_for(one.run, [VM])


def paused(lab: Lab) -> dict[str, str]:
    """What `shype watch` does about attested VMs now, and that it did."""
    done = lab.run(["shype", "watch", "--once", "--json"], 300)
    assert done.code == 0, done.err
    did = {one["vm"]: one["did"] for one in documents(done.out)}
    state = must(lab, "xl", "list", VM).splitlines()[1].split()[4]
    assert ("p" in state) == (did.get(VM) == "paused")
    return did


def documents(text: str) -> list[Any]:
    """JSON documents one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        found.append(value)
        text = text[end:]
    return found


def test_it_moves_between_trusted_hosts_and_its_bill_with_it(
    hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = hosts.labs
    must(one, "shype", "meter", "sample")
    before = report(hosts, capsys, 0)
    done = migrate(hosts)
    assert (done.code, json.loads(done.out)["moved"]) == (0, True), done.out + done.err
    assert (guests(one), guests(two)) == ({}, {VM: CONTEXT})
    probe.wait_for(two.run, [VM])
    must(two, "shype", "meter", "sample")
    here, there, total = (report(hosts, capsys, *which) for which in ((0,), (1,), (0, 1)))
    assert before["cpu_ns"] <= here["cpu_ns"]
    assert there["cpu_ns"] > 0
    assert here["cpu_ns"] + there["cpu_ns"] == total["cpu_ns"]
    assert total["runs"] == 2
    # Not twice: there was no more time than that, for all of it.
    assert total["cpu_ns"] < (time.time() - hosts.began) * 1e9


def test_both_ledgers_have_the_handover_that_both_have_signed(
    hosts: Hosts, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [handover(hosts.place / name) for name in NAMES]
    assert said[0] == said[1]
    envelope, body = read(said[0].encode())
    assert (body["vm"], body["from"], body["to"]) == (VM, *NAMES)
    assert body["usage"] == list(account(hosts.place / NAMES[0]))
    assert len(envelope.signatures) == 2
    for name in NAMES:
        first = str(hosts.place / name / "first.pub")
        capsys.readouterr()
        code = main(["meter", "verify", "--ledger", str(hosts.place / name), "--key", first,
                     "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (code, found["problems"], found["pinned"]) == (0, [], True)
    key = PublicKey.from_pem((hosts.place / NAMES[1] / "first.pub").read_bytes(), "first.pub")
    assert envelope.signed_by(key, KIND)


def test_a_host_whose_verifier_is_gone_is_left(hosts: Hosts) -> None:
    """Its result runs out, and nobody gives it another: `shype watch` takes the VM elsewhere."""
    one, two = hosts.labs
    assert shype(one, "run", OTHER).code == 0
    probe.wait_for(one.run, [DESK])
    evidence = hosts.verifier(0).evidence()
    assert hosts.verifier(0).do("verify", str(evidence), "--life", str(SHORT), "-o",
                                str(hosts.place / "result")) == 0
    one.put("/run/result", (hosts.place / "result").read_bytes())
    must(one, "shype", "attest", "accept", "/run/result")
    deadline = time.monotonic() + 10 * SHORT
    did: list[Any] = []
    while not did:
        assert time.monotonic() < deadline
        done = one.run(["shype", "watch", "--once", "--json"], 900)
        assert done.code == 0, done.out + done.err
        did = [each for each in documents(done.out) if each.get("vm") == DESK]
    left, = did
    assert (left["did"], left["host"]) == ("evacuated", NAMES[1])
    assert left["decision"]["id"] == "attested.expired"
    assert (guests(one), guests(two)[DESK]) == ({}, "u:r:l_bank_b_desk_t:s0")
    probe.wait_for(two.run, [DESK])
    assert shype(two, "stop", "--force", DESK).code == 0
    assert renew(one)["verdict"] == "trusted"


def report(hosts: Hosts, capsys: pytest.CaptureFixture[str], *which: int) -> dict[str, Any]:
    """What the VM has used by the ledgers of these hosts, of which copies are on this side now."""
    words = []
    for number in which:
        place = hosts.place / NAMES[number]
        place.mkdir(exist_ok=True)
        for name in ("ledger.jsonl", "first.pub", "head.json"):
            (place / name).write_bytes(hosts.labs[number].get(f"{LEDGER}/{name}"))
        words += ["--ledger", str(place)]
    capsys.readouterr()
    assert main(["meter", "report", "--json", *words]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found: dict[str, Any] = next(row for row in rows if row["key"] == VM)
    return found


def bodies(place: Path) -> list[Any]:
    """What the records of a ledger say."""
    return [dict(decode(line.data).body) for line in lines(place)]


def handover(place: Path) -> str:
    """The one statement of a VM that moved."""
    found, = (body["statement"] for body in bodies(place) if "statement" in body)
    return str(found)


def account(place: Path) -> Sequence[int]:
    """The last figures of the VM."""
    return [one.usage.row() for one in history(place) if one.run.vm == VM][-1]


def test_a_ledger_from_before_an_anchor_is_behind_the_tpm(hosts: Hosts) -> None:
    two = hosts.labs[1]
    verify = ["shype", "meter", "verify", "--key", f"{LEDGER}/first.pub", "--tpm"]
    must(two, "shype", "meter", "anchor")
    must(two, *verify)
    must(two, "cp", "-a", LEDGER, "/run/copy")
    must(two, "shype", "meter", "anchor")
    must(two, *verify)
    done = two.run([*verify, "--ledger", "/run/copy"], 300)
    assert done.code == 1
    assert "the tpm has counted to 3, and the ledger to 2" in done.out


def test_a_stranger_in_the_register_ends_trust_for_good(hosts: Hosts) -> None:
    two = hosts.labs[1]
    must(two, "env", "PYTHONPATH=/opt/shype", "python3", "-c", STRANGER)
    found = renew(two)
    assert (found["verdict"], ids(found)) == ("failed", ["log.register"])
    assert paused(two) == {VM: "paused"}
    done = shype(two, "unpause", VM)
    assert (done.code, done.denial[0]) == (1, "attested.untrusted")
    assert shype(two, "stop", "--force", VM).code == 0


def test_a_host_that_was_revoked_starts_nothing_attested(hosts: Hosts) -> None:
    one = hosts.labs[0]
    assert hosts.verifier(0).do("revoke", NAMES[0], "--why", "stolen") == 0
    found = renew(one)
    assert (found["verdict"], ids(found)) == ("failed", ["host.revoked"])
    done = shype(one, "run", OTHER)
    assert (done.code, done.denial[0]) == (1, "attested.untrusted")
    assert "stolen" in json.dumps(done.value)
    assert guests(one) == {}

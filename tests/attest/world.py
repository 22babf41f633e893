"""A verifier, and hosts with a TPM each (real or on paper), as tests and bench need them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import cast

from shype.attest import event_log, reference
from shype.attest.attester import Attester
from shype.attest.host_events import HostEvent, Kind, to_event
from shype.attest.reference import Boot, References, Rule
from shype.attest.tpm import Tpm
from shype.attest.verdict import Appraisal
from shype.attest.verifier import Verifier
from shype.host.attest_result import AttestedPolicy, Result, Verdict, attester_id
from shype.policy.ed25519 import PrivateKey
from tests.attest.logs import AGENT_CODE, BUNDLE, ENFORCING, LOAD, MODULE, START, chain
from tests.attest.paper_tpm import PaperTpm
from tests.signing import AUTHOR, keys

VERIFIER = PrivateKey(bytes(range(64, 96)))
NOW = 1_800_000_000
FIRMWARE = {pcr: [hashlib.sha256(b"firmware %d" % pcr).digest()] for pcr in (0, 7)}
BOOTED = {pcr: [hashlib.sha256(b"boot %d" % pcr).digest()] * 2 for pcr in (4, 8, 9)}
POLICY = AttestedPolicy("banks", "1.0", BUNDLE)
OLD = hashlib.sha256(b"old bundle").hexdigest()
NEXT = hashlib.sha256(b"next bundle").hexdigest()


def load(version: str, bundle: str) -> HostEvent:
    """The event of another policy's load."""
    return HostEvent(Kind.POLICY, {**LOAD.values, "version": version, "bundle": bundle})


REFERENCES = References(
    "xen-hosts", 1,
    (Boot("the model of server", {pcr: chain(d) for pcr, d in FIRMWARE.items()}),),
    (Boot("xen 4.17, banks 1.0", {pcr: chain(d) for pcr, d in BOOTED.items()}, POLICY),),
    (
        Rule(Kind.AGENT, {"agent": AGENT_CODE}),
        Rule(Kind.POLICY, {"name": "banks", "version": "1.0", "bundle": BUNDLE, "module": MODULE}),
        Rule(Kind.ENFORCEMENT, {"mode": "enforcing"}),
        Rule(Kind.LAUNCH, {"label": "a-desk", "image": "*"}),
    ),
)


class Clock:
    """The verifier's clock."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


class World:
    """A verifier in a directory; its clock stands still."""

    def __init__(self, place: Path, references: References = REFERENCES) -> None:
        self.place, self.clock = place, Clock()
        place.mkdir(exist_ok=True)
        keys(_made(place / "signers"), AUTHOR)
        self.verifier = Verifier(place, VERIFIER, clock=self.clock)
        self.publish(references)

    def publish(self, references: References) -> None:
        self.verifier.publish(reference.seal(references, [AUTHOR]), references.name)


class Machine:
    """A host: a TPM, a directory and a log."""

    def __init__(
        self, world: World, name: str, tpm: Tpm | PaperTpm,
        reference: str | None = REFERENCES.name,
    ) -> None:
        self.world, self.name, self.tpm, self.reference = world, name, tpm, reference
        place = world.place / "machines" / name
        place.mkdir(parents=True)
        self.log = place / "event-log"
        self.attester = Attester(cast(Tpm, tpm), place, self.log)

    def enrol(self) -> None:
        """With a real TPM as it is done; one on paper is put where enrolment leads to."""
        verifier = self.world.verifier
        if isinstance(self.tpm, PaperTpm):
            self.attester.request(self.name)
            self.attester.keep()
            host = verifier.admit(
                self.name, self.reference, hashlib.sha256(self.name.encode()).hexdigest())
            verifier.registry.put(replace(host, ak=self.attester.key().public), durable=False)
            return
        from shype.attest.public import endorsement_key

        verifier.admit(self.name, self.reference, endorsement_key(self.tpm.ek()).id)
        challenge = verifier.enrol(self.attester.request(self.name))
        verifier.complete(self.attester.answer(challenge))
        self.attester.keep()

    def boot(self, *events: HostEvent) -> None:
        """What firmware and GRUB measure, and then the agent."""
        self.log.unlink(missing_ok=True)
        for measured in (FIRMWARE, BOOTED):
            for pcr, digests in measured.items():
                for digest in digests:
                    self.tpm.pcr_extend(pcr, digest)
        for event in events or (START, LOAD, ENFORCING):
            self.measure(event)

    def measure(self, event: HostEvent) -> None:
        entry = to_event(event)
        assert entry.sha256 is not None
        self.tpm.pcr_extend(entry.pcr, entry.sha256)
        before = self.log.read_bytes() if self.log.exists() else event_log.header()
        self.log.write_bytes(before + event_log.encode(entry))

    def evidence(self) -> bytes:
        challenge = self.world.verifier.challenge(attester_id(self.attester.key().public))
        return self.attester.quote(challenge.nonce, challenge.pcrs)

    def attest(self) -> Result:
        return self.world.verifier.appraise(self.evidence())[0]

    def appraisal(self) -> Appraisal:
        return self.world.verifier.appraise(self.evidence())[2]


def paper_machine(world: World, name: str = "xen1") -> Machine:
    """An enrolled host with a TPM on paper, booted as it should be."""
    machine = Machine(world, name, PaperTpm())
    machine.enrol()
    machine.boot()
    return machine


def _made(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    return place


def judged(host: Machine, data: bytes | None = None) -> tuple[Verdict, str]:
    """Verdict and first reason."""
    result = host.world.verifier.appraise(host.evidence() if data is None else data)[0]
    return result.verdict, result.reasons[0].id if result.reasons else ""

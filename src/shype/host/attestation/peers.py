"""Two hosts between which an attested VM moves: each proves to the other that it is trusted.

A host shows its attestation result (the "passport" of RFC 9334, 5.1) and quotes, with the key
that the result is about, a challenge of the other; so that a result that was copied, or is of a
boot that is over, proves nothing.  What is quoted says who proves what to whom, so that no proof
can be turned back on its maker.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from shype.base.errors import BadInput, Unavailable
from shype.decision.decision import Decision
from shype.host import attest_result
from shype.host.agent import Agent
from shype.host.attest_result import Reason, Result
from shype.host.attestation.standing import (
    directory,
    make,
    own_key,
    standing,
    too_old,
    verifiers,
)
from shype.host.ids import HostId
from shype.host.journal import boot_id
from shype.host.kept import clock
from shype.host.table import Table, plain
from shype.policy.model import Lost
from shype.policy.names import LabelName

#: Seconds for which a challenge, and the word that a VM may come, are good.
GOOD_FOR = 300
#: Most of them at a time: the oldest give way.
MOST = 64
_NONCE = 32
_MAX_RECORD = 1024 * 1024
#: Largest proof read, bytes.
MAX_PROOF = 64 * 1024


class Role(StrEnum):
    """Who of the two proves."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Attester(Protocol):
    """A host's TPM, and the knowledge of how another's quotes are checked."""

    def prove(self, challenge: bytes) -> bytes:
        """A quote of ``challenge`` (32 bytes) with this host's attestation key.

        Raises Unavailable (``tpm.*``).
        """

    def doubt(self, result: Result, proof: bytes, challenge: bytes) -> Reason | None:
        """Why ``proof`` is no such quote by the host, and in the boot, of ``result``."""


@dataclass(frozen=True, slots=True)
class Passport:
    """What one host shows the other: the signed result, its proof, and its own challenge."""

    result: bytes
    proof: bytes
    nonce: bytes

    def to_json(self) -> dict[str, object]:
        """Part of a message."""
        return {"result": base64.b64encode(self.result).decode(),
                "proof": base64.b64encode(self.proof).decode(), "nonce": self.nonce.hex()}

    @classmethod
    def from_json(cls, value: object) -> Passport | None:
        """The inverse; None for anything else."""
        try:
            if not isinstance(value, Mapping) or value.keys() != {"result", "proof", "nonce"}:
                return None
            made = cls(binascii.a2b_base64(value["result"], strict_mode=True),
                       binascii.a2b_base64(value["proof"], strict_mode=True),
                       bytes.fromhex(value["nonce"]))
        except (TypeError, ValueError):
            return None
        return made if len(made.nonce) == _NONCE and len(made.proof) <= MAX_PROOF else None


@dataclass(frozen=True, slots=True)
class Moment:
    """When something began that is good for `GOOD_FOR` seconds; ``came`` in milliseconds."""

    boot: str
    came: int

    @property
    def over(self) -> bool:
        """Whether it is good no more."""
        return self.boot != boot_id() or not 0 <= _now() - self.came <= GOOD_FOR * 1000


def fresh_nonce() -> bytes:
    """A challenge that nobody can foresee."""
    return secrets.token_bytes(_NONCE)


def challenge(agent: Agent) -> bytes:
    """A new challenge to whoever wants to send a VM here; it is good for once.

    Raises Unavailable (``state.unwritable``, ``peers.corrupt``).
    """
    nonce = fresh_nonce()
    _put(agent, f"nonce {nonce.hex()}")
    return nonce


def expect(agent: Agent, uuid: str) -> None:
    """The VM ``uuid`` may come now: its sender has proved what it must."""
    _put(agent, f"vm {uuid}")


def expected(agent: Agent, uuid: str) -> bool:
    """Whether it may, for once."""
    return _take(agent, f"vm {uuid}")


def passport(agent: Agent, role: Role, theirs: bytes, uuid: str) -> Passport:
    """What this host shows, in its ``role``, who challenged it with ``theirs`` about a VM.

    Raises Unavailable: ``attestation.no-tpm``, ``tpm.*``, ``attestation.corrupt``; BadInput
    (``attestation.no-result``).
    """
    shown = standing(agent)
    if shown is None:
        raise BadInput("attestation.no-result", "this host has no attestation result to show",
                       "attest this host")
    return Passport(shown.data, _attester(agent).prove(quoted(role, theirs, uuid)), fresh_nonce())


def doubt(
    agent: Agent, shown: Passport | None, role: Role, ours: bytes, uuid: str,
    host: str | None = None,
) -> Reason | None:
    """Why the other host, which proves in ``role`` upon our challenge, is not trusted; or None.

    ``host``: the name by which we have reached it.  Raises Unavailable (``attestation.no-tpm``).
    """
    if shown is None:
        return Reason("peer.no-passport", "it has shown no attestation result")
    try:
        result = attest_result.loads(shown.result, verifiers(agent.policy))
    except BadInput as error:
        return Reason(error.id, error.message)
    objection = _objection(agent, result, role)
    if objection is not None:
        return objection
    if result.policy is None or result.policy.name != agent.policy.name:
        return Reason("peer.other-policy", "it does not enforce this policy")
    if result.ak == own_key(agent.state):
        return Reason("peer.reflected", "it has shown this host's own attestation result")
    if host is not None and result.host != host:
        return Reason(
            "peer.other-name", f"it was reached as {host}, and is enrolled as {result.host}")
    return _attester(agent).doubt(result, shown.proof, quoted(role, ours, uuid))


def _objection(agent: Agent, result: Result, role: Role) -> Reason | None:
    """As `standing.objection`, of another host, which enforces its own version of the policy.

    Where the policy evacuates, a host may be left once more as long after its result ended as
    the result was good: it was trusted in this very boot, and nobody has found fault since.
    """
    section = agent.policy.attestation
    if section is None:
        return Reason("result.none", "the policy names no verifier")
    grace = section.fresh if role is Role.SENDER and section.lost is Lost.EVACUATE else 0
    now = time.time()
    return result.objection(min(now, max(now - grace, result.issued))) or too_old(
        section, now - grace - result.issued)


def quoted(role: Role, nonce: bytes, uuid: str) -> bytes:
    """What is quoted, 32 bytes: a proof in one role, about one VM, is none in another."""
    return hashlib.sha256(b"shype migration\0%b\0%b\0%b" % (
        role.encode(), uuid.encode(), nonce)).digest()


def answers(agent: Agent, nonce: bytes) -> bool:
    """Whether ``nonce`` is a challenge of ours; it is used up by that."""
    return _take(agent, f"nonce {nonce.hex()}")


def refused(agent: Agent, label: LabelName, host: str, why: Reason) -> Decision:
    """The refusal to move a VM of ``label`` from or to the other ``host``."""
    section = agent.policy.attestation
    return Decision(
        False, HostId.PEER_UNATTESTED,
        f"{label} may not move: it is attested, and the other host, {host}, is not trusted: "
        f"{why.message} [{why.id}].",
        (agent.policy.labels[label].span, *(() if section is None else (section.span,))),
    )


def _attester(agent: Agent) -> Attester:
    if agent.attester is None:
        raise Unavailable(
            "attestation.no-tpm", "this host cannot quote: it is not set up for attestation",
            "shype attest enrol, with a TPM 2.0 and python3-tpm2-pytss")
    return agent.attester


def _table(agent: Agent) -> Table[Moment]:
    return Table(directory(agent.state) / "peers.json", "moments", plain(Moment), _MAX_RECORD,
                 _corrupt)


def _put(agent: Agent, name: str) -> None:
    make(agent.state)
    table = _table(agent)
    with table.locked():
        rows = {key: row for key, row in table.read().items() if not row.over}
        kept = sorted(rows.items(), key=lambda item: item[1].came)[-(MOST - 1):]
        table.write({**dict(kept), name: Moment(boot_id(), _now())})


def _take(agent: Agent, name: str) -> bool:
    table = _table(agent)
    if not table.path.exists():
        return False
    with table.locked():
        rows = dict(table.read())
        row = rows.pop(name, None)
        if row is None:
            return False
        table.write(rows)
    return not row.over


def _now() -> int:
    return int(clock() * 1000)


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "peers.corrupt", f"the record of hosts that were challenged, {path}, is damaged",
        "remove it, and begin the migration again")

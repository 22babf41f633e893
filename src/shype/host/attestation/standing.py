"""The host's standing: the last attestation result that it was given, and whether it holds.

A result counts in the boot in which it was given to the host, and for as long after it as the
policy says by a clock that nobody can set, so that neither a reboot nor a clock that was put back
makes an old one good again.  No result replaces a newer one.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shype.base import canonical
from shype.base.errors import BadInput, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host import attest_result
from shype.host.agent import Agent
from shype.host.attest_result import MAX_RESULT, Reason, Result, Verdict
from shype.host.audit.event import Event
from shype.host.audit.event import Result as Outcome
from shype.host.journal import boot_id
from shype.host.kept import clock
from shype.host.lock import LaunchLock, unwritable
from shype.policy.ed25519 import KeyId, PublicKey
from shype.policy.model import Attestation, Policy

#: In `directory`: the host's attestation key, as its enrolment left it: ``public`` is its
#: TPMT_PUBLIC as the TPM marshals it, in base64.
KEY = "ak.json"
#: And the result, with the moment at which it came.
STANDING = "standing.json"

_FORMAT = 1
_MAX_FILE = 4 * MAX_RESULT


@dataclass(frozen=True, slots=True)
class Standing:
    """``result``, given to the host in the boot ``boot`` of dom0, ``came`` seconds after it."""

    result: Result
    data: bytes
    boot: str
    came: float


def directory(state: Path) -> Path:
    """Where the agent with the state directory ``state`` keeps all that is about attestation."""
    return state / "attest"


def make(state: Path) -> Path:
    """That directory, made if need be. Raises Unavailable (``state.unwritable``)."""
    made = directory(state)
    try:
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(made, error) from error
    return made


def enrolled(state: Path) -> bool:
    """Whether the host has an attestation key, whatever it is worth."""
    return (directory(state) / KEY).is_file()


def verifiers(policy: Policy) -> dict[KeyId, PublicKey]:
    """Whose results count; nobody's without a section ``attestation``."""
    section = policy.attestation
    keys = () if section is None else (one.key for one in section.verifiers.values())
    return {key.id: key for key in (PublicKey(bytes.fromhex(raw)) for raw in keys)}


def own_key(state: Path) -> bytes | None:
    """The host's attestation key, None if it is not enrolled.

    Raises Unavailable (``attestation.corrupt``).
    """
    path = directory(state) / KEY
    try:
        return binascii.a2b_base64(
            json.loads(read_regular(path, MAX_RESULT))["public"], strict_mode=True)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _corrupt(path) from error


def standing(agent: Agent) -> Standing | None:
    """What the host was given last, if one of the policy's verifiers has said it.

    Raises Unavailable (``attestation.corrupt``).
    """
    path = directory(agent.state) / STANDING
    try:
        value = json.loads(read_regular(path, _MAX_FILE))
        if not isinstance(value, dict) or value.keys() != {"format", "result", "boot", "came"}:
            raise TypeError("entry")
        boot, came = value["boot"], value["came"]
        if value["format"] != _FORMAT or not isinstance(boot, str) or type(came) is not int:
            raise TypeError("entry")
        data = binascii.a2b_base64(value["result"], strict_mode=True)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise _corrupt(path) from error
    try:
        return Standing(attest_result.loads(data, verifiers(agent.policy)), data, boot, came)
    except BadInput as error:
        if error.id == "result.unsigned":
            return None  # the policy has other verifiers now
        raise _corrupt(path) from error


def keep(agent: Agent, data: bytes, *, nonce: str | None = None) -> Result:
    """Take the result ``data`` as this host's standing, whatever it says; ``nonce`` is the
    challenge that it must answer, if the host knows it.

    Raises BadInput: ``attestation.no-verifier``, ``attestation.not-enrolled``, ``result.*`` (not
    signed by a verifier of the policy, about another host, out of date, older than the last, the
    answer to something else); Unavailable (``attestation.corrupt``, ``state.unwritable``,
    ``audit.unwritable``).
    """
    known = require_verifiers(agent.policy)
    result = attest_result.loads(data, known)
    _require_own(agent.state, result)
    late = result.stale(time.time())
    if late is not None:
        raise BadInput(late.id, late.message, "attest again; compare the clocks")
    if nonce is not None and result.nonce != nonce:
        raise BadInput(
            "result.other-challenge", "the attestation result does not answer this challenge",
            "attest again")
    place = make(agent.state)
    with LaunchLock(place, "standing.lock").wait():
        last = standing(agent)
        boot = boot_id()
        if last is not None:
            if last.data == data:
                return result  # its time has begun already
            newer = last.result.issued - result.issued
            # The answer to a challenge of this moment is new, whatever second it says.
            if nonce is None and (
                    newer > 0 or (newer == 0 and result.verdict is Verdict.TRUSTED)):
                raise BadInput(
                    "result.older",
                    f"the attestation result is not newer than the last that this host was given "
                    f"({last.result.verdict})", "attest again")
        agent.record(Event(
            kind="attestation.result", result=Outcome.DONE, object=f"verifier:{result.verifier}",
            details={"verdict": str(result.verdict), "issued": result.issued,
                     "reasons": [reason.id for reason in result.reasons]},
            deferrable=result.verdict is not Verdict.TRUSTED))
        try:
            write_atomic(place / STANDING, canonical.dumps({
                "format": _FORMAT, "result": base64.b64encode(data).decode(), "boot": boot,
                "came": int(clock()),
            }), 0o600)
        except OSError as error:
            raise unwritable(place, error) from error
    return result


def objection(agent: Agent) -> Reason | None:
    """Why this host does not count as attested now, None if it does.

    Raises Unavailable (``attestation.corrupt``).
    """
    return judged(agent)[1]


def judged(agent: Agent) -> tuple[Standing | None, Reason | None]:
    """The host's standing, and what `objection` says of it."""
    found = standing(agent)
    return found, _objection(agent, found)


def _objection(agent: Agent, found: Standing | None) -> Reason | None:
    section = agent.policy.attestation
    if section is None or found is None:
        return Reason("result.none", "the host has no attestation result")
    if found.boot != boot_id():
        return Reason("result.other-boot", "the host was rebooted after its attestation")
    try:
        _require_own(agent.state, found.result)
    except BadInput as error:
        return Reason(error.id, error.message)
    late = too_old(section, clock() - found.came)
    return late or found.result.objection(time.time(), bundle=agent.manifest.digest)


def too_old(section: Attestation, age: float) -> Reason | None:
    """Why a result of ``age`` seconds does not count by the policy; None if it does."""
    if age <= section.fresh:
        return None
    return Reason(
        "result.expired",
        f"the host's attestation result is {int(age)} s old, and the policy wants none older "
        f"than {section.fresh} s")


def require_verifiers(policy: Policy) -> Mapping[KeyId, PublicKey]:
    """Whose results count. Raises BadInput (``attestation.no-verifier``)."""
    known = verifiers(policy)
    if not known:
        raise BadInput(
            "attestation.no-verifier",
            f"the policy {policy.name} {policy.version} names no verifier, so that no attestation "
            "result counts here", "add `attestation: {verifiers: {NAME: KEY}}` to the policy")
    return known


def _require_own(state: Path, result: Result) -> None:
    own = own_key(state)
    if own is None:
        raise BadInput(
            "attestation.not-enrolled", "this host is not enrolled: it has no attestation key",
            "shype attest enrol")
    if own != result.ak:
        raise BadInput(
            "result.other-host",
            f"the attestation result is about {result.host} ({result.attester[:16]}), and not "
            "about this host", "attest this host")


def _corrupt(path: Path) -> Unavailable:
    return Unavailable(
        "attestation.corrupt", f"what this host keeps of its attestation, {path}, is damaged",
        "remove it; then attest again, or enrol if it was the key")

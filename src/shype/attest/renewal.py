"""A host's standing, renewed: it asks its verifier, and keeps what that says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from shype.attest.attester import Attester
from shype.attest.client import Remote
from shype.base import canonical
from shype.base.errors import BadInput
from shype.base.files import read_regular, write_atomic
from shype.host.agent import Agent
from shype.host.attest_result import Result
from shype.host.attestation import standing

#: In the host's attestation directory: its verifier, as the enrolment left it.
VERIFIER = "verifier.json"
_MAX_FILE = 64 * 1024
#: Seconds until a verifier that did not answer is asked again.
AGAIN = 15.0


@dataclass(frozen=True, slots=True)
class Where:
    """A verifier's address, and the file with the certificates by which it is known."""

    url: str
    ca: Path | None = None


def remember(directory: Path, where: Where) -> None:
    """Keep who the host's verifier is."""
    write_atomic(directory / VERIFIER, canonical.dumps({
        "url": where.url, "ca": None if where.ca is None else str(where.ca.absolute())}), 0o600)


def remembered(directory: Path) -> Where:
    """Who that is. Raises BadInput (``attest.no-verifier``)."""
    path = directory / VERIFIER
    try:
        value = json.loads(read_regular(path, _MAX_FILE))
        url, ca = value["url"], value["ca"]
        if not isinstance(url, str) or not isinstance(ca, str | None):
            raise TypeError(VERIFIER)
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(
            "attest.no-verifier", f"this host does not know its verifier ({path})",
            "name it with --verifier, or enrol: shype attest enrol NAME --verifier URL") from error
    return Where(url, None if ca is None else Path(ca))


def renew(agent: Agent, attester: Attester, remote: Remote) -> Result:
    """Be looked at by the verifier now; what it says is the host's standing.

    Raises what `Remote.post`, `Attester.quote` and `shype.host.attestation.standing.keep` raise.
    """
    standing.require_verifiers(agent.policy)
    nonce, pcrs = remote.challenge(attester.id)
    sealed = remote.post("evidence", attester.quote(nonce, pcrs))
    return standing.keep(agent, sealed, nonce=nonce.hex())


def pause(agent: Agent, result: Result) -> float:
    """Seconds until the next time: half of what the result is good for here."""
    section = agent.policy.attestation
    life = result.expires - result.issued
    return max(1.0, min(life, life if section is None else section.fresh) / 2)

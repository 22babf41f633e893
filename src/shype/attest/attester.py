"""The attester: a host's own part, its key and its evidence. Standard library and the TPM only.

The key lives in the host's directory, wrapped by the TPM: a copy is of no use elsewhere.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from pathlib import Path

from shype.attest import enrolment, event_log, evidence, host_events
from shype.attest.evidence import Evidence
from shype.attest.tpm import EkKind, KeyBlob, Tpm
from shype.base import canonical
from shype.base.errors import BadInput, Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.attest_result import AttesterId, attester_id

_MAX_KEY = 16 * 1024
#: The log may grow while the TPM signs; so often it is tried to catch both in one state.
_TRIES = 5


class Attester:
    """This host, with its key in the directory ``state``, and this boot's log at ``log``."""

    def __init__(self, tpm: Tpm, state: Path, log: Path | None = None) -> None:
        self._tpm, self._state, self._log = tpm, state, log

    @property
    def id(self) -> AttesterId:
        """Who the host is to its verifier. Raises Unavailable (``attest.no-key``)."""
        return attester_id(self.key().public)

    def key(self) -> KeyBlob:
        """The key that the verifier knows. Raises Unavailable (``attest.no-key``)."""
        key = _read(self._state / "ak.json")
        if key is None:
            raise Unavailable(
                "attest.no-key", f"this host has no attestation key in {self._state}",
                "enrol it with its verifier: shype attest enrol",
            )
        return key

    def request(self, host: str, kind: EkKind = EkKind.ECC, *, new_key: bool = False) -> bytes:
        """The request to be enrolled as ``host``. With ``new_key`` it asks with another key; the
        present one stays in use until `keep`."""
        pending = _read(self._state / "ak.next.json")
        key = None if new_key else pending or _read(self._state / "ak.json")
        if key is None:
            key = self._tpm.new_ak()
            _write(self._state / "ak.next.json", key)
        elif pending is None:
            _write(self._state / "ak.next.json", key)
        return enrolment.dumps(enrolment.Request(
            host, self._tpm.ek(kind), key.public, self._tpm.ek_certificate(kind) or b""))

    def answer(
        self, challenge: bytes, kind: EkKind = EkKind.ECC, *, host: str | None = None
    ) -> bytes:
        """The answer to the verifier's challenge, which is for ``host`` (None: whoever it names).

        Raises BadInput (``enrolment.corrupt``, ``enrolment.other-host``), Unavailable:
        ``attest.no-key``, ``tpm.failed`` (the challenge is for another TPM or key).
        """
        asked = enrolment.loads(challenge, enrolment.Challenge)
        if host is not None and asked.host != host:
            raise BadInput(
                "enrolment.other-host", f"the challenge is for {asked.host!r}, and not for "
                f"{host!r}", "give the name of the request, or the challenge that answers it",
            )
        key = _read(self._state / "ak.next.json") or self.key()
        proof = self._tpm.activate(key, asked.blob, asked.secret, kind)
        return enrolment.dumps(enrolment.Answer(
            asked.host, self._tpm.ek(kind), key.public, asked.token, proof))

    def keep(self) -> None:
        """Use the key of the last `request` from now on: the verifier knows it."""
        following = self._state / "ak.next.json"
        if following.exists():
            following.replace(self._state / "ak.json")

    def quote(self, nonce: bytes, pcrs: Iterable[int]) -> bytes:
        """Evidence: the answer to ``nonce``, over ``pcrs`` and the register of the events.

        Raises Unavailable: ``attest.no-key``, ``tpm.*``.
        """
        key, wanted = self.key(), sorted({*pcrs, host_events.PCR})
        for last in range(_TRIES - 1, -1, -1):
            values = self._tpm.pcr_read(wanted)
            log = self.log()
            quote = self._tpm.quote(key, nonce, wanted)
            if not last or self._whole(log, values[host_events.PCR]):
                break
            time.sleep(0.05)
        return evidence.dumps(Evidence(attester_id(key.public), nonce, quote, values, log))

    def log(self) -> bytes:
        """The event log of this boot; an empty one if nothing was measured."""
        if self._log is None:
            return event_log.header()
        try:
            return read_regular(self._log, event_log.MAX_LOG)
        except FileNotFoundError:
            return event_log.header()

    def _whole(self, log: bytes, register: bytes) -> bool:
        """Whether nothing was measured meanwhile. What cannot be read is the verifier's to say."""
        try:
            replayed = event_log.replay(event_log.loads(log)).get(
                host_events.PCR, event_log.INITIAL[host_events.PCR])
        except BadInput:
            return True
        now = self._tpm.pcr_read([host_events.PCR])[host_events.PCR]
        return replayed == register == now


def _read(path: Path) -> KeyBlob | None:
    try:
        value = json.loads(read_regular(path, _MAX_KEY))
        return KeyBlob(base64.b64decode(value["public"], validate=True),
                       base64.b64decode(value["private"], validate=True))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable(
            "attest.no-key", f"{path} is damaged, and this host has no other key",
            "remove it and enrol with a new key: shype attest enrol --new-key",
        ) from error


def _write(path: Path, key: KeyBlob) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, canonical.dumps({
        "public": base64.b64encode(key.public).decode(),
        "private": base64.b64encode(key.private).decode(),
    }), 0o600)

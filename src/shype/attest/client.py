"""Asks a verifier's service, from a host. Standard library only.

What comes back is believed only as far as it proves itself: a result is signed.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from shype.attest.event_log import PCRS
from shype.base import canonical
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.attest_result import MAX_RESULT

_NONCE = re.compile(r"(?:[0-9a-f]{2}){16,64}")
_URL = re.compile(r"https?://[A-Za-z0-9._\[\]:-]{1,260}/?")


@dataclass(frozen=True, slots=True)
class Remote:
    """The verifier at ``url`` (``https://HOST:PORT``); ``ca``: PEM file with the certificates by
    which it is known (None: the system's). ``timeout``: seconds for one request."""

    url: str
    ca: Path | None = None
    timeout: float = 30.0

    def challenge(self, attester: str) -> tuple[bytes, tuple[int, ...]]:
        """The nonce to answer, and the registers to quote. Raises as `post`."""
        data = self.post("challenge", canonical.dumps({"attester": attester}))
        return parse_challenge(data, self.url)

    def post(self, what: str, body: bytes) -> bytes:
        """The answer to one request.

        Raises BadInput: ``verifier.url``, ``verifier.ca``; Unavailable: ``verifier.unreachable``,
        ``verifier.strange``; and what the verifier refuses, as BadInput or Unavailable with its id.
        """
        if not _URL.fullmatch(self.url):
            raise BadInput("verifier.url", f"{self.url!r} is no verifier's address",
                           "give https://HOST:PORT")
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/v1/{what}", body, {"Content-Type": "application/json"})
        try:
            context = self._context()
            # No proxy and no redirect: the verifier is where it was said to be.
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context),
                _NoRedirect())
            with opener.open(request, timeout=self.timeout) as answer:
                data: bytes = answer.read(MAX_RESULT + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read(MAX_RESULT)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            raise Unavailable(
                "verifier.unreachable", f"the verifier at {self.url} does not answer: {why}",
                "look at the network and at `shype attest serve` there; until it answers, this "
                "host is not attested",
            ) from error
        if len(data) > MAX_RESULT:
            raise _strange(self.url)
        return data

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            if self.ca is None:
                raise
            raise BadInput(
                "verifier.ca", f"the certificates in {self.ca} cannot be used: "
                f"{error.strerror or error}",
                "give --ca the PEM file with the certificate by which the verifier is known",
            ) from error

    def _refused(self, code: int, data: bytes) -> ShypeError:
        try:
            value = json.loads(data)
            id, message, fix = (value[key] for key in ("error", "message", "fix"))
            if not all(isinstance(text, str) and len(text) < 2000 for text in (id, message, fix)):
                raise ValueError
            if not re.fullmatch(r"[a-z0-9.-]{1,60}", id):
                raise ValueError
        except (ValueError, TypeError, KeyError, RecursionError):
            return _strange(self.url)
        said = "".join(c if c.isprintable() else "?" for c in message)
        hint = "".join(c if c.isprintable() else "?" for c in fix)
        kind = BadInput if 400 <= code < 500 else Unavailable
        return kind(id, f"the verifier says: {said}", hint)


def parse_challenge(data: bytes, where: str) -> tuple[bytes, tuple[int, ...]]:
    """Nonce and registers of a challenge. Raises BadInput (``challenge.corrupt``)."""
    try:
        value = json.loads(data)
        nonce, pcrs = value["eat_nonce"], value["pcrs"]
        if not _NONCE.fullmatch(nonce) or not all(
                type(pcr) is int and pcr in range(PCRS) for pcr in pcrs):
            raise ValueError
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput("challenge.corrupt", f"what {where} gave is no challenge",
                       "`shype attest challenge` on the verifier makes one") from error
    return bytes.fromhex(nonce), tuple(pcrs)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **more: object) -> None:
        """Follow none."""


def _strange(url: str) -> ShypeError:
    return Unavailable(
        "verifier.strange", f"what answers at {url} is no verifier",
        "compare the address with what `shype attest serve` prints",
    )

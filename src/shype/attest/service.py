"""The verifier's service: JSON over HTTP, with TLS if it is given a certificate.

Four requests, each a POST: ``/v1/challenge``, ``/v1/evidence``, ``/v1/enrol``, ``/v1/complete``
(docs/reference/attestation.md). None needs a password: evidence proves itself, only admitted TPMs
can be enrolled, and all that is told to a stranger is signed. Many at a time, none without end.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from shype.attest import enrolment, evidence
from shype.attest.verifier import Verifier
from shype.base import canonical
from shype.base.errors import BadInput, ShypeError, Unavailable

#: Requests that are served at a time; others wait in the kernel's queue.
AT_ONCE = 64
#: Seconds that a connection may last in all, however busily it sends.
PATIENCE = 20.0
_ID = re.compile(r"[0-9a-f]{64}")


class Service(ThreadingHTTPServer):
    """Serves ``verifier`` at ``address`` (host and port; port 0 is any that is free).

    ``certificate`` and ``key``: PEM files for TLS. ``said`` is told one line for each request.
    Raises Unavailable (``service.address``), BadInput (``service.tls``).
    """

    daemon_threads = True
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(
        self, verifier: Verifier, address: tuple[str, int], *, certificate: Path | None = None,
        key: Path | None = None, said: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.verifier, self.said = verifier, said
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._tls = _tls(certificate, key)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, _Handler)
        except (OSError, OverflowError) as error:
            raise Unavailable(
                "service.address", f"cannot listen at {address[0]} port {address[1]}: {error}",
                "choose another with --listen ADDRESS:PORT",
            ) from error

    @property
    def url(self) -> str:
        """Where it is."""
        host, port = self.server_address[:2]
        name = f"[{host!s}]" if self.address_family == socket.AF_INET6 else str(host)
        return f"{'https' if self._tls else 'http'}://{name}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """As the base class, but with an end of threads, and of each one's patience."""
        self._room.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """One client's; the handshake too, so that a silent client stops nobody else."""
        spare = request.dup()
        end = threading.Timer(PATIENCE, _shut, [spare])
        end.daemon = True
        end.start()
        try:
            request.settimeout(PATIENCE)
            if self._tls is not None:
                request = self._tls.wrap_socket(request, server_side=True)
            super().process_request_thread(request, client_address)
        except OSError as error:
            self.said(f"{client_address[0]}: {error}")
            self.shutdown_request(request)
        finally:
            end.cancel()
            spare.close()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no event."""
        self.said(f"{client_address[0]}: went away")


class _Handler(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.0"  # one request for each connection: nobody keeps a thread
    server_version = "shype"
    sys_version = ""

    def do_POST(self) -> None:
        """Answer one request."""
        ways: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
            "/v1/challenge": (1024, self._challenge),
            "/v1/evidence": (evidence.MAX_EVIDENCE, self._evidence),
            "/v1/enrol": (enrolment.MAX_DOCUMENT, self.server.verifier.enrol),
            "/v1/complete": (enrolment.MAX_DOCUMENT, self._complete),
        }
        way = ways.get(self.path)
        if way is None:
            self._error(404, BadInput("service.path", "there is no such request", ""))
            return
        limit, answer = way
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length) or int(length) > limit:
            self._error(413, BadInput(
                "service.length", f"a body of at most {limit} bytes must follow", ""))
            return
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            return
        try:
            self._send(200, answer(data))
        except BadInput as error:
            self._error(400, error)
        except ShypeError as error:
            self._error(503, error)
        except OSError as error:
            self._error(503, Unavailable("os.error", error.strerror or "the disk fails", ""))

    def _challenge(self, data: bytes) -> bytes:
        attester = _member(data, "attester")
        challenge = self.server.verifier.challenge(attester)
        return canonical.dumps({
            "eat_nonce": challenge.nonce.hex(), "pcrs": list(challenge.pcrs),
            "exp": challenge.expires,
        })

    def _evidence(self, data: bytes) -> bytes:
        result, sealed, _ = self.server.verifier.appraise(data)
        self.server.said(f"{result.host}: {result.verdict}"
                         + "".join(f"; {reason}" for reason in result.reasons[:3]))
        return sealed

    def _complete(self, data: bytes) -> bytes:
        host = self.server.verifier.complete(data)
        self.server.said(f"{host.name}: enrolled")
        return canonical.dumps({"host": host.name, "state": host.state})

    def _send(self, code: int, body: bytes) -> None:
        self.send_response_only(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, code: int, error: ShypeError) -> None:
        self.server.said(f"{self.client_address[0]}: {error.message} [{error.id}]")
        self._send(code, canonical.dumps(error.to_json()))

    def log_message(self, format: str, *args: object) -> None:
        """What the base class would print: bad HTTP. One line, nothing a client can forge."""
        text = (format % args).encode("unicode_escape").decode()[:200]
        self.server.said(f"{self.client_address[0]}: {text}")


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _member(data: bytes, name: str) -> str:
    try:
        value = json.loads(data.decode())
        found = value[name] if isinstance(value, dict) and value.keys() == {name} else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise BadInput("service.request", f'the body must be {{"{name}": 64 hex digits}}',
                       "`shype attest renew` asks rightly")
    return found


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The service's TLS; None, and so without, only if neither file was given."""
    fix = "give --tls-cert and --tls-key, PEM files that belong together"
    if certificate is None:
        if key is not None:
            raise BadInput("service.tls", f"--tls-cert is missing: {key} is only the key", fix)
        return None
    for path in (certificate, *([] if key is None else [key])):
        try:
            path.open("rb").close()  # OpenSSL does not say which of the two it cannot read
        except OSError as error:
            raise BadInput(
                "service.tls", f"{path} cannot be read: {error.strerror}", fix) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        # A certificate's file may have its key in it, so only now is it known that one is missing.
        missing = "" if key is not None else "--tls-key is missing, or "
        raise BadInput(
            "service.tls", f"{missing}the certificate {certificate} and its key cannot be used: "
            f"{error}", fix,
        ) from error
    return context

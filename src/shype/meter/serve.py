"""A page for Prometheus, and a file for node_exporter. Reads the ledger's head, nothing else."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.base.files import write_atomic
from shype.meter.ledger import Ledger
from shype.meter.openmetrics import CONTENT_TYPE, render
from shype.meter.reader import no_ledger

#: Seconds that a client may take.
_PATIENCE = 10


def text(ledger: Ledger) -> str:
    """The metrics. Raises BadInput (``meter.no-ledger``), Unavailable (``meter.broken``)."""
    head = ledger.head()
    if head is None:
        raise no_ledger(ledger.directory)
    return render(head)


def write(ledger: Ledger, file: Path) -> None:
    """The same into a file, whole or not at all. Raises as `text`, OSError."""
    write_atomic(file, text(ledger).encode(), 0o644, durable=False)


def server(ledger: Ledger, address: str) -> ThreadingHTTPServer:
    """A server at ``HOST:PORT`` that answers GET /metrics. The caller runs and closes it.

    Raises BadInput (``meter.address``), Unavailable (``meter.listen``).
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise BadInput("meter.address", f"{address!r} is no address to listen on",
                       "HOST:PORT, such as 127.0.0.1:9713")

    class Page(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            try:
                body = text(ledger).encode()
            except (ShypeError, OSError) as error:
                self.send_error(503, str(error).splitlines()[0][:200])
                return
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A library prints nothing."""

    try:
        return ThreadingHTTPServer((host.strip("[]"), int(port)), Page)
    except OSError as error:
        raise Unavailable("meter.listen", f"cannot listen on {address}: {error.strerror}",
                          "is another program there?") from error

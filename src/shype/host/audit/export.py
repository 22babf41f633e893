"""Records for other systems: syslog (RFC 5424) and journald's own protocol.

JSON lines need no form of their own: they are the trail's own lines.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shype.base.errors import Unavailable
from shype.host.audit.record import Record

#: Where the local daemons listen.
SYSLOG = Path("/dev/log")
JOURNALD = Path("/run/systemd/journal/socket")
#: What rsyslog takes by default, with some room for what daemons put before it, bytes. Of a longer
#: message it cuts the end off, or makes many of it (imptcp), without a mark.
LONGEST = 8000
#: What is left of each field of a record that is longer: enough to find it in the trail.
_SHORT = 64
#: RFC 5424: "log audit". (32473 below is the number that RFC 5612 gives to examples.)
_FACILITY = 13
_SEVERITY = {"refused": 4, "failed": 3}  # warning, error; else 5, notice
_STRUCTURED = ("kind", "result", "vm", "domid", "subject", "object", "object_label", "rule",
               "error", "shortened")
#: journald's names of fields: at most 64 characters of A-Z, 0-9 and _.
_PREFIX = "SHYPE_"


def syslog(record: Record, longest: int = LONGEST) -> str:
    """One line (without its end) by RFC 5424; what can be asked for is in structured data.

    If it were longer than ``longest`` bytes, its fields are cut and ``shortened="true"`` says so.
    """
    line = _syslog(record, record.body)
    if len(line.encode()) <= longest:
        return line
    return _syslog(record, _shortened(record.body))


def _syslog(record: Record, body: Mapping[str, Any]) -> str:
    said = " ".join(f'{name.replace("_", "-")}="{_quoted(str(body[name]))}"'
                    for name in _STRUCTURED if body.get(name) is not None)
    data = f'[shype@32473 seq="{record.seq}" hash="{record.hash}" {said}]'
    actor = body.get("actor")
    pid = str(actor.get("pid", "-")) if isinstance(actor, dict) else "-"
    return (f"<{priority(body)}>1 {_word(body.get('time'))} {_word(body.get('host'), 255)} shype "
            f"{_word(pid)} {_word(body.get('kind'), 32)} {data} {sentence(body)}")


def _shortened(body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` in less than 2048 bytes, whatever its fields hold."""
    kept = {name: _ascii(value)[:_SHORT] if isinstance(value, str) else value
            for name, value in body.items() if not isinstance(value, dict | list)}
    return {**kept, "shortened": "true"}


def _ascii(value: str) -> str:
    return _plain(value).encode("ascii", "backslashreplace").decode()


def local(record: Record, longest: int = LONGEST) -> bytes:
    """A datagram for /dev/log: the record as it stands, behind the mark that says it is JSON.

    (``@cee:``, as rsyslog's mmjsonparse and syslog-ng's json-parser know it; the daemon adds
    its own time.)  Instead of a record with which it were longer than ``longest`` bytes stands what
    is left of it, with its hash and ``shortened``.
    """
    head = f"<{priority(record.body)}>shype: @cee: "
    text = record.line.rstrip()
    if len(head) + len(text) > longest:
        text = json.dumps({**_shortened(record.body), "hash": record.hash}, sort_keys=True)
    return f"{head}{text}".encode()


def plain(text: str) -> bytes:
    """A datagram for /dev/log that is no record: facility audit, severity notice."""
    return f"<{_FACILITY * 8 + 5}>shype: {_plain(text)}".encode()


def plain_journal(text: str) -> bytes:
    """The same for journald."""
    return (f"MESSAGE={_plain(text)}\nPRIORITY=5\nSYSLOG_FACILITY={_FACILITY}\n"
            "SYSLOG_IDENTIFIER=shype\n").encode()


def journal(record: Record) -> bytes:
    """A datagram of journald's native protocol."""
    body = record.body
    fields = {
        "MESSAGE": f"{_plain(str(body.get('kind')))} {_plain(str(body.get('result')))}: "
        + sentence(body),
        "PRIORITY": str(priority(body) & 7), "SYSLOG_FACILITY": str(_FACILITY),
        "SYSLOG_IDENTIFIER": "shype", f"{_PREFIX}SEQ": str(record.seq),
        f"{_PREFIX}HASH": record.hash, f"{_PREFIX}TIME": str(body.get("time")),
    } | {f"{_PREFIX}{name.upper()}": str(body[name])
         for name in _STRUCTURED if body.get(name) is not None}
    return b"".join(_field(name, value.encode(errors="backslashreplace"))
                    for name, value in fields.items())


def priority(body: Mapping[str, Any]) -> int:
    """Facility and severity in one number."""
    return _FACILITY * 8 + _SEVERITY.get(str(body.get("result")), 5)


def sentence(body: Mapping[str, Any]) -> str:
    """For people, in one line without control characters."""
    found = body.get("sentence") or body.get("message") or body.get("kind")
    return _plain(str(found))


def send(place: Path, datagrams: list[bytes]) -> int:
    """Hand them over to the daemon that listens at ``place``; how many it took.

    Raises Unavailable (``audit.no-listener``).
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.connect(str(place))
            for datagram in datagrams:
                link.sendall(datagram)
    except OSError as error:
        raise Unavailable(
            "audit.no-listener", f"nothing takes records at {place}: {error.strerror}",
            "is the daemon running? syslog listens at /dev/log, journald at "
            "/run/systemd/journal/socket",
        ) from error
    return len(datagrams)


def _field(name: str, value: bytes) -> bytes:
    # With a line break in it, a value is sent with its length: it can never become another field.
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"


def _quoted(value: str) -> str:
    """Inside the quotes of structured data; control characters would be legal, and are a trap."""
    plain = _plain(value)
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _plain(value: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)


def _word(value: object, most: int = 48) -> str:
    """A field of the header: printable ASCII without blanks, ``most`` characters, or ``-``."""
    text = "".join(c for c in str(value) if "!" <= c <= "~")[:most]
    return text if value is not None and text else "-"

"""What other systems are given, and that no name in it can forge a field or a line."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.audit import export
from shype.host.audit.event import Event, Result
from shype.host.audit.reader import records
from shype.host.audit.record import Record
from tests.host.audit.builders import trail

HOSTILE = 'x" result="permitted"] \\\nSHYPE_RESULT=permitted\n\x1b[2J<0>1 - forged'
#: RFC 5424, section 6: the header, and one element of structured data.
LINE = re.compile(
    r'<(\d{1,3})>1 (\S+) (\S+) (\S+) (\S+) (\S+) '
    r'\[([^ =\]"]+)((?: [^ =\]"]+="(?:[^"\\\]]|\\["\\\]])*")*)\] (.*)')
PARAM = re.compile(r' ([^ =\]"]+)="((?:[^"\\\]]|\\["\\\]])*)"')


def record(directory: Path) -> Record:
    """A refusal about a VM with a hostile name."""
    made = trail(directory)
    made.record(Event(kind="disk.attach", result=Result.REFUSED, vm=HOSTILE, object="disk:/dev/x",
                      message=HOSTILE))
    return list(records(made.directory))[1]


def test_syslog_lines_are_rfc_5424(tmp_path: Path) -> None:
    line = export.syslog(record(tmp_path))
    found = LINE.fullmatch(line)
    assert found is not None, line
    assert int(found[1]) == 13 * 8 + 4
    assert found[4] == "shype"
    assert found[6] == "disk.attach"
    fields = PARAM.findall(found[8])
    assert [name for name, _ in fields] == ["seq", "hash", "kind", "result", "vm", "object"]
    assert dict(fields)["result"] == "refused"
    assert line.isprintable()


def test_journald_gets_fields_that_no_name_can_forge(tmp_path: Path) -> None:
    made = record(tmp_path)
    fields = _parse_journal(export.journal(made))
    assert [value for name, value in fields if name == "SHYPE_RESULT"] == [b"refused"]
    assert dict(fields)["SHYPE_VM"] == HOSTILE.encode()
    assert dict(fields)["SHYPE_SEQ"] == b"2"
    assert dict(fields)["PRIORITY"] == b"4"


def test_datagrams_arrive(tmp_path: Path) -> None:
    made = record(tmp_path)
    place = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(place))
        assert export.send(place, [export.local(made)]) == 1
        said = daemon.recv(65536)
    head, _, text = said.partition(b"@cee: ")
    assert head == b"<108>shype: "
    assert json.loads(text)["vm"] == HOSTILE
    with pytest.raises(Unavailable) as caught:
        export.send(tmp_path / "nobody", [b"x"])
    assert caught.value.id == "audit.no-listener"


def _parse_journal(data: bytes) -> list[tuple[str, bytes]]:
    """By the description of the protocol at systemd.io/JOURNAL_NATIVE_PROTOCOL."""
    found = []
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            found.append((name.decode(), value))
            data = rest
        else:
            size = int.from_bytes(rest[:8], "little")
            found.append((name.decode(), rest[8:8 + size]))
            assert rest[8 + size:9 + size] == b"\n"
            data = rest[9 + size:]
    return found

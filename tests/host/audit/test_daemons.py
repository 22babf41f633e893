"""What real daemons make of exported records: rsyslogd and systemd-journald, run for the test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shype.base import child
from shype.decision.decision import Decision
from shype.host.audit import export
from shype.host.audit.event import Event, Result
from shype.host.audit.reader import records
from shype.host.audit.record import Record
from shype.policy.names import LabelName
from tests.host.audit.builders import trail

JOURNALD = Path("/usr/lib/systemd/systemd-journald")
#: Seconds until a daemon that does not answer is given up.
PATIENCE = 60.0
HOSTILE = 'a"]\\ b\n<0>1 - - - - - - {"seq":1}\x1b[2J é'
CONFIG = """\
global(workDirectory="{place}" net.enableDNS="off")
module(load="imuxsock" SysSock.Use="off")
module(load="imptcp")
module(load="mmjsonparse")
template(name="fields" type="list" option.jsonf="on") {{
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="kind" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
template(name="parsed" type="list") {{ property(name="$!all-json-plain") constant(value="\\n") }}
ruleset(name="stream") {{ action(type="omfile" file="{place}/stream.out" template="fields") }}
ruleset(name="local") {{
  action(type="mmjsonparse")
  if $parsesuccess == "OK" then action(type="omfile" file="{place}/local.out" template="parsed")
  else action(type="omfile" file="{place}/bad.out" template="fields")
}}
input(type="imuxsock" Socket="{place}/log" CreatePath="on" ruleset="local")
input(type="imptcp" path="{place}/stream" ruleset="stream")
"""


def until(what: Callable[[], Any]) -> Any:
    """The first answer that is not empty."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    pytest.fail("the daemon did not answer")


@contextmanager
def running(*argv: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, ended with the test."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture
def made(tmp_path: Path) -> list[Record]:
    """Records of every kind: plain, hostile, longer than rsyslog takes, as long as any may be."""
    kept = trail(tmp_path)
    for name, filler in (("a-db", 0), (HOSTILE, 0), ("long", 9_000), ("longest", 60_000)):
        kept.record(Event(
            kind="launch", result=Result.REFUSED, vm=name, object=f"vm:{name}",
            decision=Decision(False, "wall.conflict", f"{name} may not start."),
            details={"text": "y" * filler}))
    return list(records(kept.directory))


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Path]:
    """A directory in which rsyslogd listens at `log` and at `stream`."""
    program = shutil.which("rsyslogd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("rsyslogd is not installed (make setup does)")
    place = tmp_path / "rsyslog"
    place.mkdir()
    (place / "conf").write_text(CONFIG.format(place=place))
    with running(program, "-n", "-f", place / "conf", "-i", place / "pid"):
        until(lambda: (place / "log").exists() and (place / "stream").exists())
        yield place


def lines(file: Path, count: int) -> list[Any]:
    """So many lines of JSON, once they are there."""
    def read() -> list[str]:
        found = file.read_text().splitlines() if file.exists() else []
        return found if len(found) >= count else []

    return [json.loads(line) for line in until(read)]


def test_rsyslogd_gets_each_record_whole_or_marked(rsyslog: Path, made: list[Record]) -> None:
    assert export.send(rsyslog / "log", [export.local(record) for record in made]) == len(made)
    got = lines(rsyslog / "local.out", len(made))
    assert not (rsyslog / "bad.out").exists()
    for record, value in zip(made, got, strict=True):
        assert value["hash"] == record.hash
        assert value["seq"] == record.seq
        whole = len(record.line) < 7_900
        assert ("shortened" in value) is not whole
        if whole:
            assert value == json.loads(record.line)
        else:
            assert value["vm"] == record.body["vm"]
    assert [len(record.line) < 7_900 for record in made] == [True, True, True, False, True]
    assert got[2]["vm"] == HOSTILE


def test_rsyslogd_reads_the_fields_of_rfc_5424(rsyslog: Path, made: list[Record]) -> None:
    text = "".join(f"{export.syslog(record)}\n" for record in made).encode()
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(rsyslog / "stream"))
        link.sendall(text)
    got = lines(rsyslog / "stream.out", len(made))
    assert len(got) == len(made)
    for record, value in zip(made, got, strict=True):
        assert value["app"] == "shype"
        assert value["kind"] == record.body["kind"]
        assert value["host"] == record.body["host"]
        assert value["pri"] == str(export.priority(record.body))
        assert value["time"] == record.body["time"]
        assert value["data"].startswith(f'[shype@32473 seq="{record.seq}" hash="{record.hash}" ')
        assert value["data"].endswith('"]')
        assert value["text"].lstrip() == export.sentence(record.body)
    assert 'rule="wall.conflict"' in got[1]["data"]
    # What a name holds is no field, no line and no control character.
    assert "\\x1b" in got[2]["data"]
    assert '\\"\\]' in got[2]["data"]


def test_a_line_for_rsyslog_is_never_too_long(made: list[Record], tmp_path: Path) -> None:
    kept = trail(tmp_path / "other")
    for hostile in ('"]\\', "\0\x1b", "\U0001f600", "\U00100000"):
        kept.record(Event(
            kind="launch", result=Result.REFUSED, vm=hostile * 3000, domid=1, error=hostile * 300,
            subject=LabelName(hostile * 300), object=hostile * 300, object_label=hostile * 300,
            decision=Decision(False, hostile * 300, hostile * 300), message=hostile * 300))
    for record in (*made, *records(kept.directory)):
        for longest in (2048, 8000):
            assert len(export.syslog(record, longest).encode()) <= longest
            assert len(export.local(record, longest)) <= longest
        assert export.local(record, 100_000).endswith(record.line.rstrip().encode())


JOURNAL_SCRIPT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal /run/log/journal || exit 1
echo 0123456789abcdef0123456789abcdef > /run/id
[ -e /etc/machine-id ] || touch /etc/machine-id
mount --bind /run/id /etc/machine-id && exec "$0"
"""


@pytest.fixture
def journald() -> Iterator[Path]:
    """The /run of a systemd-journald that has a mount namespace of its own."""
    if not JOURNALD.exists() or os.geteuid() != 0 or subprocess.run(
            ["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no systemd-journald in a mount namespace of its own (root)")
    with running("unshare", "-m", "sh", "-c", JOURNAL_SCRIPT, JOURNALD) as process:
        root = Path(f"/proc/{process.pid}/root/run")
        until(lambda: process.poll() is None and (root / "log/journal" / ("0123456789abcdef" * 2)
                                                  / "system.journal").exists())
        yield root


def test_journald_gets_each_record_with_its_fields(journald: Path, made: list[Record]) -> None:
    place = journald / "systemd/journal/socket"
    assert export.send(place, [export.journal(record) for record in made]) == len(made)

    def read() -> list[str]:
        done = child.run(["journalctl", "-D", str(journald / "log/journal"), "-o", "json", "--all",
                          "SYSLOG_IDENTIFIER=shype"], check=False)
        found = done.out.splitlines()
        return found if len(found) >= len(made) else []

    got = [json.loads(line) for line in until(read)]
    assert len(got) == len(made)
    for record, value in zip(made, got, strict=True):
        assert value["SHYPE_SEQ"] == str(record.seq)
        assert value["SHYPE_HASH"] == record.hash
        assert value["SHYPE_KIND"] == record.body["kind"]
        assert value["SHYPE_RESULT"] == record.body["result"]
        assert value["PRIORITY"] == str(export.priority(record.body) & 7)
    assert got[1]["SHYPE_RULE"] == "wall.conflict"
    hostile = got[2]["SHYPE_VM"]  # not only printable: journalctl gives its bytes
    assert (hostile if isinstance(hostile, str) else bytes(hostile).decode()) == HOSTILE

"""What a record costs: one append beside a plain append and flush, and verifying 100,000."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from shype.host.audit import head as heads
from shype.host.audit import keyfile
from shype.host.audit.event import Event, Result
from shype.host.audit.record import encode, following
from shype.host.audit.stamp import stamped
from shype.host.audit.trail import Trail
from shype.host.audit.verify import verify
from shype.policy.names import LabelName

EVENT = Event(kind="launch", result=Result.DONE, vm="a-db", domid=7,
              subject=LabelName("bank-a-db"), object="config:/etc/xen/vms/a-db.cfg",
              details={"uuid": "6a1cdb9a-0000-4000-8000-000000000000"})
APPENDS = 300
RECORDS = 100_000


def plain(file: Path, data: bytes) -> float:
    """Seconds of one append of ``data`` that is flushed, as any log has it."""
    began = time.perf_counter()
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, data)
    os.fdatasync(handle)
    os.close(handle)
    return time.perf_counter() - began


def appended(trail: Trail) -> float:
    """Seconds of one record."""
    began = time.perf_counter()
    trail.record(EVENT)
    return time.perf_counter() - began


def filled(trail: Trail, count: int) -> None:
    """Give ``trail`` ``count`` more records, without flushing each."""
    head = trail.head()
    assert head is not None
    body = stamped(EVENT)
    with trail.path.open("ab") as file:
        for _ in range(count):
            line, digest = encode(body, head.seq + 1, head.hash, head.key)
            file.write(line)
            head = replace(head, seq=head.seq + 1, hash=digest, key=following(head.key),
                           offset=head.offset + len(line))
    trail.places.head.write_bytes(heads.image(head.proved()))


def main(place: Path | None = None) -> None:
    """Print the figures, measured in ``place`` (default: the temporary directory)."""
    directory = Path(tempfile.mkdtemp(dir=place))
    try:
        trail = Trail(directory / "state" / "audit")
        trail.record(EVENT)
        line = trail.path.read_bytes().splitlines(keepends=True)[-1]
        plains, records = [], []
        for _ in range(APPENDS):  # in turn, so that what else the machine does meets both
            plains.append(plain(directory / "plain", line))
            records.append(appended(trail))
        a, b = statistics.median(plains), statistics.median(records)
        print(f"append, {len(line)} bytes: plain and flushed {a * 1e3:.2f} ms, "
              f"audit record {b * 1e3:.2f} ms: {b / a:.1f} times (medians of {APPENDS})")
        known = keyfile.read(trail.places.key)
        filled(trail, RECORDS)
        began = time.process_time()
        report = verify([trail.directory], known)
        took = time.process_time() - began
        assert report.good, report.problems[:3]
        print(f"verify with the key, {report.records} records: {took:.1f} s of CPU, "
              f"{report.records / took:,.0f} records a second")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()

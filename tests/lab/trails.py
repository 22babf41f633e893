"""The audit trail of a lab's dom0, seen from outside."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shype.lab.host import Lab


def shype(lab: Lab, *words: str) -> tuple[int, Any]:
    """A command with --json in dom0; exit code and answer."""
    done = lab.run(["shype", *words, "--json"], timeout=300)
    assert done.out, done.err
    return done.code, json.loads(done.out)


def shown(lab: Lab, *words: str) -> list[dict[str, Any]]:
    """Records of dom0's trail."""
    code, value = shype(lab, "audit", "show", *words)
    assert code == 0
    found: list[dict[str, Any]] = value["records"]
    return found


@contextlib.contextmanager
def watched(lab: Lab) -> Iterator[None]:
    """`shype watch` runs meanwhile."""
    lock = "/var/lib/shype/watch.lock"  # has the process's id in it
    lab.sh(f"rm -f {lock}")
    lab.spawn(["shype", "watch"], "/run/watch.log")
    ready = lab.sh(f"for i in $(seq 600); do [ -s {lock} ] && head -n 1 {lock} && exit 0; "
                   "sleep 0.1; done; exit 1", timeout=120)
    assert ready.code == 0, lab.get("/run/watch.log").decode()
    pid = int(ready.out)
    try:
        yield
    finally:
        lab.sh(f"kill {pid}; while [ -e /proc/{pid}/exe ]; do sleep 0.1; done", timeout=120)


def copied(lab: Lab, into: Path, state: str = "/var/lib/shype") -> Path:
    """The trail's directory as docs/how-to/audit.md says to copy it; without its key."""
    done = lab.sh(f"cd {state} && shype audit copy --state {state} /run/copy.$$ && "
                  "tar -C /run/copy.$$ -czf /run/audit.tgz . && rm -r /run/copy.$$", timeout=120)
    assert done.code == 0, done.err
    with tarfile.open(fileobj=io.BytesIO(lab.get("/run/audit.tgz"))) as archive:
        archive.extractall(into, filter="data")
    return into

"""Content-addressed build stages: a stage is there whole or not at all.

A stage's directory is named by the hash of everything that determines its
content.  It is built beside its final place and renamed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shype.base import canonical

#: What a build reports: stage, what happens, seconds so far (None: it starts).
Progress = Callable[[str, str, float | None], None]


def silent(stage: str, what: str, seconds: float | None) -> None:
    """The progress report of those who do not want any."""


@dataclass(frozen=True, slots=True)
class Store:
    """All stages of one cache directory."""

    root: Path
    progress: Progress = silent

    def path(self, stage: str, inputs: Mapping[str, object]) -> Path:
        """The directory of ``stage`` made from ``inputs`` (JSON values), built or not."""
        key = canonical.digest(canonical.dumps(dict(inputs)))[:20]
        return self.root / "stages" / f"{stage}-{key}"

    def ensure(
        self, stage: str, inputs: Mapping[str, object], make: Callable[[Path], None]
    ) -> Path:
        """The directory of ``stage``; ``make`` fills an empty one if it is not there yet.

        Two processes that want the same stage wait for each other.  Whatever
        ``make`` raises goes through, and leaves nothing behind.
        """
        final = self.path(stage, inputs)
        if final.is_dir():
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        with locked(final.parent / f".{final.name}.lock"):
            if final.is_dir():
                return final
            self._sweep(final)
            began = time.monotonic()
            self.progress(stage, "building", None)
            work = Path(tempfile.mkdtemp(".part", f".{final.name}.", final.parent))
            try:
                make(work)
                (work / "inputs.json").write_bytes(canonical.dumps(dict(inputs)))
                work.chmod(0o755)
                work.rename(final)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            self.progress(stage, "built", time.monotonic() - began)
        return final

    def _sweep(self, final: Path) -> None:
        """Remove what a build left that was killed; the lock is ours, so nobody works on it."""
        for old in final.parent.glob(f".{final.name}.*.part"):
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; the kernel releases it even if this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

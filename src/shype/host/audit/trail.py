"""Where audit records are kept: one JSON line each, appended and flushed before the act goes on."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.audit.event import Event


@dataclass(frozen=True, slots=True)
class Trail:
    """The audit trail below ``directory``, which only root may write."""

    directory: Path

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self.directory / "audit.jsonl"

    def record(self, event: Event) -> None:
        """Append ``event``; it is on the disk when this returns.

        Raises Unavailable (``audit.unwritable``): what is not recorded must not happen.
        """
        value = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds"),
            "host": socket.gethostname(), "uid": os.getuid(), "pid": os.getpid(),
            **event.to_json(),
        }
        line = json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                             0o600)
            try:
                os.write(handle, line)
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise Unavailable(
                "audit.unwritable", f"the audit trail cannot be written: {error.strerror}",
                f"make room or mend {self.directory}; nothing starts without a record",
            ) from error

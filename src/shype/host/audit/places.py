"""The files of a trail, in one directory that only root may enter."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_CLOSED = re.compile(r"audit-(\d{12,})-(\d{12,})\.jsonl")


@dataclass(frozen=True, slots=True)
class Places:
    """Where is what."""

    directory: Path

    @property
    def current(self) -> Path:
        """The file that is written now."""
        return self.directory / "audit.jsonl"

    @property
    def fresh(self) -> Path:
        """The next file, until the current one is closed."""
        return self.directory / ".audit.jsonl"

    @property
    def head(self) -> Path:
        """Where the chain ends (`shype.host.audit.head`)."""
        return self.directory / "head"

    @property
    def reserve(self) -> Path:
        """Room that is kept for what may not be refused when the disk is full."""
        return self.directory / "reserve"

    @property
    def key(self) -> Path:
        """The verification key, until the administrator has taken it away."""
        return self.directory / "verification.key"

    @property
    def unchained(self) -> Path:
        """Records that could not be chained, because the chain itself is broken."""
        return self.directory / "unchained.jsonl"

    @property
    def lock(self) -> Path:
        """Held by who writes (flock)."""
        return self.directory / "lock"

    @property
    def anchor(self) -> Path:
        """Beside the directory: how far the trail had come, should the directory be replaced."""
        return self.directory.with_name("audit.anchor")

    @property
    def answer(self) -> Path:
        """In a copy: the answer to the nonce of who asked for it."""
        return self.directory / "fresh"

    @property
    def loads(self) -> Path:
        """Beside the directory, or in a copy of it: where it ended at each load of a policy."""
        inside = self.directory / "anchors"
        return inside if inside.exists() else self.directory.with_name("audit.anchors")

    def closed(self) -> list[tuple[int, int, Path]]:
        """The files that are full: numbers of their first and last record, in order."""
        found = ((_CLOSED.fullmatch(path.name), path) for path in self.directory.iterdir())
        return sorted((int(m[1]), int(m[2]), path) for m, path in found if m)

    def closing(self, first: int, last: int) -> Path:
        """What the current file is called once it is full."""
        return self.directory / f"audit-{first:012d}-{last:012d}.jsonl"

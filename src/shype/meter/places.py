"""The files of a ledger, in one directory that only root may enter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLOSED = re.compile(r"ledger-(\d{12})\.jsonl\.gz")


@dataclass(frozen=True, slots=True)
class Places:
    """Paths of a ledger in ``directory``."""

    directory: Path

    @property
    def current(self) -> Path:
        """The file that is written now: one record in each line."""
        return self.directory / "ledger.jsonl"

    @property
    def head(self) -> Path:
        """Where the chain ends, and what the next record is counted from."""
        return self.directory / "head.json"

    @property
    def key(self) -> Path:
        """The private key that signs the next record."""
        return self.directory / "key.pem"

    @property
    def next_key(self) -> Path:
        """The one that follows it, while keys change."""
        return self.directory / "key-next.pem"

    @property
    def public(self) -> Path:
        """The first public key of the ledger: a copy of it elsewhere is what `verify` trusts."""
        return self.directory / "first.pub"

    def closed(self, first: int) -> Path:
        """A file that is written no more, whose first record is ``first``."""
        return self.directory / f"ledger-{first:012}.jsonl.gz"

    def all_closed(self) -> Iterator[tuple[int, Path]]:
        """Those that are there, in order, with the numbers of their first records."""
        for path in sorted(self.directory.glob("ledger-*.jsonl.gz")):
            match = _CLOSED.fullmatch(path.name)
            if match is not None:
                yield int(match[1]), path

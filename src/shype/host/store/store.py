"""What the agent needs of XenStore, and the access lists of its nodes.

Implemented by `shype.host.store.client` (the daemon's socket in dom0) and
`shype.host.drivers.model_store` (in-process).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from shype.base.errors import Unavailable

_ENTRY = re.compile(r"([nrwb])([0-9]{1,5})")


class StoreError(Unavailable):
    """The store's daemon refused a request (``store.refused``); ``errno`` is its own word."""

    def __init__(self, errno: str, what: str) -> None:
        super().__init__("store.refused", f"xenstored refused to {what}: {errno}",
                         "look at the node with xenstore-ls -fp")
        self.errno = errno


@dataclass(frozen=True, slots=True)
class Acl:
    """A node's access list: the owner, what everybody else may, and the exceptions by domid.

    Rights are letters of the store's own: ``n`` none, ``r`` read, ``w`` write, ``b`` both. The
    owner may always do everything.
    """

    owner: int
    others: str = "n"
    entries: tuple[tuple[int, str], ...] = ()

    @classmethod
    def parse(cls, words: tuple[str, ...]) -> Self:
        """Read what GET_PERMS answers. Raises Unavailable (``store.answer``)."""
        found = [_ENTRY.fullmatch(word) for word in words]
        if not found or any(match is None for match in found):
            raise Unavailable("store.answer", f"XenStore gave no access list: {' '.join(words)}")
        pairs = [(int(match[2]), match[1]) for match in found if match is not None]
        return cls(pairs[0][0], pairs[0][1], tuple(pairs[1:]))

    @property
    def words(self) -> tuple[str, ...]:
        """As SET_PERMS takes it."""
        pairs = ((self.owner, self.others), *self.entries)
        return tuple(f"{right}{domid}" for domid, right in pairs)

    @property
    def readers(self) -> frozenset[int]:
        """Who is named as a reader, the owner included."""
        return frozenset({self.owner, *(d for d, right in self.entries if right in "rb")})

    @property
    def writers(self) -> frozenset[int]:
        """Who is named as a writer, the owner included."""
        return frozenset({self.owner, *(d for d, right in self.entries if right in "wb")})

    def __str__(self) -> str:
        return " ".join(self.words)


class Store(Protocol):
    """The store as dom0 sees it. Paths are absolute.

    Every method raises `StoreError` if the daemon refuses, Unavailable (``host.no-xenstore``,
    ``store.answer``) if it does not answer or not as it should.
    """

    def directory(self, path: str) -> tuple[str, ...]:
        """The names of a node's children."""

    def read(self, path: str) -> bytes:
        """A node's value."""

    def write(self, path: str, value: bytes) -> None:
        """Set a node's value; the node, and those above it, are made if need be."""

    def make(self, path: str) -> None:
        """Make a node if it is not there, and those above it; a new one inherits its list."""

    def remove(self, path: str) -> None:
        """Remove a node and all below it; no error if it is not there."""

    def acl(self, path: str) -> Acl:
        """A node's access list."""

    def set_acl(self, path: str, acl: Acl) -> None:
        """Replace it."""

    def acls(self) -> Mapping[str, Acl]:
        """The access lists of all nodes, by path. A node that goes meanwhile is left out."""

    def control(self, *words: str) -> str:
        """An administrator's command to the daemon (XS_CONTROL); what it answers."""

    def listing(self, path: str) -> tuple[str, tuple[str, ...]]:
        """What DIRECTORY_PART tells: the mark by which a change is noticed, and the children."""

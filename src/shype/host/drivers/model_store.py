"""A model of XenStore: nodes with values and access lists, and the quota of permissions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from shype.host.store.store import Acl, StoreError

#: A node: its value, and its access list as the store's own words.
Node = tuple[str, list[str]]


@dataclass
class Contents:
    """All nodes by path. ``permissions``: the quota; None is a daemon without it."""

    nodes: dict[str, Node] = field(default_factory=lambda: {"/": ("", ["n0"])})
    permissions: int | None = 0

    def introduce(self, domid: int) -> None:
        """What a toolstack makes for a new domain."""
        for path in (f"/local/domain/{domid}", f"/local/domain/{domid}/data"):
            self.make(path)
            self.nodes[path] = ("", [f"n{domid}"])

    def release(self, domid: int) -> None:
        """What goes with a domain."""
        self.remove(f"/local/domain/{domid}")

    def make(self, path: str) -> None:
        """A node and those above it; a new one inherits its parent's list."""
        if path not in self.nodes:
            above = path.rpartition("/")[0] or "/"
            self.make(above)
            self.nodes[path] = ("", list(self.nodes[above][1]))

    def remove(self, path: str) -> None:
        """A node and all below it."""
        for found in [p for p in self.nodes if p == path or p.startswith(f"{path}/")]:
            del self.nodes[found]

    def to_json(self) -> dict[str, object]:
        """For the model's file."""
        return {"nodes": {p: [v, acl] for p, (v, acl) in self.nodes.items()},
                "permissions": self.permissions}

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Raises KeyError, TypeError, ValueError."""
        nodes = {str(p): (str(v), [str(w) for w in acl]) for p, (v, acl) in value["nodes"].items()}
        return cls(nodes, value["permissions"])


class ModelStore:
    """Implements `shype.host.store.store.Store`, for dom0."""

    def __init__(self, contents: Callable[[], AbstractContextManager[Contents]]) -> None:
        self._contents = contents

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Nothing is held."""

    def directory(self, path: str) -> tuple[str, ...]:
        """See the protocol."""
        with self._contents() as contents:
            _node(contents, path)
            prefix = path.rstrip("/") + "/"
            below = (p.removeprefix(prefix) for p in contents.nodes if p.startswith(prefix))
            return tuple(name for name in below if name and "/" not in name)

    def listing(self, path: str) -> tuple[str, tuple[str, ...]]:
        """See the protocol; the mark depends on the children alone."""
        names = self.directory(path)
        return " ".join(names), names

    def read(self, path: str) -> bytes:
        """See the protocol."""
        with self._contents() as contents:
            return _node(contents, path)[0].encode("utf-8", "surrogateescape")

    def write(self, path: str, value: bytes) -> None:
        """See the protocol."""
        with self._contents() as contents:
            contents.make(path)
            text = value.decode("utf-8", "surrogateescape")
            contents.nodes[path] = (text, contents.nodes[path][1])

    def make(self, path: str) -> None:
        """See the protocol."""
        with self._contents() as contents:
            contents.make(path)

    def remove(self, path: str) -> None:
        """See the protocol."""
        with self._contents() as contents:
            contents.remove(path)

    def acl(self, path: str) -> Acl:
        """See the protocol."""
        with self._contents() as contents:
            return Acl.parse(tuple(_node(contents, path)[1]))

    def set_acl(self, path: str, acl: Acl) -> None:
        """See the protocol."""
        with self._contents() as contents:
            contents.nodes[path] = (_node(contents, path)[0], list(acl.words))

    def acls(self) -> Mapping[str, Acl]:
        """See the protocol."""
        with self._contents() as contents:
            return {p: Acl.parse(tuple(acl)) for p, (_, acl) in contents.nodes.items()}

    def control(self, *words: str) -> str:
        """See the protocol; only ``quota`` is known."""
        with self._contents() as contents:
            if words != ("quota",):
                raise StoreError("EINVAL", f"control {' '.join(words)}")
            if contents.permissions is None:
                return "OK"
            return f"Quota settings:\npermissions      : {contents.permissions:8d} Permissions\n"


def _node(contents: Contents, path: str) -> Node:
    found = contents.nodes.get(path)
    if found is None:
        raise StoreError("ENOENT", f"look at {path}")
    return found

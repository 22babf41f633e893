"""Which entries of a policy name a thing, by any of its names.

A policy names disks by paths and patterns.  What counts is the thing that a path leads to: so
every path that the policy names is looked at, and the thing is labelled by all entries whose
paths lead to it, whatever name a configuration uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shype.base.errors import Unavailable
from shype.host.resources import identity
from shype.host.resources.identity import Identity, Thing
from shype.policy.model import Policy, Resource, ResourceKind
from shype.policy.resources import ResourceTable, exact, label_key

#: Most paths that the patterns of a policy may make the agent look at.
PATHS_LIMIT = 200_000
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Named:
    """The entries that label a thing: none, one, or several of the same or different labels."""

    entries: tuple[Resource, ...]

    @property
    def labels(self) -> int:
        """How many different labels they give it."""
        return len({label_key(entry.label) for entry in self.entries})


@dataclass(slots=True)
class Labels:
    """The things that the policy names, as they are now. Made once per command."""

    policy: Policy
    table: ResourceTable
    _index: dict[Identity, list[Resource]] | None = field(default=None)
    _places: list[tuple[str, Resource]] = field(default_factory=list)

    @classmethod
    def of(cls, policy: Policy) -> Labels:
        """The labels of ``policy``."""
        return cls(policy, ResourceTable(policy.resources))

    def named(self, thing: Thing) -> Named:
        """The entries that name ``thing`` itself.

        Its names are: its real path, what the kernel calls it, and every path that an entry
        names and that leads to it (symbolic and hard links, other mounts).  A loop device has
        the names of the file behind it, too, and a disk those of the other paths to it.
        """
        things = identity.selves(thing.identity)
        names = {thing.path} if thing.path.startswith("/") else set()
        names |= {name for one in things if (name := identity.node_name(one)) is not None}
        found = [e for name in sorted(names) if (e := self._by_name(name)) is not None]
        for one in sorted(things):
            found += self._known().get(one, [])
        return Named(tuple(dict.fromkeys(found)))

    def places(self) -> Sequence[tuple[str, Resource]]:
        """The paths on this host that the policy names, with the entry of each."""
        self._known()
        return self._places

    def _by_name(self, name: str) -> Resource | None:
        # A path that no policy could name (too long, strange characters) has no label by name.
        try:
            return self.table.match(ResourceKind.DISK, name)
        except Exception as error:
            if getattr(error, "id", "") == "resource.name":
                return None
            raise

    def _known(self) -> dict[Identity, list[Resource]]:
        if self._index is None:
            index: dict[Identity, list[Resource]] = {}
            for path in _paths(e.pattern for e in self.policy.resources
                               if e.kind is ResourceKind.DISK):
                entry = self._by_name(path)
                if entry is None:
                    continue
                try:
                    found = identity.of_status(Path(path).stat())
                except OSError:
                    continue  # named, and not there
                if found is not None:
                    self._places.append((path, entry))
                for one in {found, identity.behind(found)} if found is not None else ():
                    kept = index.setdefault(one, [])
                    if entry not in kept:
                        kept.append(entry)
            self._index = index
        return self._index


def _paths(patterns: Iterable[str]) -> Iterator[str]:
    """The paths on this host that exact names are, or that lie where patterns begin."""
    roots: set[str] = set()
    for pattern in patterns:
        if not pattern.startswith("/"):
            continue
        if exact(ResourceKind.DISK, pattern):
            yield pattern
            continue
        wild = _WILD.search(pattern)
        roots.add(pattern[: wild.start() if wild else None].rpartition("/")[0] or "/")
    count = 0
    for root in sorted(roots):
        if any(root != other and (root + "/").startswith(other.rstrip("/") + "/")
               for other in roots):
            continue  # another one holds it
        for path in _walk(root):
            count += 1
            if count > PATHS_LIMIT:
                raise Unavailable(
                    "disk.too-many-paths",
                    f"the patterns of the policy lead to more than {PATHS_LIMIT:,} paths here",
                    "let the patterns begin with the directory of the disks: /srv/disks/red-*",
                )
            yield path


def _walk(root: str) -> Iterator[str]:
    """All paths below ``root``; links are named, and not gone into."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)

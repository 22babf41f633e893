"""Hosts that take long to get ready are saved once, and whoever comes later goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import shype
from shype.base import canonical
from shype.lab import builder, paths
from shype.lab.host import Lab, forget
from shype.lab.stages import locked

SOURCE = Path(shype.__file__).parent


def resumed(
    kind: str, parts: Sequence[str], begin: Callable[[], AbstractContextManager[Lab]],
) -> Lab:
    """The host that ``begin`` makes, as of its end; the caller ends it.

    ``kind``: what states of it are called; of each kind the last one is kept. ``parts``: what
    `begin` depends on, besides the lab and the sources of what runs in dom0.
    """
    built = builder.build()
    made_of = [*parts, built.xen, built.image, built.guest_initrd,
               *sources("base", "cli", "attest", "meter")]
    digest = canonical.digest(canonical.dumps([str(part) for part in made_of]))[:16]
    state = f"{kind}-{digest}"
    with locked(paths.states() / f".{kind}-lock"):
        if not (paths.states() / state).is_dir():
            for old in paths.states().glob(f"{kind}-*"):
                forget(old.name)
            with begin() as lab:
                lab.save(state)
    return Lab.restore(state)


def sources(*more: str) -> list[str]:
    """What may have a part in how a host gets ready; ``more``: files or directories of shype."""
    places = [SOURCE / name for name in ("host", "decision", "policy", "compile", *more)]
    return [path.read_text() for place in places
            for path in ([place] if place.is_file() else sorted(place.rglob("*.py")))]

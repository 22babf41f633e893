"""Reference values of boots, as a verifier keeps them: which registers a good boot leaves.

Made by `shype attest reference` from what is booted (`shype.attest.boot`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from shype.attest.boot import COMPUTED, Kind, Way
from shype.attest.event_log import Event
from shype.base import canonical
from shype.base.errors import BadInput

_FORMAT = 1
_HEX = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Step:
    """One measured thing of the good boot, to say what differs: register, digest, description."""

    pcr: int
    digest: str
    what: str

    @classmethod
    def of(cls, event: Event) -> Self:
        """Of an event of `shype.attest.boot`."""
        return cls(event.pcr, (event.sha256 or b"").hex(),
                   event.data.rstrip(b"\0").decode("utf-8", "backslashreplace"))


@dataclass(frozen=True, slots=True)
class Boot:
    """An acceptable boot: the values of the registers `COMPUTED`, in hexadecimal."""

    kind: Kind
    other: str | None
    pcrs: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class BootReference:
    """All acceptable boots of one policy; ``bundle`` and ``module`` are digests.

    ``steps``: what is measured when it is booted as the good one.
    """

    policy: str
    version: str
    bundle: str
    module: str
    boots: tuple[Boot, ...]
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, ways: Sequence[Way], *, policy: str, version: str, bundle: str, module: str
           ) -> Self:
        """Of `shype.attest.boot.Machine.ways`; the first is the good one."""
        boots = tuple(Boot(way.kind, way.other, {pcr: value.hex() for pcr, value in
                                                 sorted(way.pcrs.items())}) for way in ways)
        return cls(policy, version, bundle, module, boots,
                   tuple(Step.of(event) for event in ways[0].events))

    def matching(self, pcrs: Mapping[int, bytes]) -> Boot | None:
        """The acceptable boot that leaves these registers."""
        for boot in self.boots:
            if all(pcrs.get(pcr, b"").hex() == value for pcr, value in boot.pcrs.items()):
                return boot
        return None

    def wrong(self, pcrs: Mapping[int, bytes]) -> tuple[int, ...]:
        """Registers that hold what no acceptable boot leaves; never empty if none `matching`."""
        bad = [pcr for pcr in COMPUTED
               if not any(pcrs.get(pcr, b"").hex() == boot.pcrs[pcr] for boot in self.boots)]
        if not bad and self.matching(pcrs) is None:
            return COMPUTED  # each is of some good boot, and all together of none
        return tuple(bad)

    def differences(self, claimed: Iterable[Event]) -> tuple[str, ...]:
        """What the host says it booted that the good boot does not have.

        The claim is to be believed only if its replay gives the quoted registers.
        """
        usual = {(step.pcr, step.digest) for step in self.steps}
        return tuple(f"PCR {step.pcr}: {step.what}" for step in map(Step.of, claimed)
                     if (step.pcr, step.digest) not in usual)

    def to_json(self) -> dict[str, object]:
        """As `dumps` writes it."""
        return {
            "format": _FORMAT, "policy": self.policy, "version": self.version,
            "bundle": self.bundle, "module": self.module,
            "boots": [{"kind": one.kind.value, "other": one.other,
                       "pcrs": {str(pcr): value for pcr, value in one.pcrs.items()}}
                      for one in self.boots],
            "steps": [[step.pcr, step.digest, step.what] for step in self.steps],
        }


def dumps(references: Iterable[BootReference]) -> bytes:
    """A file of reference values, of one or several policies."""
    return canonical.dumps({"boot": [one.to_json() for one in references]})


def loads(data: bytes, name: str) -> tuple[BootReference, ...]:
    """The references of a file. Raises BadInput (``reference.corrupt``)."""
    try:
        value = json.loads(data)
        found = tuple(_reference(one) for one in value["boot"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput("reference.corrupt", f"{name} has no reference values of boots: {error}",
                       "make it with `shype attest reference`") from error
    return found


def _reference(value: Mapping[str, object]) -> BootReference:
    if value["format"] != _FORMAT:
        raise ValueError(f"format {value['format']!r}")
    texts = {name: value[name] for name in ("policy", "version", "bundle", "module")}
    boots, steps = value["boots"], value["steps"]
    if not isinstance(boots, list) or not boots or not isinstance(steps, list) or not all(
            isinstance(text, str) for text in texts.values()):
        raise ValueError("a reference is incomplete")
    return BootReference(
        **texts,  # type: ignore[arg-type]
        boots=tuple(_boot(one) for one in boots),
        steps=tuple(Step(int(pcr), _hex(digest), str(what)) for pcr, digest, what in steps))


def _boot(value: Mapping[str, object]) -> Boot:
    other, pcrs = value["other"], value["pcrs"]
    if other is not None and not (isinstance(other, str) and _ID.fullmatch(other)):
        raise ValueError("a policy's id is malformed")
    if not isinstance(pcrs, dict) or pcrs.keys() != {str(pcr) for pcr in COMPUTED}:
        raise ValueError("the registers of a boot are not those that shype computes")
    return Boot(Kind(str(value["kind"])), other, {int(pcr): _hex(one) for pcr, one in pcrs.items()})


def _hex(value: object) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError("a digest is malformed")
    return value

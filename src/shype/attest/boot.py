"""What the registers of a TPM must hold after a boot that `shype host install` has set up.

Computed from what is booted, never read off a host: PCR 4 (the EFI programs that firmware
starts), 8 and 9 (GRUB's commands and files, `shype.attest.grub`).  A policy is booted in a few
ways, which differ in GRUB's environment block: on trial once, as the good one ever after, and
after another trial that failed; each is acceptable.  PCR 0 to 3 and 5 to 7 are the firmware's own
matter (its code, its settings, its boot order, the disk's partition table, its keys): they cannot
be computed from files, and are compared with what the host had when it was enrolled.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from shype.attest import event_log
from shype.attest.event_log import SHA256, Event
from shype.attest.grub.boot import Disk, boot
from shype.attest.grub.image import Image
from shype.base.errors import BadInput
from shype.base.files import read_regular
from shype.host.install import grubenv

#: Registers that are computed here.
PROGRAMS, COMMANDS, FILES = COMPUTED = (4, 8, 9)
#: Registers that only the firmware decides.
FIRMWARE = (0, 1, 2, 3, 5, 6, 7)
#: Largest file of /boot, bytes.
MAX_FILE = 512 << 20
#: The script in GRUB's image as grub-install writes it, or with the command that it leaves out.
_SCRIPT = re.compile(
    r"search\.fs_uuid [0-9A-Fa-f-]+ root[^\n]*\n\s*set prefix=\(\$root\)(?P<prefix>[^\s]+)\s*"
    r"(?P<configfile>\nconfigfile \$prefix/grub\.cfg)?\s*")
#: Firmware's own words (TCG PC Client Platform Firmware Profile, 3.3.4.5).
_CALLING = b"Calling EFI Application from Boot Option"
_ACTION, _SEPARATOR, _PROGRAM = 0x80000007, 0x4, 0x80000003


class Kind(StrEnum):
    """How a policy comes to be booted."""

    GOOD = "good"
    TRIAL = "trial"
    #: After a trial of another policy that was not found good.
    FALLEN_BACK = "fallen-back"


@dataclass(frozen=True, slots=True)
class Way:
    """One acceptable boot of ``policy`` (its id, `shype.host.install.trial.policy_id`).

    ``other``: of a trial the good policy before, if any; of a fallen back one what was tried.
    """

    kind: Kind
    policy: str
    other: str | None
    events: tuple[Event, ...]

    @property
    def pcrs(self) -> dict[int, bytes]:
        """The registers `COMPUTED` after this boot."""
        return event_log.replay(self.events)

    def __str__(self) -> str:
        match self.kind:
            case Kind.GOOD:
                return f"policy {self.policy}"
            case Kind.TRIAL:
                return f"policy {self.policy}, on trial" + (
                    f" after {self.other}" if self.other else "")
        return f"policy {self.policy}, after {self.other} was tried"


@dataclass(frozen=True, slots=True)
class Machine:
    """What is booted: ``files`` has a copy of the host's /boot, ``programs`` are the EFI programs
    that the firmware starts, in order (the last is GRUB), ``device`` GRUB's name for /boot's
    partition.
    """

    files: Path
    programs: tuple[Image, ...]
    device: str = "hd0,gpt2"

    def ways(self, policy: str, module: bytes, others: Iterable[str] = ()) -> tuple[Way, ...]:
        """Every acceptable boot of a policy whose boot module is ``module``.

        ``others``: ids of policies that may have been good before, or been tried since; those in
        the copy of /boot are added.  Raises BadInput (``reference.*``, ``boot.env``).
        """
        known = sorted({*others, *self._present()} - {policy})
        return tuple(self._way(kind, policy, module, other)
                     for kind, other in _kinds(known))

    def as_it_is(self) -> tuple[Event, ...]:
        """The events of a boot by the copy's own environment block. Raises as `ways`."""
        return self._events(self._read)

    def _present(self) -> Iterator[str]:
        return (path.stem for path in (self.files / "shype").glob("*.bin"))

    def _way(self, kind: Kind, policy: str, module: bytes, other: str | None) -> Way:
        block = grubenv.dumps(_environment(kind, policy, other))

        def read(path: str) -> bytes | None:
            if path == f"{self.root}/shype/boot.env":
                return block
            if path == f"{self.root}/shype/{policy}.bin":
                return module
            return self._read(path)

        return Way(kind, policy, other, self._events(read))

    @property
    def root(self) -> str:
        """The path of /boot as GRUB sees it; empty if it is a file system of its own."""
        try:
            own = (self.files / "grub/custom.cfg").read_text(errors="replace")
        except OSError as error:
            raise BadInput("reference.no-entry", f"there is no boot entry of shype's in "
                           f"{self.files}: {error.strerror}",
                           "give a copy of the host's /boot, after `shype host install`") from error
        return "/boot" if '(${shype_dev})/boot/shype/' in own else ""

    def _read(self, path: str) -> bytes | None:
        root = self.root
        if not path.startswith(f"{root}/"):
            return None
        try:
            return read_regular(self.files / path[len(root) + 1:], MAX_FILE)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def _events(self, read: Callable[[str], bytes | None]) -> tuple[Event, ...]:
        grub = self.programs[-1]
        if "tpm" not in grub.modules:
            raise BadInput("reference.no-tpm", "this GRUB measures nothing: its module tpm is not "
                           "in its image", "grub-install --modules=tpm, or grub-mkimage with tpm")
        prefix = f"{self.root}/grub"
        found = _SCRIPT.fullmatch(grub.config)
        if found is None or found["prefix"].replace("'", "") != prefix:
            raise BadInput("reference.efi-config", "the script in this GRUB's image is none of "
                           "those that are predicted: it does not just find /boot and go on there "
                           "(Debian's signed image has a memory disk)",
                           "grub-install --no-uefi-secure-boot --modules=tpm")
        return (*_started(self.programs), *boot(Disk(
            self.device, prefix, read, grub.modules, normal=found["configfile"] is None)))


def _started(programs: Sequence[Image]) -> tuple[Event, ...]:
    """PCR 4: that the firmware boots, and each program that is started."""
    return (
        event_log.measured(PROGRAMS, _ACTION, _CALLING),
        event_log.measured(PROGRAMS, _SEPARATOR, bytes(4)),
        *(Event(PROGRAMS, _PROGRAM, ((SHA256, one.digest),), b"") for one in programs),
    )


def _kinds(known: Sequence[str]) -> Iterator[tuple[Kind, str | None]]:
    yield Kind.GOOD, None
    yield Kind.TRIAL, None
    for other in known:
        yield Kind.TRIAL, other
        yield Kind.FALLEN_BACK, other


def _environment(kind: Kind, policy: str, other: str | None) -> dict[str, str]:
    """GRUB's environment block as `shype.host.install.trial` and GRUB have left it.

    GRUB changes values in place, and the names are sorted: so what it has written is the same.
    """
    match kind:
        case Kind.GOOD:
            return {grubenv.GOOD: policy, grubenv.TRIAL: "", grubenv.TRIED: ""}
        case Kind.TRIAL:
            good = {grubenv.GOOD: other} if other else {}
            return {**good, grubenv.TRIAL: policy, grubenv.TRIED: ""}
    return {grubenv.GOOD: policy, grubenv.TRIAL: "", grubenv.TRIED: other or ""}


def found(ways: Iterable[Way], pcrs: Mapping[int, bytes]) -> Way | None:
    """The boot that leaves these registers, if it is one of ``ways``."""
    for way in ways:
        if all(pcrs.get(pcr) == value for pcr, value in way.pcrs.items()):
            return way
    return None


def digest(data: bytes) -> str:
    """As the events have it, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()

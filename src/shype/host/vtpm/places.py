"""Where the TPMs of VMs are kept, and whose each is.

In the agent's state directory, which only root may enter: ``vtpm/UUID.json`` says whose it is, and
``vtpm/UUID/`` is what swtpm keeps, which belongs to a user id of this one VM, so that a process
that a guest has taken over reaches no other TPM. Use it under the launch lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from shype.base import canonical
from shype.base.errors import Unavailable
from shype.base.files import read_regular, write_atomic
from shype.host.lock import unwritable
from shype.policy.names import LabelName

#: User id of the TPM with seat 0. Between the ranges that systemd and distributions give out
#: (systemd, docs/UIDS-GIDS.md), so that it is nobody's account.
FIRST_USER = 2_000_000_000
#: Most TPMs of a host.
SEATS = 100_000
#: swtpm's own name of the file that holds a TPM's keys, and with them its identity.
KEYS = "tpm2-00.permall"
_FORMAT = 1
_MAX_RECORD = 64 * 1024
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a TPM is.

    ``label``: what the VM carried when it got the TPM. ``created``: seconds since 1970. ``seat``:
    a number of its own among the host's TPMs. ``ek``: SHA-256 of the endorsement key's TPMT_PUBLIC
    in hexadecimal, empty until the TPM has been asked. ``domid`` and ``boot``: for whom it was
    started last; ``lost``: it ended before that domain did, which is on record.
    """

    vm: str
    uuid: str
    label: LabelName
    created: int
    seat: int
    ek: str = ""
    domid: int = -1
    boot: str = ""
    lost: bool = False

    @property
    def user(self) -> int | None:
        """Whose the state and its process are; None: this process's own, which is not root."""
        return FIRST_USER + self.seat if os.geteuid() == 0 else None


class TpmPlaces:
    """The directory ``vtpm`` in the state directory."""

    def __init__(self, state: Path) -> None:
        self.directory = state / "vtpm"

    def get(self, uuid: str) -> Owner | None:
        """Whose the TPM of ``uuid`` is, None if there is none.

        Raises Unavailable (``vtpm.damaged``): a TPM whose owner is unknown is given to nobody.
        """
        if not _UUID.fullmatch(uuid):
            return None
        path = self._record(uuid)
        try:
            owner = _parse(json.loads(read_regular(path, _MAX_RECORD)))
            if owner.uuid != uuid:
                raise ValueError(uuid)
        except FileNotFoundError:
            if os.path.lexists(self.state(uuid)):
                raise damaged(f"{self.state(uuid)} has no record of its owner") from None
            return None
        except PermissionError:
            raise
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise damaged(f"{path} does not say whose the TPM is") from error
        return owner

    def uuids(self) -> tuple[str, ...]:
        """The VMs that have one, or something in its place."""
        try:
            names = [entry.name.removesuffix(".json") for entry in self.directory.iterdir()]
        except FileNotFoundError:
            return ()
        return tuple(sorted({name for name in names if _UUID.fullmatch(name)}))

    def all(self) -> tuple[Owner, ...]:
        """The owners of all that are whole; others are `get`'s to tell."""
        found = []
        for uuid in self.uuids():
            with contextlib.suppress(Unavailable):
                owner = self.get(uuid)
                if owner is not None:
                    found.append(owner)
        return tuple(found)

    def put(self, owner: Owner) -> None:
        """Keep the record. Raises Unavailable (``state.unwritable``)."""
        value = {"format": _FORMAT, **{name: getattr(owner, name) for name in Owner.__slots__}}
        try:
            write_atomic(self._record(owner.uuid), canonical.dumps(value), 0o600)
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def new(self, vm: str, uuid: str, label: LabelName) -> Owner:
        """A place for a new TPM, empty. Raises Unavailable (``state.unwritable``, ``vtpm.full``).

        Killed in between, it leaves an empty directory or a record without an EK; both are used.
        """
        taken = {owner.seat for owner in self.all()} | self._held()
        seat = next((seat for seat in range(SEATS) if seat not in taken), None)
        if seat is None:
            raise Unavailable("vtpm.full", f"this host has {SEATS} TPMs already",
                              "shype vtpm remove those of VMs that are gone")
        owner = Owner(vm, uuid, label, int(time.time()), seat)
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise unwritable(self.directory, error) from error
        self.put(owner)
        return owner

    def _held(self) -> set[int]:
        """Seats that no record tells: of TPMs that are damaged, and of processes that are left.

        What a guest has taken over need not hold its lock, nor end with its TPM. Its user id in a
        new TPM's place would be its way into that.
        """
        owners = set(busy_users())
        with contextlib.suppress(FileNotFoundError):
            owners |= {entry.stat(follow_symlinks=False).st_uid
                       for entry in os.scandir(self.directory)}
        return {user - FIRST_USER for user in owners}

    def change(self, owner: Owner, **fields: object) -> Owner:
        """Keep ``owner`` with other ``fields``, and return that."""
        changed = replace(owner, **fields)  # type: ignore[arg-type]
        self.put(changed)
        return changed

    @contextlib.contextmanager
    def opened(self, owner: Owner, *, make: bool = False) -> Iterator[int]:
        """The TPM's own directory, as a descriptor; with ``make`` it is made if the TPM is new.

        Raises Unavailable (``vtpm.damaged``) if it is a link, another one's, open to others, or
        gone; ``state.unwritable``.
        """
        path = self.state(owner.uuid)
        new = make and not owner.ek
        try:
            if new:
                with contextlib.suppress(FileExistsError):  # of a start that was killed
                    path.mkdir(mode=0o700)
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise damaged(f"{path} is gone, and with it the TPM of {owner.vm}") from None
        except NotADirectoryError:
            raise damaged(f"{path} is a link or a file") from None
        except OSError as error:
            if path.is_symlink():  # ELOOP
                raise damaged(f"{path} is a link or a file") from error
            raise unwritable(self.directory, error) from error
        try:
            if new and owner.user is not None and not any(os.scandir(handle)):
                os.fchown(handle, owner.user, owner.user)
            found = os.fstat(handle)
            user = os.geteuid() if owner.user is None else owner.user
            if found.st_uid != user or stat.S_IMODE(found.st_mode) != 0o700:
                raise damaged(f"{path} is not as the TPM of {owner.vm} was left: it belongs to "
                              f"user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}")
            yield handle
        finally:
            os.close(handle)

    def require_private(self) -> None:
        """Nobody but root enters the directory. Raises Unavailable (``vtpm.exposed``).

        Who may write there says whose each TPM is.
        """
        try:
            found = self.directory.stat()
        except FileNotFoundError:
            return  # `new` makes it
        except OSError as error:
            raise unwritable(self.directory, error) from error
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o077 or found.st_uid != os.geteuid():
            raise Unavailable(
                "vtpm.exposed", f"others than root may enter {self.directory}, or change whose "
                f"TPMs these are: it belongs to user {found.st_uid} with mode {mode:o}",
                f"chown root {self.directory} and chmod 700 it; restore it from a backup if "
                "somebody has been there")

    def require_whole(self, owner: Owner) -> None:
        """What makes the TPM that TPM is there, and can be read by whoever is to serve it.

        Without it swtpm would make another TPM. Raises as `opened`.
        """
        if not owner.ek:
            return  # it was to be made
        with self.opened(owner) as directory:
            path = self.state(owner.uuid) / KEYS
            try:
                found = os.stat(KEYS, dir_fd=directory, follow_symlinks=False)
            except FileNotFoundError:
                raise damaged(f"{path} is gone, and with it the keys of {owner.vm}'s TPM") from None
            except OSError as error:
                raise unwritable(self.directory, error) from error
            user = os.geteuid() if owner.user is None else owner.user
            if not stat.S_ISREG(found.st_mode) or not found.st_size or found.st_uid != user:
                raise damaged(f"{path} is not as the TPM of {owner.vm} left it")

    def remove(self, uuid: str) -> None:
        """Remove the TPM: its keys are gone for good. Raises Unavailable (``state.unwritable``)."""
        path = self.state(uuid)
        try:
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.exists():
                shutil.rmtree(path)
            self.log(uuid).unlink(missing_ok=True)
            self._record(uuid).unlink(missing_ok=True)  # last: until then it is somebody's
        except OSError as error:
            raise unwritable(self.directory, error) from error

    def state(self, uuid: str) -> Path:
        """The directory of one TPM."""
        return self.directory / uuid

    def log(self, uuid: str) -> Path:
        """What its process printed when it was started last."""
        return self.directory / f"{uuid}.log"

    def channel(self, owner: Owner) -> Path:
        """The socket on which the device model serves the guest's end. Short: paths of sockets
        have at most 107 bytes."""
        return self.directory / f"c{owner.seat}"

    def _record(self, uuid: str) -> Path:
        return self.directory / f"{uuid}.json"


def busy_users() -> frozenset[int]:
    """The user ids from `FIRST_USER` on that processes of this host have.

    From what the kernel says of each: who owns its directory in /proc is the process's to change.
    """
    found = set()
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError, KeyError, ValueError):  # it has ended
            lines = dict(line.partition(":")[::2] for line in status.read_text().splitlines())
            if lines["State"].split()[0] != "Z":
                found |= {int(word) for word in lines["Uid"].split()}
    return frozenset(user for user in found if user >= FIRST_USER)


def damaged(why: str) -> Unavailable:
    """The error ``vtpm.damaged``."""
    return Unavailable(
        "vtpm.damaged", f"{why}, so no VM gets this TPM",
        "restore it from a backup; or shype vtpm remove UUID, and the VM gets a new one")


def _parse(value: object) -> Owner:
    if not isinstance(value, dict) or value.pop("format") != _FORMAT:
        raise ValueError("format")
    owner = Owner(**value)
    words = (owner.vm, owner.uuid, owner.label, owner.ek, owner.boot)
    if not all(isinstance(word, str) for word in words) or not _UUID.fullmatch(owner.uuid):
        raise TypeError("words")
    if not all(type(number) is int for number in (owner.created, owner.seat, owner.domid)):
        raise TypeError("numbers")
    if type(owner.lost) is not bool or not 0 <= owner.seat < SEATS:
        raise TypeError("seat")
    if not re.fullmatch("(?:[0-9a-f]{64})?", owner.ek):
        raise ValueError("ek")
    return owner

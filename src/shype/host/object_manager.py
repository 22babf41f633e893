"""For a guest that serves VMs of several labels: what may this peer do with that object?

Copy this one file into the guest: it needs Python 3.11, Linux' /dev/xen/privcmd, and nothing
else. The hypervisor's security server answers, by the policy that it has loaded now; nothing
is between it and the guest, and nothing is kept from one question to the next.

Two rules make an object manager of a guest. *Who asks* is the label of the domain at the other
end of an event channel, which the hypervisor knows; never a word of the peer's. *Whose object*
it is, is the context that its creator had, kept with the object.

Protocol, for other languages: docs/reference/object-manager.md. The structures are those of
xen/include/public/xsm/flask_op.h, interface version 1.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag, StrEnum

#: Makes hypercall (number, first argument); its result. Raises OSError with the errno.
Hypercall = Callable[[int, int], int]

_PRIVCMD = "/dev/xen/privcmd"
_CALL = struct.Struct("=6Q")
_IOCTL_HYPERCALL = _CALL.size << 16 | ord("P") << 8
_XEN_VERSION, _XSM_OP = 17, 27
_INTERFACE = 1
_CONTEXT_TO_SID, _SID_TO_CONTEXT, _ACCESS, _GET_PEER_SID = 4, 5, 6, 23
_HEAD = struct.Struct("=2I")
#: sid, size, address of the context
_SID_CONTEXT = struct.Struct("=2I" "2IQ")
#: ssid, tsid, tclass, requested, allowed, audit_allow, audit_deny, sequence number
_VECTOR = struct.Struct("=2I" "8I")
#: event channel, sid
_PEER = struct.Struct("=2I" "2I")
_PAGE = 4096
_LOCKED, _POPULATE = 0x2000, 0x8000
#: The class of objects is the first after those of the hypervisor: 13 in these releases.
_CLASS, _OLDEST, _NEWEST = 14, (4, 17), (4, 22)


class Access(IntFlag):
    """What a peer wants to do with an object: bits of the policy's class ``shype``."""

    READ = 1
    WRITE = 2


class Id(StrEnum):
    """Why. Only `PERMITTED` is a permission; the last three are no decisions, and refuse."""

    PERMITTED = "object.permitted"
    DENIED = "object.denied"
    NO_PEER = "object.no-peer"
    OTHER_PEER = "object.other-peer"
    UNKNOWN_LABEL = "object.unknown-label"
    NOT_ASKED = "object.not-asked"


@dataclass(frozen=True, slots=True)
class Answer:
    """``sequence``: how often policy or booleans had changed; None if nobody decided."""

    id: Id
    reason: str
    sequence: int | None = None

    @property
    def permitted(self) -> bool:
        """Whether it may be done: now, once."""
        return self.id is Id.PERMITTED


@dataclass(frozen=True, slots=True)
class Peer:
    """Who was at the other end of an event channel: ``port`` is this domain's own end.

    ``context`` is what an object that it makes is to be kept with.
    """

    port: int
    sid: int
    context: str


class Unanswered(Exception):
    """No peer could be told; ``id`` says why. Serve nobody on this channel."""

    def __init__(self, id: Id, reason: str) -> None:
        super().__init__(f"{reason} [{id}]")
        self.id = id


class Monitor:
    """Asks. ``call`` is for tests; not for use by several threads at once."""

    def __init__(self, call: Hypercall | None = None) -> None:
        self._call = call or _privcmd

    def peer(self, port: int) -> Peer:
        """Whoever is connected to ``port``. Raises `Unanswered`."""
        try:
            self._known_release()
            sid = self._peer_sid(port)
            context = self._context(sid)
        except (OSError, ValueError) as error:
            raise Unanswered(*_told(error, port)) from error
        return Peer(port, sid, context)

    def decide(self, peer: Peer, context: str, access: Access) -> Answer:
        """Whether ``peer`` may have all of ``access`` to an object that carries ``context``.

        Never raises: what cannot be asked is refused.
        """
        try:
            if not 0 < int(access) <= Access.READ | Access.WRITE:
                return Answer(Id.NOT_ASKED, f"access {access!r} is not one that can be asked for")
            self._known_release()
            now = self._peer_sid(peer.port)
            if now != peer.sid:
                return Answer(Id.OTHER_PEER, f"another domain is now at port {peer.port}: "
                              "close it, and treat it as a new one")
            target = self._sid(context)
            if target is None:
                return Answer(Id.UNKNOWN_LABEL, f"the loaded policy has no label {context}")
            allowed, sequence = self._vector(now, target)
        except (OSError, ValueError) as error:
            return Answer(*_told(error, peer.port))
        if allowed & access == access:
            return Answer(Id.PERMITTED, f"{peer.context} may {_words(access)} what is labelled "
                          f"{context}", sequence)
        lacking = Access(access & ~allowed)
        return Answer(Id.DENIED, f"{peer.context} may not {_words(lacking)} what is labelled "
                      f"{context}", sequence)

    # -- questions ----------------------------------------------------------------------------

    def _known_release(self) -> None:
        number = self._call(_XEN_VERSION, 0)
        release = (number >> 16, number & 0xFFFF)
        if not _OLDEST <= release <= _NEWEST:
            # Another release may have more classes, and another meaning for this number.
            raise ValueError(f"Xen {release[0]}.{release[1]} is not one whose classes are known")

    def _peer_sid(self, port: int) -> int:
        if not 0 < port < 1 << 32:
            raise ProcessLookupError(errno.ESRCH, "no such port")
        try:
            return int(self._ask(_PEER, _GET_PEER_SID, port, 0)[3])
        except OSError as error:
            if error.errno == errno.EINVAL:  # closed, or its other end is
                raise ProcessLookupError(errno.ESRCH, "nobody is connected") from error
            raise

    def _sid(self, context: str) -> int | None:
        name = context.encode("ascii")
        if not 0 < len(name) < _PAGE or b"\0" in name:
            return None
        try:
            return int(self._ask(_SID_CONTEXT, _CONTEXT_TO_SID, 0, len(name), 0, text=name)[2])
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _context(self, sid: int) -> str:
        found = self._ask(_SID_CONTEXT, _SID_TO_CONTEXT, sid, _PAGE, 0, text=b"\0")
        return str(found[-1])

    def _vector(self, source: int, target: int) -> tuple[int, int]:
        found = self._ask(_VECTOR, _ACCESS, source, target, _CLASS, 0, 0, 0, 0, 0)
        return int(found[6]), int(found[9])

    def _ask(self, form: struct.Struct, command: int, *fields: int, text: bytes = b""
             ) -> tuple[int | str, ...]:
        """The operation as the hypervisor leaves it, and what then stands in the second page."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _LOCKED | _POPULATE
        with mmap.mmap(-1, 2 * _PAGE, flags=flags) as memory:
            window = ctypes.c_char.from_buffer(memory)
            address = ctypes.addressof(window)
            try:
                form.pack_into(memory, 0, command, _INTERFACE, *fields)
                if text:
                    memory[_PAGE:_PAGE + len(text)] = text
                    struct.pack_into("=Q", memory, form.size - 8, address + _PAGE)
                self._call(_XSM_OP, address)
                answer = form.unpack_from(memory, 0)
                said = memory[_PAGE:].partition(b"\0")[0].decode("ascii")
                return (*answer, said)
            finally:
                del window  # an exported pointer keeps the mapping from closing


def _privcmd(number: int, argument: int) -> int:
    handle = os.open(_PRIVCMD, os.O_RDWR | os.O_CLOEXEC)
    try:
        result: int = fcntl.ioctl(handle, _IOCTL_HYPERCALL,
                                  bytearray(_CALL.pack(number, argument, 0, 0, 0, 0)))
        return result
    finally:
        os.close(handle)


def _told(error: Exception, port: int) -> tuple[Id, str]:
    """Why there is no decision."""
    if isinstance(error, ProcessLookupError):
        return Id.NO_PEER, f"nobody is connected to port {port}"
    if isinstance(error, OSError) and error.errno == errno.EACCES and error.filename is None:
        return Id.NOT_ASKED, ("the hypervisor does not let this domain ask: its label is no "
                              "`object-manager` in the loaded policy")
    return Id.NOT_ASKED, f"the hypervisor cannot be asked: {error}"


def _words(access: Access) -> str:
    return " and ".join(bit.name.lower() for bit in Access if bit & access and bit.name)

"""FLASK's questions: contexts and SIDs, access vectors, contexts of new objects.

Interface: struct xen_flask_sid_context, xen_flask_access and xen_flask_transition
in xen/include/public/xsm/flask_op.h.  dom0 needs ``security { check_context
compute_av compute_create }``.  A context that has once been named keeps its SID
until the host reboots (some hundred bytes of the hypervisor's memory).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self

from shype.base.errors import Unavailable
from shype.host.drivers.xen.flask import (
    CALL,
    HYPERCALL_XSM_OP,
    INTERFACE_VERSION,
    IOCTL_HYPERCALL,
    MAP_LOCKED,
    MAP_POPULATE,
    PAGE,
    PRIVCMD,
    Caller,
)

_CONTEXT_TO_SID = 4
_SID_TO_CONTEXT = 5
_ACCESS = 6
_CREATE = 7
#: cmd, interface_version; then sid, size, context
_SID_CONTEXT = struct.Struct("=2I" "2IQ")
#: ...; then ssid, tsid, tclass, req, allowed, audit_allow, audit_deny, seqno
_VECTOR = struct.Struct("=2I" "8I")
#: ...; then ssid, tsid, tclass, newsid
_TRANSITION = struct.Struct("=2I" "4I")
#: The fix for a permission that dom0's label lacks.
_FIX = ("dom0's label needs `security { check_context compute_av compute_create }`: boot the host "
        "with a policy that this shype built")


class Questions:
    """Asks the hypervisor what it would decide. A context manager, since it holds locked memory.

    Every method raises Unavailable (``host.no-flask``, ``host.flask``).
    """

    def __init__(self, call: Caller | None = None) -> None:
        self._handle = -1 if call else _open()
        self._call: Callable[[int], int] = call or self._privcmd
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
        self._memory = mmap.mmap(-1, 2 * PAGE, flags=flags)
        self._window = ctypes.c_char.from_buffer(self._memory)
        self._address = ctypes.addressof(self._window)
        self._sids: dict[str, int] = {}
        self._contexts: dict[int, str] = {}
        #: How often the policy or a boolean has changed, as the last answer had it.
        self.sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        del self._window  # an exported pointer keeps the mapping from closing
        self._memory.close()
        if self._handle >= 0:
            os.close(self._handle)

    def sid(self, context: str) -> int | None:
        """The SID of a context, or None if the loaded policy does not know the context."""
        found = self._sids.get(context)
        if found is None:
            name = context.encode("ascii")
            if len(name) >= PAGE:
                return None
            self._memory[PAGE:PAGE + len(name)] = name
            try:
                answer = self._ask(
                    _SID_CONTEXT, _CONTEXT_TO_SID, 0, len(name), self._address + PAGE)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return None
                raise _failed(f"look up the context {context}", error) from error
            found = self._sids[context] = answer[2]
        return found

    def context(self, sid: int) -> str:
        """The context of a SID."""
        found = self._contexts.get(sid)
        if found is None:
            try:
                answer = self._ask(
                    _SID_CONTEXT, _SID_TO_CONTEXT, sid, PAGE, self._address + PAGE)
            except OSError as error:
                raise _failed(f"look up the SID {sid}", error) from error
            found = self._memory[PAGE:PAGE + answer[3]].rstrip(b"\0").decode("ascii")
            self._contexts[sid] = found
            self._sids.setdefault(found, sid)
        return found

    def allowed(self, source: int, target: int, cls: int) -> int:
        """The access vector of SID ``source`` on SID ``target`` in the class number ``cls``."""
        try:
            answer = self._ask(_VECTOR, _ACCESS, source, target, cls, 0, 0, 0, 0, 0)
        except OSError as error:
            raise _failed("ask for an access vector", error) from error
        self.sequence = answer[9]
        return answer[6]

    def created(self, source: int, target: int, cls: int) -> int:
        """The SID of an object of class ``cls`` that ``source`` creates on ``target``."""
        try:
            return self._ask(_TRANSITION, _CREATE, source, target, cls, 0)[5]
        except OSError as error:
            raise _failed("ask for the context of a new object", error) from error

    def _ask(self, form: struct.Struct, command: int, *fields: int) -> tuple[int, ...]:
        form.pack_into(self._memory, 0, command, INTERFACE_VERSION, *fields)
        self._call(self._address)
        return form.unpack_from(self._memory, 0)

    def _privcmd(self, address: int) -> int:
        call = bytearray(CALL.pack(HYPERCALL_XSM_OP, address, 0, 0, 0, 0))
        result: int = fcntl.ioctl(self._handle, IOCTL_HYPERCALL, call)
        return result


def _open() -> int:
    try:
        return os.open(PRIVCMD, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise _failed("ask the hypervisor", error) from error


def _failed(what: str, error: OSError) -> Unavailable:
    if error.errno == errno.ENOSYS or error.filename == str(PRIVCMD):
        return Unavailable(
            "host.no-flask", f"cannot {what}: no Xen with FLASK here ({error.strerror})",
            "run this in dom0 of a Xen with FLASK",
        )
    return Unavailable("host.flask", f"cannot {what}: the hypervisor says {error.strerror}", _FIX)

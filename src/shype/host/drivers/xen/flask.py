"""FLASK's hypercall, made through /dev/xen/privcmd with nothing but the standard library.

Interface: xen/include/public/xsm/flask_op.h (interface version 1), hypercall
xsm_op; xen/include/public/version.h; and Linux' IOCTL_PRIVCMD_HYPERCALL.  Xen
reads and writes the operation and the names in place, so they must be locked
memory.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from shype.base.errors import Unavailable

#: Every privileged hypercall of dom0 goes through it.
PRIVCMD = Path("/dev/xen/privcmd")
HYPERCALL_XSM_OP = 27
_HYPERCALL_XEN_VERSION = 17
#: Subcommand of the latter that takes no argument; FLASK lets every domain ask it.
_XENVER_VERSION = 0
INTERFACE_VERSION = 1

_LOAD = 1
_GETENFORCE = 2
_GETBOOL = 11
_SETBOOL = 12
_COMMITBOOLS = 13

#: struct privcmd_hypercall { __u64 op; __u64 arg[5]; }
CALL = struct.Struct("=6Q")
#: _IOC(_IOC_NONE, 'P', 0, sizeof(struct privcmd_hypercall))
IOCTL_HYPERCALL = CALL.size << 16 | ord("P") << 8
#: cmd, interface_version; then struct xen_flask_boolean: bool_id, enforcing,
#: pending, new_value, commit, size, (padding), name
_BOOLEAN = struct.Struct("=2I" "I4BI4xQ")
_PLAIN = struct.Struct("=2I")
#: ...; then struct xen_flask_load: buffer, size
_LOADING = struct.Struct("=2I" "QI4x")
#: "Look the boolean up by its name."
_BY_NAME = 0xFFFFFFFF
#: Bytes of locked memory: the operation in the first page, a name in the second.
PAGE = 4096
MAP_LOCKED = 0x2000
MAP_POPULATE = 0x8000

#: Makes the hypercall with the operation at this address; returns its result (>= 0).
#: Raises OSError with the hypervisor's errno.
Caller = Callable[[int], int]


def privcmd(address: int) -> int:
    """The real `Caller`. Raises FileNotFoundError if this is not a Xen dom0."""
    return hypercall(HYPERCALL_XSM_OP, address)


def release() -> tuple[int, int]:
    """Major and minor number of the Xen release. Raises OSError if there is no Xen."""
    number = hypercall(_HYPERCALL_XEN_VERSION, _XENVER_VERSION)
    return number >> 16, number & 0xFFFF


def hypercall(number: int, first: int) -> int:
    """Any hypercall of one argument. Raises OSError."""
    handle = os.open(PRIVCMD, os.O_RDWR | os.O_CLOEXEC)
    try:
        call = bytearray(CALL.pack(number, first, 0, 0, 0, 0))
        result: int = fcntl.ioctl(handle, IOCTL_HYPERCALL, call)
        return result
    finally:
        os.close(handle)


class Flask:
    """The hypervisor's FLASK: enforcement and booleans.

    Every method raises Unavailable: ``host.no-flask`` without Xen or FLASK,
    ``host.flask`` if the hypervisor refuses the operation itself.
    """

    def __init__(self, call: Caller = privcmd) -> None:
        self._call = call

    def enforcing(self) -> bool | None:
        """Whether FLASK enforces; None if this hypervisor has no FLASK (or there is none)."""
        try:
            return bool(self._operate(_PLAIN.pack(_GETENFORCE, INTERFACE_VERSION), b"")[0])
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.ENOENT, errno.ENXIO, errno.ENODEV):
                return None
            raise _failed("ask whether FLASK enforces", error) from error

    def boolean(self, name: str) -> bool | None:
        """The enforced value of a boolean, or None if the loaded policy has no such boolean."""
        try:
            return self._boolean(_GETBOOL, name)
        except OSError as error:
            if error.errno == errno.ENOENT and error.filename is None:
                return None
            raise _failed(f"read the boolean {name}", error) from error

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        """Set all ``values`` in one commit, and read them back.

        A killed caller may leave pending values behind, which the next commit
        would put into force: so always set all the booleans that matter.
        """
        try:
            for name, value in values.items():
                self._boolean(_SETBOOL, name, value)
            self._operate(_PLAIN.pack(_COMMITBOOLS, INTERFACE_VERSION), b"")
        except OSError as error:
            raise _failed("set the policy's booleans", error) from error
        wrong = [name for name, value in values.items() if self.boolean(name) is not value]
        if wrong:
            raise Unavailable(
                "host.flask", f"the hypervisor did not take over the boolean {wrong[0]}",
                "is another program changing booleans? run `shype recover`",
            )

    def load(self, policy: bytes) -> None:
        """Replace the loaded policy by ``policy``, at once; if that fails, the old one stays.

        Raises Unavailable (``host.load``) too.
        """
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
        with mmap.mmap(-1, PAGE + max(len(policy), 1), flags=flags) as memory:
            window = ctypes.c_char.from_buffer(memory)
            address = ctypes.addressof(window)
            try:
                memory[PAGE:PAGE + len(policy)] = policy
                memory[:_LOADING.size] = _LOADING.pack(
                    _LOAD, INTERFACE_VERSION, address + PAGE, len(policy))
                self._call(address)
            except OSError as error:
                if error.errno == errno.ENOSYS or error.filename == str(PRIVCMD):
                    raise _failed("load a policy", error) from error
                raise Unavailable(
                    "host.load", f"the hypervisor does not take the policy: {error.strerror}",
                    "the old policy stays in force; `xl dmesg` may tell why",
                ) from error
            finally:
                del window  # an exported pointer keeps the mapping from closing

    def _boolean(self, command: int, name: str, value: bool = False) -> bool:
        encoded = name.encode("ascii")
        if len(encoded) >= PAGE:
            raise OSError(errno.ENOENT, "no such boolean")
        operation = _BOOLEAN.pack(
            command, INTERFACE_VERSION, _BY_NAME, 0, 0, value, False, len(encoded), 0)
        _, answer = self._operate(operation, encoded)
        return bool(_BOOLEAN.unpack_from(answer)[3])

    def _operate(self, operation: bytes, name: bytes) -> tuple[int, bytes]:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
        with mmap.mmap(-1, 2 * PAGE, flags=flags) as memory:
            window = ctypes.c_char.from_buffer(memory)
            address = ctypes.addressof(window)
            try:
                memory[:len(operation)] = operation
                if name:
                    memory[PAGE:PAGE + len(name)] = name
                    struct.pack_into("=Q", memory, _BOOLEAN.size - 8, address + PAGE)
                result = self._call(address)
                return result, memory[:PAGE]
            finally:
                del window  # an exported pointer keeps the mapping from closing


def _failed(what: str, error: OSError) -> Unavailable:
    if error.errno == errno.ENOSYS or error.filename == str(PRIVCMD):
        return Unavailable(
            "host.no-flask", f"cannot {what}: no Xen with FLASK here ({error.strerror})",
            "run this in dom0 of a Xen with FLASK",
        )
    return Unavailable(
        "host.flask", f"cannot {what}: the hypervisor says {error.strerror}",
        "dom0's label needs `security setbool`: is the loaded policy one that shype built?",
    )

"""Has the hypervisor print its grant tables, and reads what it printed.

Interface: xen/include/public/sysctl.h, XEN_SYSCTL_debug_keys; it needs ``xen { debug }``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
from collections.abc import Callable

from shype.base.errors import Unavailable
from shype.host.drivers.xen import console
from shype.host.drivers.xen.flask import MAP_LOCKED, MAP_POPULATE, PAGE, Caller
from shype.host.mapped import Mapped, parse

_DEBUG_KEYS = 7
#: cmd, interface_version; then struct xen_sysctl_debug_keys: keys, nr_keys
_OPERATION = struct.Struct("=2I" "QI")
_KEY = b"g"


def read(printing: Callable[[], None], call: Caller = console.sysctl) -> Mapped:
    """See `shype.host.hypervisor.Hypervisor.mapped`. ``printing`` has the tables printed.

    Raises Unavailable (``host.console``, what ``printing`` raises).
    """
    before = console.read(None, call).end
    printing()
    said = console.read(before, call)
    found = parse(said.text.decode(errors="replace"))
    return found if said.start == before else Mapped(found.found, complete=False)


def press(call: Caller = console.sysctl) -> None:
    """Have the tables printed. Raises Unavailable (``host.grants``)."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE
    with mmap.mmap(-1, 2 * PAGE, flags=flags) as memory:
        window = ctypes.c_char.from_buffer(memory)
        address = ctypes.addressof(window)
        try:
            memory[PAGE:PAGE + len(_KEY)] = _KEY
            for version in console.VERSIONS:
                memory[:_OPERATION.size] = _OPERATION.pack(
                    _DEBUG_KEYS, version, address + PAGE, len(_KEY))
                try:
                    call(address)
                    return
                except OSError as error:
                    # Xen's answer to a version that is not its own.
                    if error.errno != errno.EACCES or version == console.VERSIONS[-1]:
                        raise
        except OSError as error:
            raise Unavailable(
                "host.grants", "the hypervisor does not print its grant tables: "
                f"{error.strerror}", "run the command as root in dom0",
            ) from error
        finally:
            del window  # an exported pointer keeps the mapping from closing

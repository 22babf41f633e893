"""Runs in dom0: what root there can do to the memory and registers of a domain, without xl.

``python3 -c PROGRAM DOMID``: prints one JSON object, attempt -> "done", or the errno's name.
"""

from __future__ import annotations

import ctypes
import errno
import json
import subprocess
import sys
from collections.abc import Callable

PROT_READ, PROT_WRITE = 1, 2
#: sizeof(vcpu_guest_context_any_t) is some 5 KiB.
CONTEXT = 16384
_Handle = ctypes.c_void_p

foreign = ctypes.CDLL("libxenforeignmemory.so.1", use_errno=True)
control = ctypes.CDLL("libxenctrl.so.4.17", use_errno=True)
for function in (foreign.xenforeignmemory_open, foreign.xenforeignmemory_map,
                 control.xc_interface_open):
    function.restype = _Handle


def frame(domid: int) -> int:
    """A frame of the domain's: where it talks to xenstored."""
    path = f"/local/domain/{domid}/store/ring-ref"
    return int(subprocess.check_output(["xenstore-read", path], text=True))


def mapped(domid: int, access: int) -> int:
    """The errno of a mapping without a grant; 0 if it worked and could be read."""
    handle = _Handle(foreign.xenforeignmemory_open(None, 0))
    frames, errors = (ctypes.c_uint64 * 1)(frame(domid)), (ctypes.c_int * 1)()
    address = foreign.xenforeignmemory_map(
        handle, ctypes.c_uint32(domid), access, ctypes.c_size_t(1), frames, errors)
    if not address:
        return ctypes.get_errno()
    if errors[0]:
        return -errors[0]
    ctypes.string_at(address, 64)
    return 0


def called(function: str, *arguments: object) -> int:
    """The errno of a function of libxenctrl."""
    handle = _Handle(control.xc_interface_open(None, None, 0))
    failed = getattr(control, function)(handle, *arguments)
    return ctypes.get_errno() if failed else 0


def main() -> None:
    domid = int(sys.argv[1])
    domain, context = ctypes.c_uint32(domid), ctypes.create_string_buffer(CONTEXT)
    attempts: dict[str, Callable[[], int]] = {
        "map read": lambda: mapped(domid, PROT_READ),
        "map write": lambda: mapped(domid, PROT_READ | PROT_WRITE),
        "get registers": lambda: called("xc_vcpu_getcontext", domain, 0, context),
        "set memory limit": lambda: called("xc_domain_setmaxmem", domain, ctypes.c_uint64(131072)),
    }
    told = {}
    for name, attempt in attempts.items():
        code = attempt()
        told[name] = "done" if code == 0 else errno.errorcode.get(code, str(code))
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()

"""The lines that the agent adds to a VM's configuration, for xl and for the model alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

#: What can end a domain, by the key that says what is to follow.
EVENTS = ("on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset")
#: What the toolstack may do itself, as it calls it and as xl.cfg(5) does: these create nothing.
PLAIN = {"destroy": "destroy", "preserve": "preserve", "coredump_destroy": "coredump-destroy"}

#: How a guest finds the console that leads to its TPM (XenStore, device/console/N/name).
TPM_CHANNEL = "org.shype.tpm"


def kept(asked: Mapping[str, str]) -> dict[str, str]:
    """What the toolstack is told, by event, instead of what was ``asked``.

    It would create a VM again by itself, which needs a launch window: then it is told to keep
    the VM that has ended, and the agent does the rest.
    """
    told = {event: asked.get(event, "destroy") for event in EVENTS}
    return {event: action if action in PLAIN else "preserve" for event, action in told.items()}


def derive(
    text: bytes, seclabel: str, uuid: str, asked: Mapping[str, str], channel: Path | None = None,
) -> bytes:
    """``text`` with overriding lines; the last assignment to a key wins in xl's syntax.

    With ``channel`` the VM has a further console, named `TPM_CHANNEL`, on that socket.
    """
    lines = [f'seclabel = "{seclabel}"', f'uuid = "{uuid}"',
             *(f'{event} = "{PLAIN[action]}"' for event, action in kept(asked).items())]
    if channel is not None:
        # xl gives the first channel the number 0, which is the VM's own console, and libxl then
        # leaves it out (xl_parse.c, libxl__device_console_add of 4.17): so a terminal comes first.
        lines.append(f'channel += [ "connection=pty,name=unused", '
                     f'"connection=socket,path={channel},name={TPM_CHANNEL}" ]')
    return text + b"\n# added by shype run\n" + "\n".join(lines).encode() + b"\n"


def new_uuid() -> str:
    """A random UUID (RFC 4122, version 4)."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

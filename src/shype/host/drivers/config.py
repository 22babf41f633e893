"""The lines that the agent adds to a VM's configuration, for xl and for the model alike."""

from __future__ import annotations

#: What can end a domain in a way that makes xl create it again, or keep it half alive.
#: A re-creation needs a launch window, which only `shype run` opens.
EVENTS = ("on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset")


def derive(text: bytes, seclabel: str) -> bytes:
    """``text`` with overriding lines; the last assignment to a key wins in xl's syntax."""
    lines = [f'seclabel = "{seclabel}"', *(f'{event} = "destroy"' for event in EVENTS)]
    return text + b"\n# added by shype run\n" + "\n".join(lines).encode() + b"\n"

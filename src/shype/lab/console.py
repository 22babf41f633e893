"""The lab's serial log: what Xen and dom0's kernel printed, and how a boot failed."""

from __future__ import annotations

import re
from pathlib import Path

#: A boot that printed one of these will not come up.
_FATAL = re.compile(
    r"^.*(?:Panic on CPU|Hardware Dom0 (?:crashed|halted|shutdown)|Kernel panic - not syncing"
    r"|LAB-FAILED|Xen BUG at|FATAL TRAP).*$", re.M,
)
_REASON = re.compile(r"Panic on CPU \d+:\s*\n(?:\(XEN\)\s*)?(?P<why>.+)")


def text(directory: Path) -> str:
    """All of the log of the lab in ``directory``."""
    try:
        return (directory / "serial.log").read_text(errors="replace").replace("\r", "")
    except OSError:
        return ""


def failure(log: str) -> str | None:
    """The line that tells why this boot failed, or None as long as it has not."""
    found = _FATAL.search(log)
    if found is None:
        return None
    reason = _REASON.search(log, found.start())
    if "Panic on CPU" in found[0]:
        # the reason is on the next line, which may not be written yet
        return f"Xen panic: {reason['why'].strip()}" if reason else None
    return found[0].removeprefix("(XEN)").strip()


def last_words(log: str, lines: int = 5) -> str:
    """The end of the log, for an error message."""
    return "\n".join([line for line in log.splitlines() if line.strip()][-lines:])

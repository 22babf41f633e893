"""GRUB's environment block as GRUB itself changes it (GRUB manual, "The GRUB environment block").

`shype.host.install.grubenv` writes what dom0 writes; this follows what `save_env` makes of it,
byte by byte, because GRUB measures the block as a file.
"""

from __future__ import annotations

from shype.base.errors import BadInput

_HEAD = b"# GRUB Environment Block\n"


def value(block: bytes, name: str) -> str | None:
    """The value of ``name``; None if it is not there. Raises BadInput (``boot.env``)."""
    for line in _lines(block):
        key, _, found = line.partition(b"=")
        if key == name.encode():
            return found.decode("ascii", "replace")
    return None


def changed(block: bytes, name: str, text: str) -> bytes:
    """The block after ``name`` was set: in place if it is there, else at the end; same size.

    Raises BadInput (``boot.env``).
    """
    fresh = f"{name}={text}".encode()
    lines = _lines(block)
    for number, line in enumerate(lines):
        if line.partition(b"=")[0] == name.encode():
            lines[number] = fresh
            break
    else:
        lines.append(fresh)
    data = _HEAD + b"".join(line + b"\n" for line in lines)
    if len(data) > len(block):
        raise _bad("it is full")
    return data + b"#" * (len(block) - len(data))


def _lines(block: bytes) -> list[bytes]:
    """Raises BadInput for what is not as simple as what shype and GRUB write there."""
    if not block.startswith(_HEAD):
        raise _bad("it is no environment block of GRUB's")
    rest = block[len(_HEAD):].rstrip(b"#")
    if (rest and not rest.endswith(b"\n")) or b"\\" in rest or b"\n#" in rest:
        raise _bad("it has escapes or comments")
    return rest.split(b"\n")[:-1]


def _bad(why: str) -> BadInput:
    return BadInput("boot.env", f"GRUB's environment block cannot be predicted: {why}",
                    "shype host install --bundle FILE writes it anew")

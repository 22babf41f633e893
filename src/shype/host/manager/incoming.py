"""A bundle that dom0 tells the manager, piece by piece, because a console takes lines.

What arrives is believed by nobody: it is bounded, must be whole and in order, and have the digest
that was announced.  Who vouches for it the signature says, which is looked at afterwards.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Mapping

from shype.base.errors import Unavailable

#: Largest bundle file that the manager takes, bytes, and as it is sent, packed: about 9,000
#: labels. To read and check one beside its own takes 25 times that of the manager's 256 MiB.
MAX_SEALED = 5 * 1024 * 1024
MAX_PACKED = 2 * 1024 * 1024
#: Bytes in a part: in base64, with what stands around it, well below `authority.MAX_LINE`.
PART = 45_000


def pack(sealed: bytes) -> bytes:
    """The file ``sealed`` as it is sent. Raises Unavailable (``manager.too-large``)."""
    require_size(len(sealed), MAX_SEALED)
    packed = zlib.compress(sealed, 9)
    require_size(len(packed), MAX_PACKED)
    return packed


class Incoming:
    """What has arrived of the file whose packed form has ``size`` bytes and digest ``digest``."""

    def __init__(self, size: object, digest: object) -> None:
        if type(size) is not int or size < 1 or not isinstance(digest, str):
            raise _broken("its size and digest are not announced")
        require_size(size, MAX_PACKED)
        self._size, self._digest, self._data = size, digest, bytearray()

    def add(self, part: Mapping[str, object]) -> int:
        """The next part: ``at`` (bytes before it), ``data`` (base64). The bytes that are there.

        Raises Unavailable (``manager.transfer``): then nothing has been added.
        """
        at, text = part.get("at"), part.get("data")
        if type(at) is not int or at != len(self._data) or not isinstance(text, str):
            raise _broken(f"the part that begins at {len(self._data)} was expected")
        try:
            data = base64.b64decode(text.encode(errors="replace"), validate=True)
        except binascii.Error as error:
            raise _broken("a part is not base64") from error
        if not data or at + len(data) > self._size:
            raise _broken("a part is empty, or too long")
        self._data += data
        return len(self._data)

    def whole(self) -> bytes:
        """The file, unpacked. Raises Unavailable (``manager.transfer``, ``manager.too-large``)."""
        if len(self._data) != self._size:
            raise _broken(f"{len(self._data)} of its {self._size} bytes have arrived")
        if not hmac.compare_digest(hashlib.sha256(self._data).hexdigest().encode(),
                                   self._digest.encode(errors="replace")):
            raise _broken("it does not have the digest that was announced")
        stream = zlib.decompressobj()
        try:
            data = stream.decompress(bytes(self._data), MAX_SEALED + 1)
        except zlib.error as error:
            raise _broken("it cannot be unpacked") from error
        require_size(len(data), MAX_SEALED)
        if not stream.eof or stream.unused_data or stream.unconsumed_tail:
            raise _broken("it cannot be unpacked whole")
        return data


def require_size(size: int, most: int = MAX_SEALED) -> None:
    """Raises Unavailable (``manager.too-large``) for more than ``most`` bytes."""
    if size > most:
        raise Unavailable(
            "manager.too-large",
            f"the bundle is too large for the manager: {size} bytes, and it takes {most}",
            "split the policy: a host needs only the labels of the VMs that it may run; or boot "
            "the host with it")


def _broken(why: str) -> Unavailable:
    return Unavailable(
        "manager.transfer", f"the bundle has not arrived at the manager: {why}",
        "apply it again; does another program write to the manager's console?")

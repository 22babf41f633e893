"""The anchor in a TPM: a counter in its memory, which no owner of the host can turn back.

A counter that is deleted and made again begins above all that there were (TPM 2.0 Library, Part 1,
37.2.4).  Clearing the TPM loses it: then `verify` says that the counter is gone.
"""

from __future__ import annotations

from typing import Any

from shype.attest.tpm import Tpm
from shype.base.errors import ShypeError

#: The NV index of the counter, in the owner's range.
INDEX = 0x01800510


class TpmAnchor:
    """Implements `shype.meter.anchor.Anchor`."""

    name = "tpm"

    def __init__(self, tpm: Tpm, index: int = INDEX) -> None:
        self._tpm, self._index = tpm, index

    def begin(self) -> dict[str, Any]:
        """See the protocol."""
        try:
            self._tpm.counter_read(self._index)
        except ShypeError as error:
            if error.id != "tpm.no-counter":
                raise
            self._define()
        return {"index": self._index}

    def now(self) -> int:
        """See the protocol."""
        return self._tpm.counter_read(self._index)

    def advance(self) -> int:
        """See the protocol."""
        return self._tpm.counter_increment(self._index)

    def _define(self) -> None:
        try:
            self._tpm.counter_increment(self._index)  # it is there, and was never used
        except ShypeError as error:
            if error.id != "tpm.no-counter":
                raise
            self._tpm.counter_define(self._index)
            self._tpm.counter_increment(self._index)

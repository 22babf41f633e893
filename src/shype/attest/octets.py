"""Takes a binary structure apart from front to back; never past its end. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from shype.base.errors import BadInput


@dataclass(slots=True)
class Reader:
    """What is left of ``data``. ``order`` is that of its numbers' bytes; ``ended`` makes the error
    for a structure that ends too early."""

    data: bytes
    order: Literal["little", "big"]
    ended: Callable[[], BadInput]
    at: int = field(default=0, init=False)

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self.data) - self.at

    def take(self, size: int) -> bytes:
        """The next bytes. Raises what ``ended`` makes."""
        begin, end = self.at, self.at + size
        if end > len(self.data):
            raise self.ended()
        self.at = end
        return self.data[begin:end]

    def number(self, size: int) -> int:
        """The next number, of ``size`` bytes."""
        return int.from_bytes(self.take(size), self.order)

    def buffer(self) -> bytes:
        """The next bytes, after their number in two (TPM2B)."""
        return self.take(self.number(2))

    def only_zeros(self) -> bool:
        """Whether nothing but zeros is left."""
        # The first bytes tell it of nearly all that is something, so this is cheap.
        return not any(self.data[self.at:self.at + 8]) and not any(self.data[self.at:])

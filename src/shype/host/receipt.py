"""What the agent remembers of every image that it saved: whose it is, and what is in it.

The image lies wherever the administrator wants, and others may be able to write there.  The
receipt is in the state directory, which only root may enter.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shype.base import canonical
from shype.base.files import read_regular, write_atomic
from shype.host.lock import unwritable
from shype.policy.names import LabelName

_FORMAT = 1
_MAX_RECORD = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Receipt:
    """``digest`` is that of the whole image (BLAKE2b, 32 bytes, hexadecimal); see `Kept`."""

    vm: str
    uuid: str
    label: LabelName
    digest: str
    config: bytes | None
    actions: Mapping[str, str] = field(default_factory=dict)


class Receipts:
    """The directory ``saved`` in the state directory."""

    def __init__(self, state: Path) -> None:
        self._directory = state / "saved"

    @staticmethod
    def fresh() -> str:
        """A name that nobody guesses."""
        return os.urandom(16).hex()

    def get(self, name: str) -> Receipt | None:
        """The receipt, or None; a damaged one is none."""
        try:
            value = json.loads(read_regular(self._path(name), _MAX_RECORD))
            if value.pop("format") != _FORMAT:
                return None
            if value["config"] is not None:
                value["config"] = base64.b64decode(value["config"], validate=True)
            return Receipt(**value)
        except PermissionError:
            raise
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    def put(self, name: str, receipt: Receipt) -> None:
        """Keep it durably. Raises Unavailable (``state.unwritable``)."""
        value = asdict(receipt)
        if receipt.config is not None:
            value["config"] = base64.b64encode(receipt.config).decode()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(self._path(name), canonical.dumps({"format": _FORMAT, **value}), 0o600)
        except OSError as error:
            raise unwritable(self._directory, error) from error

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

"""The head of a saved VM or of a migration: what it says of itself, and what it is to say.

Format: struct save_file_header of tools/xl/xl.h.  A magic, four numbers (byte order, mandatory
flags, optional flags, length of the optional data), then that data: the length of the
configuration, the configuration (libxl's JSON), and a tail that xl skips.  There `shype save`
leaves the name of its `Receipt`.  Then comes the stream of memory and registers.

Nothing in it is believed: it is what somebody wrote into a file or sent.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from shype.base.errors import BadInput
from shype.host.drivers.config import EVENTS, kept
from shype.host.drivers.xen.devices import devices
from shype.host.hypervisor import VmConfig
from shype.host.resources.device import BootFile, Devices

MAGIC = b"Xen saved domain, xl format\n \0 \r"
#: Largest optional data, bytes.
MAX_DATA = 4 * 1024 * 1024

_HEADER = struct.Struct("=32s4I")
_SIZE = struct.Struct("=I")
_BYTE_ORDER = 0x01020304
_JSON, _VERSION_2 = 1, 2
_TAG = b"shype-receipt:"
_RECEIPT = re.compile("[0-9a-f]{32}")
#: Labels by other names, which the agent never gives, and a wish for a domain id.
_STRANGE = {"c_info": ("ssidref", "domid"), "b_info": (
    "exec_ssid_label", "exec_ssidref", "device_model_ssid_label", "device_model_ssidref")}


@dataclass(frozen=True, slots=True)
class Head:
    """A head. ``raw`` are its own bytes; ``context`` is the label that it claims, if any."""

    raw: bytes
    config: Mapping[str, Any]
    name: str
    uuid: str
    context: str | None
    receipt: str | None

    @property
    def vm(self) -> VmConfig:
        """The VM as a configuration would name it: the image's own label is left out."""
        build = self.config.get("b_info", {})
        return VmConfig(
            self.name, self.uuid, None, None, actions=self.actions, devices=self.devices,
            hvm="type.hvm" in build, vcpus=_number(build, "max_vcpus", 1),
            memory=_number(build, "max_memkb", 0))

    @property
    def devices(self) -> Devices:
        """What the toolstack will attach. Raises BadInput (``image.invalid``)."""
        try:
            found = devices(self.config).all
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _invalid(f"its configuration has a malformed device ({error!r})") from error
        # The kernel is in the image's memory already: no file is read.
        return Devices(tuple(one for one in found if not isinstance(one, BootFile)))

    @property
    def actions(self) -> dict[str, str]:
        """What is to follow an ending. Where the sender's agent was to see to it, a new start."""
        found = {event: self.config.get(event) or "destroy" for event in EVENTS}
        for event, usual in (("on_reboot", "restart"), ("on_soft_reset", "soft_reset")):
            if found[event] == "preserve":
                found[event] = usual
        return {event: action for event, action in found.items() if action != "destroy"}

    def rewritten(self, context: str, actions: Mapping[str, str]) -> bytes:
        """The head that the toolstack gets: the label ``context``, and no creation by itself."""
        config = {**self.config, **kept(actions)}
        for part, keys in _STRANGE.items():
            config[part] = {k: v for k, v in config.get(part, {}).items() if k not in keys}
        config["c_info"]["ssid_label"] = context
        return dumps(config)


def dumps(config: Mapping[str, Any], receipt: str = "") -> bytes:
    """A head with ``config`` and perhaps the name of a receipt."""
    text = json.dumps(config).encode() + b"\0"
    data = _SIZE.pack(len(text)) + text + (_TAG + receipt.encode() if receipt else b"")
    return _HEADER.pack(MAGIC, _BYTE_ORDER, _JSON | _VERSION_2, 0, len(data)) + data


def read_head(read: Callable[[int], bytes]) -> Head:
    """The head at the beginning of a stream; ``read`` gives so many bytes, or fewer at its end.

    Raises BadInput (``image.invalid``).
    """
    raw = read(_HEADER.size)
    if len(raw) < _HEADER.size:
        raise _invalid("it is too short")
    magic, order, mandatory, _, length = _HEADER.unpack(raw)
    if magic != MAGIC or order != _BYTE_ORDER:
        raise _invalid("it does not begin as xl's do")
    if mandatory != _JSON | _VERSION_2:
        raise _invalid(f"flags {mandatory:#x}: it is of another version of xl, or has no "
                       "configuration")
    if not _SIZE.size < length <= MAX_DATA:
        raise _invalid("its configuration is missing or too large")
    data = read(length)
    size, = _SIZE.unpack_from(data) if len(data) == length else (length,)
    if _SIZE.size + size > length:
        raise _invalid("its configuration is cut off")
    text, tail = data[_SIZE.size:_SIZE.size + size], data[_SIZE.size + size:]
    try:
        config = json.loads(text.rstrip(b"\0"))
    except (ValueError, RecursionError) as error:
        raise _invalid("its configuration is no JSON") from error
    return _head(raw + data, config, tail)


def _head(raw: bytes, config: Any, tail: bytes) -> Head:
    create = config.get("c_info") if isinstance(config, dict) else None
    build = config.get("b_info", {}) if isinstance(config, dict) else None
    if not isinstance(create, dict) or not isinstance(build, dict):
        raise _invalid("its configuration has no c_info")
    name, uuid = create.get("name"), create.get("uuid")
    if not isinstance(name, str) or not isinstance(uuid, str) or not name:
        raise _invalid("its configuration gives no name or no UUID")
    if not all(isinstance(config.get(event, ""), str) for event in EVENTS):
        raise _invalid("its configuration has actions that are no words")
    found = build.get("exec_ssid_label") or create.get("ssid_label")
    receipt = tail.removeprefix(_TAG).decode("ascii", "replace") if tail[:1] == _TAG[:1] else ""
    return Head(
        raw, config, name, uuid.lower(), found if isinstance(found, str) else None,
        receipt if _RECEIPT.fullmatch(receipt) else None,
    )


def _number(build: Mapping[str, Any], key: str, otherwise: int) -> int:
    found = build.get(key, otherwise)
    if type(found) is not int or found < 0:
        raise _invalid(f"its configuration's {key} is no number")
    return found


def _invalid(why: str) -> BadInput:
    return BadInput(
        "image.invalid", f"this is no VM saved by `shype save` or `xl save` of this release: {why}",
        "is it the right file, and whole?")

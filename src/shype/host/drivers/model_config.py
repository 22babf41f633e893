"""VM configurations as the model reads them: lines of ``key = "value"``, the last one wins."""

from __future__ import annotations

import re
from collections.abc import Mapping

from shype.base.errors import BadInput
from shype.host.drivers.config import EVENTS, PLAIN, new_uuid
from shype.host.hypervisor import VmConfig

_SETTING = re.compile(r"""^\s*([a-z_]+)\s*=\s*(["'])(.*?)\2\s*(?:#.*)?$""")
_NUMBER = re.compile(r"^\s*(memory|maxmem|vcpus|maxvcpus)\s*=\s*(\d+)\s*(?:#.*)?$")
_DEFAULT = {"on_reboot": "restart", "on_soft_reset": "soft-reset"}
#: xl.cfg(5)'s words for actions -> libxl's
_ACTION = {
    **{word: action for action, word in PLAIN.items()},
    "rename-restart": "restart_rename", "coredump-restart": "coredump_restart",
    "soft-reset": "soft_reset",
}


def read(text: str) -> VmConfig:
    """What a configuration says of the VM. Raises BadInput (``config.invalid``)."""
    settings = _settings(text)
    if not settings.get("name"):
        raise BadInput("config.invalid", "the configuration gives no name", 'name = "vm"')
    numbers = {m[1]: int(m[2]) for line in text.splitlines() if (m := _NUMBER.match(line))}
    first, final = settings.get("init_seclabel"), settings.get("seclabel")
    return VmConfig(
        settings["name"], settings.get("uuid", new_uuid()),
        final if final is not None else first,
        first if final is not None else None,
        settings.get("device_model_stubdomain_seclabel"),
        {event: action for event, action in _asked(settings).items() if action != "destroy"},
        hvm=settings.get("type") == "hvm",
        vcpus=max(numbers.get("vcpus", 1), numbers.get("maxvcpus", 1)),
        memory=max(numbers.get("memory", 0), numbers.get("maxmem", 0)) * 1024,
    )


def _asked(settings: Mapping[str, str]) -> dict[str, str]:
    """What is to follow each ending; xl's own defaults are no plain destruction for two."""
    asked = {event: settings.get(event, _DEFAULT.get(event, "destroy")) for event in EVENTS}
    return {event: _ACTION.get(action, action) for event, action in asked.items()}


def _settings(text: str) -> dict[str, str]:
    found = (_SETTING.match(line) for line in text.splitlines())
    return {match[1]: match[3] for match in found if match}

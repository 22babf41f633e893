"""xl, the toolstack: what it prints, as values.

Formats: ``xl list -v`` (tools/xl/xl_info.c), ``xl create -n`` (the libxl_domain_config
of tools/libs/light/libxl_types.idl as JSON; fields at their default are left out).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from shype.base.errors import BadInput, Unavailable
from shype.host.drivers.config import EVENTS
from shype.host.drivers.xen.devices import devices
from shype.host.hypervisor import Backend, Domain, Ending, VmConfig
from shype.host.resources.device import Devices

#: Read from the right: a name may contain blanks; a zombie's name is "(null)".
_ROW = re.compile(
    r"(?P<name>\S.*?|)\s+(?P<id>\d+)\s+(?P<mib>\d+)\s+(?P<vcpus>\d+)\s+(?P<state>[r-][b-][p-][s-][rscwS?-][d-])"
    r"\s+\d+\.\d+\s+(?P<uuid>[0-9a-f-]{36})\s+(?P<reason>-|[0-9a-f]+)\s+(?P<context>\S+)\s*"
)
#: By the number that the hypervisor gives; others count as a power-off.
_ENDINGS = dict(enumerate(Ending))


def domains(text: str) -> tuple[Domain, ...]:
    """The domains in the output of ``xl list -v``.

    Raises Unavailable (``xl.output``) on a line that is not understood: a
    domain that the agent overlooks could hold a wall.
    """
    lines = text.splitlines()
    if not lines or not lines[0].startswith("Name"):
        raise _odd("xl list", text[:200])
    found = []
    for line in lines[1:]:
        if not line.strip():
            continue
        match = _ROW.fullmatch(line)
        if match is None:
            raise _odd("xl list", line)
        state = match["state"]
        found.append(Domain(
            int(match["id"]), match["name"], match["context"],
            paused=state[2] == "p", dying=state[5] == "d", uuid=match["uuid"],
            ended=_ending(match["reason"]) if state[3] == "s" else None,
            vcpus=int(match["vcpus"]), memory=int(match["mib"]) * 1024,
        ))
    return tuple(sorted(found, key=lambda domain: domain.domid))


def _ending(reason: str) -> Ending:
    return _ENDINGS.get(int(reason, 16) if reason != "-" else 0, Ending.POWEROFF)


def config(text: str) -> VmConfig:
    """The configuration in the output of ``xl create -n``.

    Raises Unavailable (``xl.output``) if it is not what libxl prints, BadInput
    (``config.invalid``) if the VM has no name.
    """
    start = text.find("{")
    try:
        value = json.JSONDecoder().raw_decode(text[start:])[0] if start >= 0 else None
    except ValueError as error:
        raise _odd("xl create -n", text[:200]) from error
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        value = value["config"]
    if not isinstance(value, dict) or not isinstance(value.get("c_info"), dict):
        raise _odd("xl create -n", text[:200])
    create, build = value["c_info"], value.get("b_info") or {}
    name = _word(create, "name")
    if not name:
        raise BadInput("config.invalid", "the configuration gives the VM no name", 'name = "vm"')
    # libxl keeps init_seclabel in c_info and the final label in b_info; with only one of
    # them in the file it is c_info's (xl_parse.c).
    first, final = _word(create, "ssid_label"), _word(build, "exec_ssid_label")
    asked = {event: _word(value, event) for event in EVENTS}
    return VmConfig(
        name, (_word(create, "uuid") or "").lower(), final or first, first if final else None,
        _word(build, "device_model_ssid_label"),
        {event: action for event, action in asked.items() if action and action != "destroy"},
        _devices(value),
        hvm="type.hvm" in build or _word(create, "type") == "hvm",
        cmdline=_word(build, "cmdline") or "",
        vcpus=_number(build, "max_vcpus", 1), memory=_number(build, "max_memkb", 0),
    )


def _number(build: Mapping[str, Any], key: str, otherwise: int) -> int:
    """A number of libxl's ``b_info``; what is left out has its default."""
    found = build.get(key, otherwise)
    if type(found) is not int or found < 0:
        raise _odd("xl create -n", f"{key}: {found!r}")
    return found


def _devices(value: dict[str, Any]) -> Devices:
    try:
        return devices(value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _odd("xl create -n", f"a device: {error!r}") from error


_ENTRY = re.compile(r'/local/domain/0/backend/([^/]+)/(\d+)/([^/]+)(?:/(.+?))? = "(.*)"')


def backends(listing: str) -> tuple[Backend, ...]:
    """The backends in the output of ``xenstore-ls -f /local/domain/0/backend``."""
    found: dict[tuple[str, int, str], dict[str, str]] = {}
    for line in listing.splitlines():
        match = _ENTRY.match(line)
        if match is not None:
            values = found.setdefault((match[1], int(match[2]), match[3]), {})
            if match[4]:
                values[match[4]] = match[5]
    return tuple(Backend(*key, values) for key, values in sorted(found.items()))


_LEVEL = re.compile(r"(?:^|\s)loglvl=(\S+)")


def limits_messages(info: str) -> bool:
    """Whether Xen's command line, in the output of ``xl info``, has warnings limited.

    Denials are printed as warnings (xen/drivers/char/console.c): ``loglvl=error/warning`` prints
    errors always and warnings at a limited rate; the last such option counts.
    """
    line = next((one for one in info.splitlines() if one.startswith("xen_commandline")), "")
    found = _LEVEL.findall(line.partition(":")[2])
    always, limited, _ = found[-1].partition("/") if found else ("", "", "")
    return bool(limited) and always in ("none", "error")


def denied_lines(dmesg: str) -> tuple[str, ...]:
    """The AVC denials in the output of ``xl dmesg``."""
    return tuple(line for line in dmesg.splitlines() if "avc:" in line and "denied" in line)


def _word(value: dict[str, object], key: str) -> str | None:
    found = value.get(key)
    if found is None or isinstance(found, str):
        return found or None
    raise _odd("xl create -n", f"{key}: {found!r}")


def _odd(command: str, text: str) -> Unavailable:
    return Unavailable(
        "xl.output", f"`{command}` printed what the agent does not understand: {text!r}",
        "is this the xl of the Xen release that the policy was built for?",
    )

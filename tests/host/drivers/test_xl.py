"""What xl prints, in the formats of Xen 4.17."""

from __future__ import annotations

import json

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.drivers.xen.xl import config, denied_lines, domains, limits_messages
from shype.host.hypervisor import Domain, Ending, VmConfig

HEADER = (f"{'Name':<40}    ID   Mem VCPUs\tState\tTime(s)   UUID                            "
          "Reason-Code\tSecurity Label\n")
UUID = "0d6f1a6e-7b43-4b7e-9b0a-2f3c4d5e6f70"
#: The letter of the fifth column -> the code.
CODES = {"r": 1, "s": 2, "c": 3, "w": 4, "S": 5, "?": 9}


def row(name: str, domid: int, state: str, label: str, seconds: float = 1.5) -> str:
    """As list_domains() of tools/xl/xl_info.c formats it."""
    reason = f"{CODES.get(state[4], 0):8x}" if state[3] == "s" else f"{'-':>8}"
    return (f"{name:<40} {domid:5d} {128:5d} {1:5d}     {state}  {seconds:8.1f} {UUID} {reason} "
            f"{label:>16}\n")


def domain(
    domid: int, name: str, context: str, *, paused: bool = False, dying: bool = False,
    ended: Ending | None = None,
) -> Domain:
    return Domain(domid, name, context, paused, dying, UUID, ended)


def test_domains_of_every_kind() -> None:
    label = "u:r:l_web_t:s0"
    text = HEADER + "".join((
        row("Domain-0", 0, "r-----", "u:r:dom0_t:s0", 123456789.0),
        row("web", 12, "-b----", label),
        row("half", 13, "--p---", label),
        row("(null)", 4, "--ps-d", label),
        row("a name with blanks 7 8 9", 14, "------", label),
        row("x" * 60, 15, "---sc-", label),
        row("stranger", 16, "-b----", "-"),
    ))
    assert domains(text) == (
        domain(0, "Domain-0", "u:r:dom0_t:s0"),
        domain(4, "(null)", label, paused=True, dying=True, ended=Ending.POWEROFF),
        domain(12, "web", label),
        domain(13, "half", label, paused=True),
        domain(14, "a name with blanks 7 8 9", label),
        domain(15, "x" * 60, label, ended=Ending.CRASH),
        domain(16, "stranger", "-"),
    )


@pytest.mark.parametrize(("letter", "ending"), [
    ("-", Ending.POWEROFF), ("r", Ending.REBOOT), ("s", Ending.SUSPEND), ("c", Ending.CRASH),
    ("w", Ending.WATCHDOG), ("S", Ending.SOFT_RESET), ("?", Ending.POWEROFF),
])
def test_why_a_domain_has_ended(letter: str, ending: Ending) -> None:
    one, = domains(HEADER + row("web", 3, f"---s{letter}-", "u:r:l_web_t:s0"))
    assert one.ended is ending
    assert not one.dying


@pytest.mark.parametrize("text", [
    "", "xl: cannot open privcmd\n", HEADER + "web 12 128\n",
    HEADER + row("web", 12, "-b----", "l").replace("-b----", "-b---?"),
])
def test_a_line_that_is_not_understood_is_never_passed_over(text: str) -> None:
    with pytest.raises(Unavailable) as caught:
        domains(text)
    assert caught.value.id == "xl.output"


def dry_run(create: dict[str, object], build: dict[str, object], **top: object) -> str:
    """The output of ``xl create -n``."""
    return json.dumps({"c_info": create, "b_info": build, **top}, indent=4)


@pytest.mark.parametrize(("create", "build", "expected"), [
    ({"name": "a", "uuid": "u1"}, {}, VmConfig("a", "u1", None, None)),
    ({"name": "a", "ssid_label": "x"}, {}, VmConfig("a", "", "x", None)),
    ({"name": "a", "ssid_label": "x"}, {"exec_ssid_label": "y"}, VmConfig("a", "", "y", "x")),
    ({"name": "a"}, {"device_model_ssid_label": "z"}, VmConfig("a", "", None, None, "z")),
])
def test_labels_of_a_configuration(
    create: dict[str, object], build: dict[str, object], expected: VmConfig
) -> None:
    assert config(dry_run(create, build)) == expected
    assert config("Parsing config from x\n" + dry_run(create, build) + "\n") == expected
    wrapped = json.dumps({"domid": None, "config": {"c_info": create, "b_info": build}})
    assert config(wrapped) == expected


def test_only_actions_that_could_create_it_again_are_reported() -> None:
    text = dry_run({"name": "a"}, {}, on_reboot="restart", on_crash="destroy", disks=[])
    assert config(text).actions == {"on_reboot": "restart"}


@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", '{"c_info": 3}', '{"c_info": {"name": "a", "ssid_label": 3}}',
])
def test_other_output_is_an_error(text: str) -> None:
    with pytest.raises(Unavailable) as caught:
        config(text)
    assert caught.value.id == "xl.output"


def test_a_configuration_without_name() -> None:
    with pytest.raises(BadInput) as caught:
        config(dry_run({"uuid": "u"}, {}))
    assert caught.value.id == "config.invalid"


def test_denied_lines() -> None:
    text = "(XEN) boot\n(XEN) avc:  denied  { create } for x\n(XEN) avc:  granted { load }\n"
    assert denied_lines(text) == ("(XEN) avc:  denied  { create } for x",)


@pytest.mark.parametrize(("options", "limited"), [
    ("flask=enforcing loglvl=error/warning", True), ("loglvl=none/all", True),
    ("loglvl=all guest_loglvl=error/warning", False), ("loglvl=error/warning loglvl=all", False),
    ("loglvl=warning/info", False), ("loglvl=error", False), ("", False),
])
def test_whether_denials_are_printed_at_a_limited_rate(options: str, limited: bool) -> None:
    info = f"host : lab\nxen_commandline        : {options}\ncc_compiler : gcc\n"
    assert limits_messages(info) is limited

"""One rule of the walk per row: what counts as a check before an effect, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.analysis.hooks.audit import Verdict, When
from tests.analysis.hooks.small_xen import events

_GUARDED = """
static int guarded(struct domain *d, struct evtchn *chn)
{
    int rc = xsm_send(XSM_HOOK, d);

    if ( rc )
        return rc;
    chn->pending = 1;
    return 0;
}
"""
_WRITES = """
static void writes(struct evtchn *chn)
{
    chn->pending = 1;
}
"""
_ASKS = """
static int asks(struct domain *d)
{
    if ( !d )
        return -EINVAL;
    return xsm_send(XSM_HOOK, d);
}
"""
_SOMETIMES = """
static int sometimes(struct domain *d)
{
    if ( d == current->domain )
        return 0;
    return xsm_send(XSM_TARGET, d);
}
"""
_MACRO = """
#define MAY_SEND(d) \\
    do {                                 \\
        rc = xsm_send(XSM_HOOK, d);      \\
        if ( rc )                        \\
            goto out;                    \\
    } while ( 0 )
"""
_CHECK = "rc = xsm_send(XSM_HOOK, d);\nif ( rc )\n    break;\n"

MEDIATED = {
    "direct": (_CHECK + "chn->pending = 1; break;", ""),
    "in the condition": ("if ( xsm_send(XSM_HOOK, d) ) { rc = -EPERM; break; }\n"
                         "chn->pending = 1; break;", ""),
    "assigned in the condition": ("if ( (rc = xsm_send(XSM_HOOK, d)) ) break;\n"
                                  "chn->pending = 1; break;", ""),
    "returned in a negation": ("if ( !xsm_send(XSM_HOOK, d) ) chn->pending = 1;\nbreak;", ""),
    "if it went well so far": ("if ( !rc )\n    rc = xsm_send(XSM_HOOK, d);\n"
                               "if ( !rc )\n    chn->pending = 1;\nbreak;", ""),
    "or a reason to refuse": ("if ( !chn || xsm_send(XSM_HOOK, d) )\n    rc = -EPERM;\n"
                              "else\n    chn->pending = 1;\nbreak;", ""),
    "one of two": ("rc = d->up ? xsm_send(XSM_HOOK, d) : xsm_open(XSM_HOOK, d, d);\n"
                   "if ( rc )\n    break;\nchn->pending = 1; break;", ""),
    "a refusal instead": ("rc = d->up ? xsm_send(XSM_HOOK, d) : -EACCES;\n"
                          "if ( rc )\n    break;\nchn->pending = 1; break;", ""),
    "with the effect in a helper": ("rc = guarded(d, chn); break;", _GUARDED),
    "in a helper": ("rc = asks(d);\nif ( rc )\n    break;\nwrites(chn); break;", _ASKS + _WRITES),
    "in a macro": ("MAY_SEND(d);\nchn->pending = 1;\nout:\nbreak;", _MACRO),
    "in the loop with the effect": (
        "for_each_domain ( d )\n{\n    if ( xsm_send(XSM_HOOK, d) )\n        continue;\n"
        "    copy_to_guest(arg, d, 1);\n}\nbreak;", ""),
    "before a loop": (_CHECK + "while ( rc < 3 )\n    chn->pending = rc;\nbreak;", ""),
    "writes to its own memory first": (
        "{\n    struct op op, *p = &op;\n    p->x = 1; op.y = 2;\n    rc = xsm_send(XSM_HOOK, d);\n"
        "    if ( rc )\n        break;\n    chn->pending = 1;\n    break;\n}", ""),
    "gives nothing but the request back": (
        "{\n    struct op op;\n    rc = -EINVAL;\n    if ( !d )\n        goto out;\n"
        "    rc = xsm_send(XSM_HOOK, d);\n    if ( rc )\n        goto out;\n    chn->pending = 1;\n"
        "out:\n    if ( copy_to_guest(arg, &op, 1) )\n        rc = -EFAULT;\n    break;\n}", ""),
    "falls into the guarded case": ("/* fall through */", ""),
}

OPEN = {
    "no hook": ("chn->pending = 1; break;", "", Verdict.UNMEDIATED),
    "no hook in the helper": ("writes(chn); break;", _WRITES, Verdict.UNMEDIATED),
    "hook after the effect": ("chn->pending = 1;\n" + _CHECK + "break;", "", Verdict.PARTLY),
    "hook on one way only": ("if ( d->remote )\n{\n" + _CHECK.replace("break", "return rc")
                             + "}\nchn->pending = 1; break;", "", Verdict.PARTLY),
    "an error that is set beforehand hides no way": (
        "rc = -EINVAL;\nif ( d->remote )\n{\n    rc = xsm_send(XSM_HOOK, d);\n    if ( rc )\n"
        "        return rc;\n}\nchn->pending = 1; break;", "", Verdict.PARTLY),
    "helper that asks sometimes": ("rc = sometimes(d);\nif ( rc )\n    break;\n"
                                   "chn->pending = 1; break;", _SOMETIMES, Verdict.PARTLY),
    "answer thrown away": ("xsm_send(XSM_HOOK, d);\nchn->pending = 1; break;", "",
                           Verdict.UNMEDIATED),
    "answer overwritten": ("rc = xsm_send(XSM_HOOK, d);\nrc = 0;\nif ( rc )\n    break;\n"
                           "chn->pending = 1; break;", "", Verdict.UNMEDIATED),
    "data for the caller": ("copy_to_guest(arg, &chn, 1); break;", "", Verdict.UNMEDIATED),
    "pointer call": ("d->ops->send(chn); break;", "", Verdict.UNMEDIATED),
    "only its result": ("rc = d->count; break;", "", Verdict.UNMEDIATED),
    "falls into a case, effect first": ("chn->pending = 1;", "", Verdict.PARTLY),
}


@pytest.mark.parametrize("name", MEDIATED)
def test_a_check_before_every_effect(name: str, tmp_path: Path) -> None:
    case, rest = MEDIATED[name]
    row = events(tmp_path, case, rest)
    assert row.verdict is Verdict.MEDIATED, row.open
    assert row.when is When.EACH_USE
    assert not row.finding
    assert row.checks
    assert "event.send" in row.permissions or name.startswith("falls")


@pytest.mark.parametrize("name", OPEN)
def test_an_effect_without_a_check(name: str, tmp_path: Path) -> None:
    case, rest, verdict = OPEN[name]
    row = events(tmp_path, case, rest)
    assert row.verdict is verdict, row.checks
    assert row.finding
    assert row.when is When.NONE
    if name.startswith("answer"):
        assert [check.hook for check in row.ignored] == ["xsm_send"]


def test_a_check_in_another_case_is_none(tmp_path: Path) -> None:
    """EVTCHNOP_open of the fixture asks; EVTCHNOP_send after it does not."""
    row = events(tmp_path, "chn->pending = 1; break;")
    assert row.checks == ()


def test_a_check_before_the_switch_counts_for_all(tmp_path: Path) -> None:
    row = events(tmp_path, "chn->pending = 1; break;",
                 before="    rc = xsm_send(XSM_HOOK, d);\n    if ( rc )\n        return rc;\n")
    assert row.verdict is Verdict.MEDIATED


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    row = events(tmp_path, _CHECK + "chn->pending = 1; break;")
    text = (tmp_path / "xen/common/event_channel.c").read_text().splitlines()
    assert row.place is not None
    assert "case EVTCHNOP_send" in text[row.place[1] - 1]
    (check,) = row.checks
    assert "xsm_send" in text[check.line - 1]
    assert check.default == "XSM_HOOK"


@pytest.mark.parametrize("directive", ["#if defined(A)\n{0}\n#else\n{1}\n#endif\n"])
def test_alternatives_of_the_preprocessor(directive: str, tmp_path: Path) -> None:
    """Only one is compiled: a check in one of them does not do for the other."""
    both = directive.format(_CHECK, _CHECK) + "chn->pending = 1; break;"
    one = directive.format(_CHECK, "rc = 0;") + "chn->pending = 1; break;"
    assert events(tmp_path / "both", both).verdict is Verdict.MEDIATED
    assert events(tmp_path / "one", one).verdict is Verdict.PARTLY


def test_what_lasts_is_checked_at_set_up_only(tmp_path: Path) -> None:
    port = "\nint evtchn_get_port(struct domain *d)\n{\n    d->port = 1;\n    return d->port;\n}\n"
    row = events(tmp_path, "rc = evtchn_get_port(d);\nif ( rc < 0 )\n    break;\n" + _CHECK
                 + "chn->pending = 1; break;", port)
    assert row.verdict is Verdict.MEDIATED
    assert row.when is When.SET_UP
    assert row.lasting


def test_a_comparison_selects_as_a_switch_does(tmp_path: Path) -> None:
    guarded = "    if ( cmd == EVTCHNOP_open )\n        rc = 1;\n    else if ( (rc = " \
              "xsm_send(XSM_HOOK, d)) )\n        return rc;\n"
    row = events(tmp_path, "chn->pending = 1; break;", before=guarded)
    assert row.verdict is Verdict.MEDIATED
    other = guarded.replace("EVTCHNOP_open", "EVTCHNOP_send")
    row = events(tmp_path / "x", "chn->pending = 1; break;", before=other)
    assert row.verdict is Verdict.UNMEDIATED

"""Operations, permissions, the allow-list, the command, and trees that are none."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pytest

from shype.analysis.hooks.audit import Verdict, allowed, audit
from shype.analysis.hooks.definitions import definitions
from shype.analysis.hooks.operations import families, family_of, operations
from shype.analysis.hooks.permissions import Permissions
from shype.analysis.hooks.tree import Tree
from shype.base.errors import BadInput
from shype.cli.main import main
from tests.analysis.hooks.small_xen import rows, write

_SOURCE = """
long do_event_channel_op(int cmd)
{
    struct domain *d = current->domain;

    if ( cmd == EVTCHNOP_send && xsm_send(XSM_HOOK, d) )
        return -EPERM;
    d->events = 1;
    return 0;
}
"""


def test_operations_come_from_the_public_headers(tmp_path: Path) -> None:
    names = {each.name for each in operations(Tree(write(tmp_path)))}
    assert {"EVTCHNOP_send", "GNTTABOP_copy", "XEN_DOMCTL_adopt", "CONSOLEIO_write"} <= names
    assert "XEN_DOMCTL_INTERFACE_VERSION" not in names


def test_an_operation_that_nobody_handles_is_absent(tmp_path: Path) -> None:
    found = rows(tmp_path, event_channel=_SOURCE)
    assert found["EVTCHNOP_probe"].verdict is Verdict.ABSENT
    assert found["GNTTABOP_copy"].verdict is Verdict.ABSENT
    assert not found["GNTTABOP_copy"].finding


@pytest.mark.parametrize(("hook", "operation", "expected"), [
    ("send", "EVTCHNOP_send", ("event.send",)),
    ("open", "EVTCHNOP_open", ("event.bind", "event.create")),
    ("domctl", "XEN_DOMCTL_pause", ("domain.pause",)),
    ("domctl", "XEN_DOMCTL_adopt", ()),
    ("domctl", "XEN_DOMCTL_new", ("(unknown: refused)",)),
    ("adopt", "XEN_DOMCTL_adopt", ("domain2.adopt",)),  # by the table, not by the name
])
def test_permissions(
    hook: str, operation: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert Permissions(Tree(write(tmp_path))).of(hook, operation) == expected


@pytest.mark.parametrize(("name", "family"), [
    ("HVMOP_altp2m_get_p2m_idx", "HVMOP_altp2m_"), ("HVMOP_set_param", "HVMOP_"),
    ("XENMEM_access_op_set_access", "XENMEM_access_op_"), ("XENMEM_exchange", "XENMEM_"),
    ("EVTCHNSTAT_closed", "EVTCHNSTAT_closed"),
])
def test_the_longest_prefix_names_the_family(name: str, family: str) -> None:
    assert family_of(name) == family


def test_each_allow_list_entry_names_operations_and_a_reason() -> None:
    entries = json.loads(
        (resources.files("shype.analysis.hooks") / "allowed.json").read_text())
    prefixes = [each.prefix or each.hypercall for each in families()]
    for entry in entries:
        assert set(entry) == {"operations", "kind", "reason"}
        assert entry["kind"] in ("none", "covered")
        assert re.fullmatch(r"[A-Z].{20,}\.", entry["reason"]), entry
        start = re.split(r"[^\w]", entry["operations"].replace("\\w", "|"))[0]
        assert not start or any(p.startswith(start) or start.startswith(p) for p in prefixes), entry


def test_covered_excuses_no_operation_without_any_check() -> None:
    assert allowed("GNTTABOP_copy", Verdict.PARTLY)[0] == "covered"
    assert allowed("GNTTABOP_copy", Verdict.UNMEDIATED) == ("", "")
    assert allowed("SCHEDOP_yield", Verdict.UNMEDIATED)[0] == "none"
    assert allowed("GNTTABOP_transfer", Verdict.PARTLY) == ("", "")


def test_definitions_are_found_by_layout() -> None:
    text = """
/* int in_a_comment(void) { } */
static int one(int a,
               int (*f)(void))
{
    if ( a ) { return 1; }
    return 0;
}

#define TWO(x) do { \\
    three(x);       \\
} while ( 0 )

struct s {
    int four;
};

void __init five(void) {
    one();
}

DO(six)(int cmd)
{
    return;
}
"""
    found = {each.name: each for each in definitions(text, Path("common/x.c"))}
    assert set(found) == {"one", "five", "do_six"}
    assert text.splitlines()[found["one"].line - 1].startswith("static int one")
    assert found["five"].callees >= {"one"}


@pytest.mark.parametrize(("spoil", "error"), [
    ("include/public/xen.h", "hooks.no-tree"), ("include/xsm/xsm.h", "hooks.no-xsm"),
])
def test_what_is_no_tree(spoil: str, error: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "xen" / spoil).unlink()
    with pytest.raises(BadInput) as caught:
        audit(tmp_path)
    assert caught.value.id == error
    assert main(["audit-hooks", str(tmp_path)]) == 2


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, event_channel=_SOURCE.replace("cmd == EVTCHNOP_send && ", ""))
    assert main(["audit-hooks", str(tmp_path), "--only", "EVTCHNOP_"]) == 0
    (tmp_path / "xen/common/event_channel.c").write_text(
        _SOURCE.replace("== EVTCHNOP_send", "!= EVTCHNOP_send"))
    assert main(["audit-hooks", str(tmp_path), "--only", "EVTCHNOP_send"]) == 1
    out = capsys.readouterr().out
    assert "Xen 4.17: 1 operations: 0 mediated" in out
    assert "EVTCHNOP_send: common/event_channel.c:8: writes d->events without a check" in out
    assert main(["audit-hooks", str(tmp_path / "xen"), "--json", "--findings"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [row["operation"] for row in document["rows"]] == ["EVTCHNOP_send"]
    assert document["rows"][0]["unguarded"][0]["at"] == "common/event_channel.c:8"
    assert main(["audit-hooks", str(tmp_path), "--only", "NOSUCH_"]) == 2

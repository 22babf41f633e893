"""All forms that ACM's policies had, and files that are nearly such policies."""

from __future__ import annotations

import pytest

from shype.policy.acm.errors import AcmUnreadable
from shype.policy.acm.importer import Imported, import_documents
from shype.policy.names import CoalitionName, LabelName, ResourceLabelName
from tests.policy.acm.documents import UNLABELED, Table
from tests.policy.acm.spoiled import GOOD

TABLE = Table(
    "dom_Manager",
    {"dom_Manager": (["ste_A", "ste_B"], ["cw_M"]), "dom_A": (["ste_A"], ["cw_A"]),
     "dom_B": (["ste_B"], ["cw_B"])},
    ["ste_A", "ste_B"], ["cw_M", "cw_A", "cw_B"], [("P 1", ["cw_A", "cw_B"])],
    {"res (hda1)": ["ste_A"]}, name="example.client v1",
)


def _import(*texts: str | bytes) -> Imported:
    return import_documents([
        (text.encode() if isinstance(text, str) else text, f"{index}.xml")
        for index, text in enumerate(texts)
    ])


def _ids(done: Imported) -> list[str]:
    return [finding.id for finding in done.findings]


def _is_the_table(done: Imported) -> None:
    policy = done.policy
    assert policy.host.dom0 == "dom-manager"
    assert list(policy.coalitions) == ["ste-a", "ste-b"]
    assert {n: set(w.members) for n, w in policy.walls.items()} == {"p-1": {"cw-a", "cw-b"}}
    assert policy.labels[LabelName("dom-a")].coalitions == {"ste-a"}
    assert policy.labels[LabelName("dom-a")].members == {"cw-a"}
    assert policy.labels[LabelName("dom-manager")].members == frozenset()
    assert policy.labels[LabelName("dom-manager")].coalitions == {"ste-a", "ste-b"}
    thing = policy.resource_labels[ResourceLabelName("res-hda1")]
    assert thing.coalitions == {"ste-a"}


def test_2005_in_two_files_in_either_order() -> None:
    policy, template = TABLE.two_files()
    for files in ((policy, template), (template, policy)):
        done = _import(*files)
        _is_the_table(done)
        assert done.generation == "2005-08"
    assert policy.count(b"<Name>") == 1, "2005 calls the policy's name so"
    without = policy.replace(b"<Version>1.0</Version>", b"")
    assert _ids(_import(without, template)) == ["acm.no-version"]


def test_2006_has_no_version() -> None:
    done = _import(TABLE.xml().replace(b"<Version>1.0</Version>", b""))
    _is_the_table(done)
    assert (done.generation, done.policy.version, _ids(done)) == ("2006", "0.1", ["acm.no-version"])


def test_2007_and_later_is_clean() -> None:
    done = _import(TABLE.xml())
    _is_the_table(done)
    assert (done.generation, _ids(done)) == ("2007", [])
    assert done.policy.name == "example-client-v1"


DEFINITION = """\
<Definition>
<Types><TE>LOCAL</TE><TE>SECURE</TE></Types>
<ChWallTypes><ChWall>Q1</ChWall><ChWall>Q2</ChWall></ChWallTypes>
<ConflictSet><ChWall>Q1</ChWall><ChWall>Q2</ChWall></ConflictSet>
</Definition>
"""
FIRST = """\
<Policy>
<PolicyHeader><Name>sample</Name><DateTime>2005-06-20</DateTime><Tag>7</Tag></PolicyHeader>
<VM><id>0</id><TE>LOCAL</TE><TE>SECURE</TE></VM>
<VM><id>1</id><TE>LOCAL</TE><ChWall>Q1</ChWall></VM>
<VM><id>2</id><TE>SECURE</TE><ChWall>Q2</ChWall></VM>
<Vlan><vid>3</vid><TE>LOCAL</TE></Vlan>
<Slot><bus>1</bus><slot>8</slot><TE>SECURE</TE></Slot>
</Policy>
"""
_ROOT = '<SecurityPolicySpec xmlns="http://www.ibm.com">'


@pytest.mark.parametrize("files", [
    (f"{_ROOT}{DEFINITION}{FIRST}</SecurityPolicySpec>",),
    (f"{_ROOT}{DEFINITION}</SecurityPolicySpec>",
     FIRST.replace("<Policy>", '<Policy xmlns="http://www.ibm.com">')),
])
def test_june_2005(files: tuple[str, ...]) -> None:
    done = _import(*files)
    policy = done.policy
    assert (done.generation, policy.name, _ids(done)) == ("2005-06", "sample", ["acm.no-version"])
    assert policy.host.dom0 == "domain-0"
    assert list(policy.labels) == ["domain-0", "domain-1", "domain-2"]
    assert policy.labels[LabelName("domain-2")].coalitions == {"secure"}
    assert list(policy.walls) == ["conflict-1"]
    assert list(policy.resource_labels) == ["vlan-3", "slot-1-8"]


def test_june_2005_needs_both_halves() -> None:
    for half in (DEFINITION, FIRST):
        with pytest.raises(AcmUnreadable) as caught:
            _import(half)
        assert caught.value.id == "acm.files"


def test_files_that_do_not_belong_together_are_refused() -> None:
    policy, template = TABLE.two_files()
    for files in ((policy,), (template,), (policy, policy), (TABLE.xml(), template),
                  (TABLE.xml(), TABLE.xml()), (policy, template, template)):
        with pytest.raises(AcmUnreadable) as caught:
            _import(*files)
        assert caught.value.id == "acm.files"
        assert caught.value.exit_code == 2


# -- missing parts --------------------------------------------------------------------------------


def test_only_ste() -> None:
    table = Table("M", {"M": (["a"], []), "A": (["a"], [])}, ["a"], None)
    done = _import(table.xml())
    assert _ids(done) == ["acm.no-chwall"]
    assert done.policy.walls == {}


_ONLY_WALL = Table(
    "M", {"M": ([], ["m"]), "A": ([], ["a"]), "B": ([], ["b"])}, None, ["m", "a", "b"],
    [("c", ["a", "b"])],
)


def test_only_chwall_before_2007_everybody_shares() -> None:
    done = _import(_ONLY_WALL.xml().replace(b"<Version>1.0</Version>", b""))
    assert sorted(_ids(done)) == ["acm.no-ste", "acm.no-version"]
    assert done.policy.labels[LabelName("a")].coalitions == {"everyone"}
    assert done.policy.labels[LabelName("m")].coalitions == {"everyone"}
    assert len(done.policy.walls) == 1


def test_only_chwall_later_nobody_shares_and_nobody_starts() -> None:
    done = _import(_ONLY_WALL.xml())
    assert _ids(done) == ["acm.no-ste"]
    assert done.policy.labels[LabelName("a")].coalitions == {"never-starts"}
    assert done.policy.coalitions[CoalitionName("never-starts")].mechanisms == frozenset()
    assert done.policy.labels[LabelName("m")].coalitions == frozenset()


def test_neither_is_the_null_policy() -> None:
    table = Table("M", {"M": ([], []), "A": ([], [])}, None, None, version=None)
    done = _import(table.xml())
    assert sorted(_ids(done)) == ["acm.no-chwall", "acm.no-ste", "acm.no-version"]
    assert done.policy.labels[LabelName("a")].coalitions == {"everyone"}


def test_no_labels_at_all() -> None:
    text = GOOD[: GOOD.index("<SubjectLabels")] + GOOD[GOOD.index("</SecurityLabelTemplate>") :]
    done = _import(text)
    assert _ids(done) == ["acm.no-bootstrap"]
    assert list(done.policy.labels) == ["dom0"]


def test_the_default_policy() -> None:
    """As built into the hypervisor from 2007 on."""
    manager = "SystemManagement"
    table = Table(
        manager, {manager: ([manager, UNLABELED], []), UNLABELED: ([UNLABELED], [])},
        [manager, UNLABELED], [manager], (), {UNLABELED: [UNLABELED]}, name="DEFAULT",
    )
    done = _import(table.xml().replace(
        b"</Name>\n<SimpleTypeEnforcementTypes><Type>SystemManagement", b"</Name>\n"
        b"<SimpleTypeEnforcementTypes><Type/><Type>SystemManagement",
    ))
    assert _ids(done) == []
    policy = done.policy
    assert list(policy.labels) == ["systemmanagement", "unlabeled"]
    assert policy.unlabeled is not None
    assert policy.unlabeled.coalitions == {"unlabeled"}
    assert policy.unlabeled_resources is not None
    assert policy.unlabeled_resources.coalitions == {"unlabeled"}


# -- text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252"])
def test_encodings(encoding: str) -> None:
    text = GOOD.replace(">Web<", ">Büro für Käse<").replace('encoding="UTF-8"',
                                                           f'encoding="{encoding}"')
    done = _import(text.encode(encoding))
    assert done.findings == ()
    assert done.sketch.mapping["labels"]["Büro für Käse"] == "buro-fur-kase"
    assert "# Büro für Käse (line 26)" in done.text


def test_comments_cdata_references_prefixes_and_blanks() -> None:
    text = GOOD.replace(">Web<", ">\n <!-- x --><![CDATA[W]]>&#101;<!-- y -->b\t<")
    text = text.replace("<Type>Red</Type>", "<?x y?><Type>Re<!-- -->d</Type>")
    done = _import(text)
    assert done.findings == ()
    assert done.policy.labels == _import(GOOD).policy.labels
    prefixed = GOOD.replace("xmlns=", "xmlns:a=").replace("</", "\0").replace("<", "<a:").replace(
        "\0", "</a:").replace("<a:?", "<?")
    assert _import(prefixed).policy.labels.keys() == done.policy.labels.keys()
    assert _import(prefixed).findings == ()


def test_old_names_cannot_leave_their_comment() -> None:
    for name in ("a\u2028labels: {}", "a&#10;shype: 2", "a\u0085b", "a&#x7f;b", "\ufeffa"):
        done = _import(GOOD.replace(">Web<", f">{name}<"))
        assert len(done.policy.labels) == 4
        assert "\u2028" not in done.text

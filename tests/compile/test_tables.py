"""Tables of Xen releases: shipped ones fit the rules, imported ones are checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.compile.flask import cil, rules, tables
from tests.compile.policies import BANKS

ALL = [
    *rules.BOOT, *rules.VM, *rules.CLEANUP, *rules.BUILD, *rules.SERVE,
    *(rule for mechanism in cil.MECHANISMS for rule in rules.sharing("ste_x", mechanism)),
]


def tree(root: Path, **changes: str) -> Path:
    """A Xen source tree in small; ``changes`` replaces files by name."""
    files = {
        "security_classes": "# classes\nclass domain\nclass grant # tables\n",
        "initial_sids": "# sids\nsid xen\nsid dom0\n",
        "access_vectors": "class domain # one\n{\n# a comment\n    create\n    pause\n}\n\n"
        "class grant {\n map_read }\n",
    } | changes
    folder = root / tables.TREE_DIR
    folder.mkdir(parents=True)
    for name, text in files.items():
        if name != "Makefile":
            (folder / name).write_text(text)
    makefile = "export XEN_VERSION = 4\nexport XEN_SUBVERSION = 31\nexport XEN_EXTRAVERSION ?= .2"
    (root / "xen/Makefile").write_text(files.get("Makefile", makefile + "-rc$(X)\n"))
    return root


def test_shipped_targets() -> None:
    assert tables.shipped() == tuple(f"xen-4.{minor}" for minor in range(17, 23))


@pytest.mark.parametrize("target", tables.shipped())
def test_every_rule_fits_every_release(target: str) -> None:
    """Each permission that a rule names exists; each release compiles."""
    table = tables.load(target)
    assert table.target == target
    for rule in rules.applicable(ALL, table):
        for permission in rule.permissions:
            assert permission in table.classes[rule.cls]
    assert "(class argo" in cil.generate(BANKS, table)


def test_known_drift() -> None:
    """What changed between releases, as their own tables have it."""
    old, new = tables.load("xen-4.17"), tables.load("xen-4.22")
    assert "privprofile" in old.classes["xen"]
    assert "privprofile" not in new.classes["xen"]
    assert "get_domain_state" not in old.classes["domain2"]
    assert "get_domain_state" in new.classes["domain2"]
    assert "get_domain_state" not in cil.generate(BANKS, old).split("(classorder")[1]
    assert "get_domain_state" in cil.generate(BANKS, new).split("(classorder")[1]


def test_unknown_permission_is_an_error() -> None:
    old = tables.load("xen-4.17")
    without = tuple(p for p in old.classes["grant"] if p != "copy")
    crippled = replace(old, classes={**old.classes, "grant": without})
    with pytest.raises(BadInput, match=r"grant\.copy") as caught:
        cil.generate(BANKS, crippled)
    assert caught.value.id == "target.unknown-permission"


def test_unknown_class_is_an_error() -> None:
    old = tables.load("xen-4.17")
    crippled = replace(old, classes={k: v for k, v in old.classes.items() if k != "argo"})
    with pytest.raises(BadInput, match="class argo") as caught:
        cil.generate(BANKS, crippled)
    assert caught.value.id == "target.unknown-permission"


def test_missing_sid_is_an_error() -> None:
    old = tables.load("xen-4.17")
    with pytest.raises(BadInput, match="domU") as caught:
        cil.generate(BANKS, replace(old, initial_sids=old.initial_sids[:-2]))
    assert caught.value.id == "target.unknown-sid"


def test_every_rule_has_a_reason() -> None:
    for rule in ALL:
        assert len(rule.reason) > 15
        assert "\n" not in rule.reason
        assert rule.permissions
        assert "*" not in str(rule)


def test_unknown_target_suggests() -> None:
    with pytest.raises(BadInput, match=r"did you mean xen-4\.") as caught:
        tables.load("xen-4.16")
    assert caught.value.id == "target.unknown"


@pytest.mark.parametrize("target", ["", "../4.17", "4.17", "xen-4.17.json"])
def test_odd_targets(target: str) -> None:
    with pytest.raises(BadInput):
        tables.load(target)


def test_import(tmp_path: Path) -> None:
    table = tables.import_tree(tree(tmp_path))
    assert table.release == "4.31.2"
    assert table.target == "xen-4.31"
    assert table.classes == {"domain": ("create", "pause"), "grant": ("map_read",)}
    assert list(table.classes) == ["domain", "grant"]
    assert table.initial_sids == ("xen", "dom0")
    assert tables.parse(table.dumps(), "again") == table
    assert json.loads(table.dumps()) == table.to_json()


@pytest.mark.parametrize("target", tables.shipped())
def test_shipped_files_are_in_canonical_form(target: str) -> None:
    table = tables.load(target)
    file = Path(tables.__file__).parent / "tables" / f"{target.removeprefix('xen-')}.json"
    assert file.read_bytes() == table.dumps()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("security_classes", "class domain\nclass domain\n"),
        ("security_classes", "class\n"),
        ("security_classes", "type domain\n"),
        ("security_classes", "class domain\n"),
        ("initial_sids", "sid xen\nsid xen\n"),
        ("initial_sids", ""),
        ("initial_sids", "sid xen)(allow\n"),
        ("access_vectors", "class domain { create }"),
        ("access_vectors", "class domain { create create }\nclass grant { map_read }"),
        ("access_vectors", "class domain { }\nclass grant { map_read }"),
        ("access_vectors", "class domain { create \nclass grant { map_read }"),
        ("access_vectors", "class domain { a }\nclass domain { b }\nclass grant { map_read }"),
        ("access_vectors", "class domain { " + " ".join(f"p{i}" for i in range(33))
         + " } class grant { map_read }"),
        ("access_vectors", "class domain { (x) }\nclass grant { map_read }"),
        ("Makefile", "all:\n"),
        ("Makefile", "XEN_VERSION = four\nXEN_SUBVERSION = 17\n"),
    ],
)
def test_bad_trees(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(BadInput) as caught:
        tables.import_tree(tree(tmp_path, **{name: text}))
    assert caught.value.id == "tables.invalid"


def test_not_a_tree(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="xen/xsm/flask/policy") as caught:
        tables.import_tree(tmp_path)
    assert caught.value.id == "tables.no-tree"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"[]", b"{}", b"\xff", b"[" * 100_000,
        b'{"format": 2, "release": "4.17", "classes": [], "initial_sids": []}',
        b'{"format": 1, "release": "4.17", "classes": [], "initial_sids": ["xen"]}',
        b'{"format": 1, "release": 4.17, "classes": [{"name": "a", "permissions": ["b"]}],'
        b' "initial_sids": ["xen"]}',
        b'{"format": 1, "release": "4.17", "classes": [{"name": 1, "permissions": ["b"]}],'
        b' "initial_sids": ["xen"]}',
    ],
)
def test_bad_tables_files(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        tables.parse(data, "x.json")
    assert caught.value.id == "tables.invalid"

"""Loading a bundle trusts nothing in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.base import canonical
from shype.base.errors import BadInput
from shype.compile.flask import build
from shype.policy.contents import FILES
from shype.policy.manifest import Manifest, load_bundle
from shype.policy.names import LabelName
from tests.compile.policies import BANKS, LEVELED


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "out"
    build.build(BANKS, target="xen-4.17", out=out, validate=False)
    return out


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_manifest_survives_json(made: Path) -> None:
    manifest = load_bundle(made).manifest
    again = Manifest.from_json(json.loads(canonical.dumps(manifest.to_json())))
    assert again == manifest
    assert list(again.labels) == [label.name for label in BANKS.guests]


def test_window_values(made: Path) -> None:
    manifest = load_bundle(made).manifest
    assert manifest.window_values(None) == dict.fromkeys(
        ("win_en", "win_b0", "win_b1", "win_b2"), False
    )
    assert manifest.window_values(LabelName("bank-b-desk")) == {
        "win_en": True, "win_b0": True, "win_b1": True, "win_b2": False,
    }
    for name in ("manager", "nobody"):
        with pytest.raises(BadInput) as caught:
            manifest.window_values(LabelName(name))
        assert caught.value.id == "label.unknown"


def test_label_of_context(made: Path) -> None:
    manifest = load_bundle(made).manifest
    assert manifest.label_of_context("u:r:l_bank_a_db_t:s0") == "bank-a-db"
    assert manifest.label_of_context("u:r:dom0_t:s0") == "manager"
    for context in ("", "u:r:domU_t:s0", "u:r:l_bank_a_db_t", "u:r:l_bank_a_db_t:s0:c0"):
        assert manifest.label_of_context(context) is None


def test_contexts_with_levels(tmp_path: Path) -> None:
    """Levels are part of the context; a retired label's VM is known whatever its level."""
    build.build(LEVELED, target="xen-4.17", out=tmp_path / "out", validate=False)
    manifest = load_bundle(tmp_path / "out").manifest
    assert manifest.retired == {"gone": "l_gone_t"}
    for context, label in {
        "u:r:l_mixed_t:s1:c0,c3,c4": "mixed",
        "u:r:l_mixed_t:s1:c0": None,  # the level that its label had before a reload
        "u:r:l_netd_t:s0-s2:c0.c4": "netd",
        "u:r:dom0_t:s0-s2:c0.c4": "manager",
        "u:r:dom0_t:s0": None,
        "u:r:l_gone_t:s2:c0,c1": "gone",
        "u:r:l_gone_t:s0-s2:c0.c4": "gone",
        "u:r:l_gone_t": None,
        "u:r:l_gone_t:top": None,
        "v:r:l_high_old_t:s1:c0": None,
    }.items():
        assert manifest.label_of_context(context) == label, context


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_missing_file(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BadInput, match=name) as caught:
        load_bundle(copy)
    assert caught.value.id == "bundle.missing"


def test_missing_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("")
        with pytest.raises(BadInput) as caught:
            load_bundle(path)
        assert caught.value.id == "bundle.missing"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "truncate", "append", "empty"])
def test_changed_file(copy: Path, name: str, how: str) -> None:
    data = (copy / name).read_bytes()
    middle = len(data) // 2
    (copy / name).write_bytes({
        "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:],
        "truncate": data[:middle], "append": data + b"\n", "empty": b"",
    }[how])
    with pytest.raises(BadInput, match=name) as caught:
        load_bundle(copy)
    assert caught.value.id == "bundle.corrupt"


def _set(*path: str, to: object) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        inner = manifest
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
    return change


def _drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        inner = manifest
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
    return change


_ENTRY = {"type": "l_x_t", "context": "u:r:l_x_t:s0", "window": 5}

CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "format": _set("format", to=1),
    "format true": _set("format", to=True),
    "no target": _drop("target"),
    "target a path": _set("target", to="../xen-4.17"),
    "another target": _set("target", to="xen-4.18"),
    "digest upper": _set("digest", to="A" * 64),
    "another digest": _set("digest", to="0" * 64),
    "files list": _set("files", to=["policy.bin"]),
    "a file too many": _set("files", "../../etc/passwd", to="0" * 64),
    "a file missing": _drop("files", "policy.cil"),
    "policy null": _set("policy", to=None),
    "other policy": _set("policy", "name", to="other"),
    "label name": _set("labels", "Bad Name", to=_ENTRY),
    "a label too many": _set("labels", "x", to=_ENTRY),
    "a label missing": _drop("labels", "market-data"),
    "window negative": _set("labels", "market-data", "window", to=-1),
    "window twice": _set("labels", "market-data", "window", to=0),
    "window true": _set("labels", "bank-a-desk", "window", to=True),
    "window a float": _set("labels", "market-data", "window", to=4.0),
    "type with parenthesis": _set("labels", "market-data", "type", to="a(b"),
    "context of another type": _set("labels", "market-data", "context", to="u:r:dom0_t:s0"),
    "context of another label": _set("labels", "market-data", to={
        "type": "l_bank_a_db_t", "context": "u:r:l_bank_a_db_t:s0", "window": 4}),
    "dom0 another label": _set("dom0", "label", to="market-data"),
    "dom0 list": _set("dom0", to=[]),
    "bits too few": _set("booleans", "bits", to=["win_b0"]),
    "bits twice": _set("booleans", "bits", to=["win_b0", "win_b0", "win_b1"]),
    "bits a string": _set("booleans", "bits", to="win_b0"),
    "bits odd": _set("booleans", "bits", to=["win_b0", 1, "x y"]),
    "running too many": _set("booleans", "running", "bank-c", to="run_bank_c"),
    "running missing": _drop("booleans", "running", "bank-a"),
    "running the window": _set("booleans", "running", "bank-a", to="win_en"),
    "digest boolean": _set("booleans", "digest", to="policy_" + "0" * 64),
    "validation text": _set("validation", to="yes"),
    "validation negative": _set("validation", to={"reader": "x", "pairs": -1, "checks": 0}),
    "unknown key": _set("extra", to=1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changed_manifest(copy: Path, name: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    before = deepcopy(manifest)
    CHANGES[name](manifest)
    assert manifest != before or name in ("format true", "window true", "window a float")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BadInput) as caught:
        load_bundle(copy)
    assert caught.value.id == "bundle.corrupt"


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"format": 2}', b"NaN"]
)
def test_hostile_manifest(copy: Path, data: bytes) -> None:
    (copy / "manifest.json").write_bytes(data)
    with pytest.raises(BadInput) as caught:
        load_bundle(copy)
    assert caught.value.id == "bundle.corrupt"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(deadline=None)
@given(data=st.data())
def test_any_value_anywhere(made: Path, data: st.DataObject) -> None:
    """Whatever stands in a place of the manifest: it loads as it was, or it is corrupt."""
    manifest = json.loads((made / "manifest.json").read_bytes())
    inner: dict[str, Any] = manifest
    key = data.draw(st.sampled_from(sorted(inner)))
    while isinstance(inner[key], dict) and inner[key] and data.draw(st.booleans()):
        inner = inner[key]
        key = data.draw(st.sampled_from(sorted(inner)))
    inner[key] = data.draw(_JSON)
    again: Manifest | None = None
    with suppress(BadInput):
        again = Manifest.from_json(manifest)
    assert again is None or again.to_json() == manifest

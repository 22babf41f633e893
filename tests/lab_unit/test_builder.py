"""What the build refuses before it starts, and what a lab that is not built says."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from shype.base.errors import Unavailable
from shype.cli import lab as command
from shype.lab import builder, paths


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    args = parser.parse_args(["lab", *words])
    return int(args.run(args))


def test_up_without_a_build(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        run(["up", "no-such-policy.yaml"])
    assert (caught.value.id, caught.value.fix) == ("lab.not-built", "shype lab build")
    assert caught.value.exit_code == 3


def test_another_recipe_is_outdated(monkeypatch: pytest.MonkeyPatch) -> None:
    paths.home().mkdir(parents=True)
    (paths.home() / "current.json").write_text(json.dumps({"format": 1, "recipe": "old"}))
    with pytest.raises(Unavailable) as caught:
        builder.load()
    assert caught.value.id == "lab.outdated"


def test_status_tells_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["built"] is None
    assert value["labs"] == []
    assert "not built" in value["problem"]
    assert run(["status", "--name", "x"]) == 1


def test_all_missing_tools_are_named_with_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable) as caught:
        builder.build()
    assert caught.value.id == "tool.missing"
    for word in ("qemu-system-x86", "mmdebstrap", "bison", "flex", "binutils", "qemu-utils"):
        assert word in caught.value.fix.split()


def test_too_little_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shype.base.child.require", lambda *tools: None)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 << 20))
    with pytest.raises(Unavailable) as caught:
        builder.build()
    assert caught.value.id == "lab.disk-full"
    assert not (paths.home() / "stages").exists()


def test_tables_that_differ_are_refused(tmp_path: Path) -> None:
    from shype.compile.flask import tables
    from shype.lab.recipe import TARGET

    known = tables.load(TARGET)
    flask = tmp_path / tables.TREE_DIR
    flask.mkdir(parents=True)
    (tmp_path / "xen/Makefile").write_text(
        "export XEN_VERSION = 4\nexport XEN_SUBVERSION = 17\nexport XEN_EXTRAVERSION ?= .5\n")
    (flask / "security_classes").write_text("".join(f"class {c}\n" for c in known.classes))
    (flask / "initial_sids").write_text("".join(f"sid {s}\n" for s in known.initial_sids))
    vectors = "".join(f"class {c} {{ {' '.join(p)} }}\n" for c, p in known.classes.items())
    (flask / "access_vectors").write_text(vectors)
    builder.check_tables(tmp_path)
    swapped = vectors.replace("map_read map_write", "map_write map_read")
    (flask / "access_vectors").write_text(swapped)
    with pytest.raises(Unavailable, match="mmu") as caught:
        builder.check_tables(tmp_path)
    assert caught.value.id == "lab.flask-tables"

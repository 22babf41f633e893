"""Building a bundle: all or nothing, the same bytes every time, clear errors."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from datetime import date
from itertools import pairwise
from pathlib import Path

import pytest

from shype.base import canonical
from shype.base.errors import BadInput, Internal, ShypeError, Unavailable
from shype.compile.flask import build, cil, reader, tables, verify
from shype.compile.flask.tables import Tables
from shype.policy.contents import FILES
from shype.policy.lattice import Level, LevelRange
from shype.policy.manifest import load_bundle
from shype.policy.model import Policy
from shype.policy.names import CategoryName, LabelName
from tests.compile.policies import BANKS, EDGES, LEVELED

TARGET = "xen-4.17"


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def fake_secilc(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program named secilc first on PATH; ``$out`` is the output file it was given."""
    tool = folder / "bin" / "secilc"
    tool.parent.mkdir()
    tool.write_text(
        '#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && out="$2"; shift; done\n' + script
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize("target", tables.shipped())
def test_bundle(target: str, tmp_path: Path) -> None:
    manifest = build.build(BANKS, target=target, out=tmp_path / "out")
    bundle = load_bundle(tmp_path / "out")
    assert bundle.manifest == manifest
    assert bundle.policy == BANKS
    assert bundle.path == tmp_path / "out"
    assert set(content(tmp_path / "out")) == {*FILES, "manifest.json"}
    assert manifest.target == target
    assert manifest.validation is not None
    assert manifest.validation.checks == 245
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build.build(BANKS, target=TARGET, out=tmp_path / name)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_order_of_sets_does_not_matter(tmp_path: Path) -> None:
    """A frozenset's order depends on the process; the text must not."""
    big = EDGES["seventy in one wall"]
    other = replace(big, walls={
        name: replace(wall, members=frozenset(sorted(wall.members, reverse=True)))
        for name, wall in big.walls.items()
    })
    table = tables.load(TARGET)
    assert cil.generate(big, table) == cil.generate(other, table)


def test_digest_depends_on_policy_and_target(tmp_path: Path) -> None:
    made = {
        build.build(policy, target=target, out=tmp_path / "out", validate=False).digest
        for policy in (BANKS, replace(BANKS, version="1.1"))
        for target in ("xen-4.17", "xen-4.18")
    }
    assert len(made) == 4


def test_replaces_an_earlier_bundle(tmp_path: Path) -> None:
    out = tmp_path / "out"
    build.build(BANKS, target=TARGET, out=out)
    newer = build.build(replace(BANKS, version="2.0"), target=TARGET, out=out)
    assert load_bundle(out).manifest == newer
    assert list(tmp_path.iterdir()) == [out]
    assert stat.S_IMODE(out.stat().st_mode) == 0o755


def test_failed_build_leaves_the_earlier_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build.build(BANKS, target=TARGET, out=out)
    before = content(out)
    real = cil.generate

    def wrong(policy: Policy, table: Tables) -> str:
        return real(policy, table) + "(allow l_bank_a_db_t l_bank_b_db_t (grant (copy)))\n"

    monkeypatch.setattr(cil, "generate", wrong)
    with pytest.raises(verify.Disagreement, match="bank-a-db -> bank-b-db, grant"):
        build.build(replace(BANKS, version="2.0"), target=TARGET, out=out)
    assert content(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_failed_swap_puts_the_earlier_bundle_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    build.build(BANKS, target=TARGET, out=out)
    before = content(out)
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if ".new." in self.name:
            raise OSError(28, "No space left on device", str(target))
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OSError, match="No space left"):
        build.build(replace(BANKS, version="2.0"), target=TARGET, out=out)
    assert content(out) == before


@pytest.mark.parametrize(
    ("script", "report"),
    [
        ('echo "cannot resolve thing" >&2; exit 1', "cannot resolve thing"),
        ('printf broken > "$out"; echo "compatibility lookup failed" >&2; exit 1', "lookup failed"),
        ('printf broken > "$out"; echo "half a policy" >&2; exit 0', "half a policy"),
        ("exit 0", "wrote no file"),
        ('kill -9 $$', "code -9"),
    ],
)
def test_secilc_that_fails(
    script: str, report: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_secilc(tmp_path, script, monkeypatch)
    (tmp_path / "work").mkdir()
    with pytest.raises(Internal, match=report) as caught:
        build.build(BANKS, target=TARGET, out=tmp_path / "work" / "out")
    assert caught.value.id == "compile.secilc"
    assert list((tmp_path / "work").iterdir()) == []


def test_truncated_output_is_found_out_by_the_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that begins well and then stops, as secilc leaves it on a full disk."""
    build.build(BANKS, target=TARGET, out=tmp_path / "good")
    good = tmp_path / "good" / "policy.bin"
    fake_secilc(tmp_path, f'head -c 4000 {good} > "$out"', monkeypatch)
    with pytest.raises(Internal) as caught:
        build.build(BANKS, target=TARGET, out=tmp_path / "out")
    assert caught.value.id == "validate.unreadable"
    assert not (tmp_path / "out").exists()


def test_missing_secilc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get install secilc"):
        build.build(BANKS, target=TARGET, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_missing_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "INTERPRETER", tmp_path / "python3")
    with pytest.raises(Unavailable, match="python3-setools"):
        build.build(BANKS, target=TARGET, out=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    manifest = build.build(BANKS, target=TARGET, out=tmp_path / "out", validate=False)
    assert manifest.validation is None
    assert load_bundle(tmp_path / "out").manifest.validation is None


def test_does_not_replace_other_directories(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(BadInput, match="not a compiled policy") as caught:
        build.build(BANKS, target=TARGET, out=tmp_path / "out")
    assert caught.value.id == "build.out"
    assert content(tmp_path / "out") == {"thesis.tex": b"x"}


def test_does_not_replace_files_or_links(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(BadInput) as caught:
            build.build(BANKS, target=TARGET, out=tmp_path / name)
        assert caught.value.id == "build.out"


def test_other_targets_tables(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        build.build(BANKS, target=TARGET, out=tmp_path / "o", tables=tables.load("xen-4.18"))
    assert caught.value.id == "target.other-tables"


def test_too_many_labels(tmp_path: Path) -> None:
    label = next(iter(BANKS.labels.values()))
    many = {LabelName(f"l{i}"): label for i in range(cil.MAX_TYPES)}
    with pytest.raises(ShypeError) as caught:
        build.build(replace(BANKS, labels={**BANKS.labels, **many}), target=TARGET, out=tmp_path)
    assert caught.value.id == "compile.too-many-labels"


def test_too_large_for_the_hypervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_FILE", 1000)
    with pytest.raises(BadInput) as caught:
        build.build(BANKS, target=TARGET, out=tmp_path / "out")
    assert caught.value.id == "compile.too-large"


@pytest.mark.parametrize(("day", "fits"), [("2026-05-31", True), ("2026-06-01", False)])
def test_expired_guard(day: str, fits: bool, tmp_path: Path) -> None:
    """From its last day on, a guard is refused: what it lets pass would be compiled in."""
    guards = {
        name: replace(guard, expires=date(2026, 6, 1)) for name, guard in LEVELED.guards.items()
    }
    policy, today = replace(LEVELED, guards=guards), date.fromisoformat(day)
    if fits:
        build.build(policy, target=TARGET, out=tmp_path / "out", today=today)
        return
    with pytest.raises(BadInput, match=r"release .* expired on 2026-06-01") as caught:
        build.build(policy, target=TARGET, out=tmp_path / "out", today=today)
    assert caught.value.id == "guard.expired"
    assert not (tmp_path / "out").exists()


def test_too_many_categories(tmp_path: Path) -> None:
    """Xen's tools cut a context off at the end of a page."""
    lattice = LEVELED.levels
    assert lattice is not None
    many = tuple(CategoryName(f"c{i}") for i in range(2000))
    every_other = LevelRange(Level(0, frozenset(many[::2])), Level(0, frozenset(many[::2])))
    label = LEVELED.labels[LabelName("low")]
    policy = replace(
        LEVELED, levels=replace(lattice, categories=many),
        labels={**LEVELED.labels, label.name: replace(label, level=every_other)},
    )
    with pytest.raises(BadInput) as caught:
        build.build(policy, target=TARGET, out=tmp_path / "out", validate=False)
    assert caught.value.id == "compile.long-context"


def test_cil_says_why(tmp_path: Path) -> None:
    """Every allow rule but those of the windows has its reason above it."""
    manifest = build.build(BANKS, target=TARGET, out=tmp_path / "out", validate=False)
    lines = (tmp_path / "out" / "policy.cil").read_text().splitlines()
    for before, line in pairwise(lines):
        if line.startswith("(allow"):
            assert before.startswith(("; ", "(allow", "(dontaudit"))
    assert lines[-1] == f"(boolean {manifest.booleans.digest} false)"
    assert canonical.digest((tmp_path / "out" / "policy.cil").read_bytes()) == (
        manifest.files["policy.cil"]
    )

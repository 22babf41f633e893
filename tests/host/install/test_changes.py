"""An installation that can be shown, repeated, killed at any write, and undone to the byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.host.install import changes
from shype.host.install.changes import Wanted
from shype.host.install.places import Places

WANTED = (
    Wanted("boot/grub/custom.cfg", "ours\n", 0o600, block=True),
    Wanted("etc/default/xen", "ARGS=1\n", block=True),
    Wanted("etc/systemd/system/shype.service", "[Unit]\n"),
    Wanted("etc/systemd/system/multi-user.target.wants/shype.service",
           "/etc/systemd/system/shype.service", link=True),
    Wanted("etc/kernel/zz-shype", "#!/bin/sh\n", 0o755),
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """A host with one of the files, without a newline at its end and with rights of its own."""
    places = Places(tmp_path)
    (tmp_path / "etc/default").mkdir(parents=True)
    (tmp_path / "etc/default/xen").write_bytes(b"MINE=\xff")
    (tmp_path / "etc/default/xen").chmod(0o640)
    return places


def snapshot(places: Places) -> dict[str, tuple[bytes, int]]:
    """Every file outside of the state: content and mode."""
    return {str(path.relative_to(places.root)): (
        bytes(path.readlink()) if path.is_symlink() else path.read_bytes(), path.lstat().st_mode)
        for path in sorted(places.root.rglob("*"))
        if (path.is_symlink() or path.is_file()) and places.state not in path.parents}


def test_what_would_change_is_shown_and_nothing_is_changed(places: Places) -> None:
    before = snapshot(places)
    found = {d.path: "".join(d.lines) for d in changes.differences(places, WANTED)}
    assert set(found) == {one.path for one in WANTED}
    assert "+ARGS=1\n" in found["etc/default/xen"]
    assert snapshot(places) == before
    assert not places.record.exists()


def test_a_second_time_changes_nothing_and_undoing_restores_every_byte(places: Places) -> None:
    before = snapshot(places)
    assert len(changes.apply(places, WANTED, {"a": 1})) == len(WANTED)
    installed = snapshot(places)
    assert places.state.stat().st_mode & 0o777 == 0o700
    assert changes.apply(places, WANTED, {"a": 1}) == ()
    assert snapshot(places) == installed
    assert changes.recorded(places)[1] == {"a": 1}
    restored, left = changes.undo(places)
    assert (len(restored), left) == (len(WANTED), ())
    assert snapshot(places) == before
    assert not places.kept.exists()
    assert changes.undo(places) == ((), ())


def test_another_text_later_is_undone_to_what_was_before_the_first(places: Places) -> None:
    before = snapshot(places)
    changes.apply(places, WANTED, {})
    later = (Wanted("etc/default/xen", "ARGS=2\n", block=True), *WANTED[2:])
    assert [d.path for d in changes.apply(places, later, {})] == ["etc/default/xen"]
    changes.undo(places)
    assert snapshot(places) == before


def test_lines_of_an_administrator_around_a_block_stay(places: Places) -> None:
    changes.apply(places, WANTED, {})
    path = places.root / "etc/default/xen"
    path.write_bytes(b"FIRST=1\n" + path.read_bytes() + b"LAST=1\n")
    changes.apply(places, WANTED, {})
    assert path.read_bytes().startswith(b"FIRST=1\n")
    restored, left = changes.undo(places)
    assert "etc/default/xen" in restored
    assert left == ()
    assert path.read_bytes() == b"FIRST=1\nMINE=\xff\nLAST=1\n"


@pytest.mark.parametrize(("name", "text"), [
    ("etc/systemd/system/shype.service", "[Unit]\nmine\n"),
    ("etc/default/xen", "MINE\n# shype begin\nARGS=3\n# shype end\n"),
])
def test_what_an_administrator_has_changed_is_not_overwritten(
    places: Places, name: str, text: str,
) -> None:
    changes.apply(places, WANTED, {})
    path = places.root / name
    path.write_text(text)
    with pytest.raises(BadInput, match=f"/{name}") as error:
        changes.apply(places, WANTED, {})
    assert error.value.id == "install.changed"
    assert path.read_text() == text
    restored, left = changes.undo(places)
    assert left == (name,)
    assert len(restored) == len(WANTED) - 1
    assert path.read_text() == text
    assert set(changes.recorded(places)[0]) == {name}


def test_a_file_of_somebody_else_s_under_our_name_is_not_replaced(places: Places) -> None:
    path = places.root / "etc/kernel/zz-shype"
    path.parent.mkdir(parents=True)
    path.write_text("theirs\n")
    before = snapshot(places)
    with pytest.raises(BadInput, match="zz-shype"):
        changes.apply(places, WANTED, {})
    assert snapshot(places) == before


def test_killed_at_any_write_it_can_be_undone_or_repeated(
    places: Places, monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = snapshot(places)
    real = changes._put
    for survived in range(len(WANTED)):
        for again in (False, True):
            left = [survived]

            def put(path: Path, data: bytes, mode: int, link: bool, left: list[int] = left) -> None:
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
                real(path, data, mode, link)

            monkeypatch.setattr(changes, "_put", put)
            with pytest.raises(KeyboardInterrupt):
                changes.apply(places, WANTED, {})
            monkeypatch.setattr(changes, "_put", real)
            if again:
                changes.apply(places, WANTED, {})
            assert changes.undo(places)[1] == ()
            assert snapshot(places) == before

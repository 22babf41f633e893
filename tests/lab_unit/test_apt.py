"""Reading the machine's package sources, in both of apt's formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.lab import apt

LIST = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian bookworm main contrib # why
deb-src http://mirror.example/debian bookworm main
deb http://flat.example/ ./
deb
"""
DEB822 = """\
Types: deb deb-src
# a remark
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc

Types: deb-src
URIs: http://mirror.example/sources
Suites: bookworm

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
"""


def test_one_line_entries() -> None:
    first, flat = apt.parse_list(LIST)
    assert first.stanza("deb deb-src") == (
        "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n"
        "Components: main contrib\nArchitectures: amd64\nSigned-By: /k.gpg\n")
    assert flat.suites == ("./",)


def test_deb822_entries_keep_inline_keys() -> None:
    only, = apt.parse_deb822(DEB822)
    assert only.suites == ("bookworm", "bookworm-updates")
    assert only.stanza("deb") == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: \n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n")


def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "all.sources").write_text(text)
    monkeypatch.setattr(apt, "_config", lambda *keys: [str(tmp_path / "none"), str(parts)])


def test_only_the_labs_release_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, DEB822 + """
Types: deb
URIs: http://third.example/
Suites: nodistro

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main
""")
    assert [s.suites for s in apt.machine_sources()] == [
        ("bookworm", "bookworm-updates"), ("bookworm-security",)]


def test_a_machine_without_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(tmp_path, monkeypatch, "Types: deb\nURIs: http://m.example/\nSuites: trixie\n")
    with pytest.raises(Unavailable) as caught:
        apt.machine_sources()
    assert caught.value.id == "lab.no-sources"


def fake_run(answers: dict[str, str]) -> object:
    from shype.base.child import ChildFailed, Completed

    def run(self: apt.PrivateApt, *words: str, cwd: Path | None = None) -> str:
        answer = answers[" ".join(words)]
        if answer.startswith("E:"):
            assert cwd is not None
            (cwd / "half.dsc").write_text("half")
            raise ChildFailed(Completed(words, 100, "", answer), "exit code 100")
        if cwd is not None:
            (cwd / "good.dsc").write_text("good")
        return answer

    return run


def test_the_source_falls_back_to_an_older_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "apt-cache showsrc --only-source xen": "Version: 4.17.5-1\n\nVersion: 4.17.7-0+deb1\n",
        "apt-get -q source --download-only xen=4.17.7-0+deb1": "E: Failed to fetch: 404",
        "apt-get -q source --download-only xen=4.17.5-1": "done",
    }
    monkeypatch.setattr(apt.PrivateApt, "run", fake_run(answers))
    version, dsc = apt.PrivateApt(tmp_path / "apt").fetch_source("xen", tmp_path)
    assert version == "4.17.5-1"
    assert dsc.read_text() == "good"
    assert [path.name for path in tmp_path.iterdir()] == ["good.dsc"]


def test_all_versions_failing_is_told_with_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        "apt-cache showsrc --only-source xen": "Version: 2-1\n",
        "apt-get -q source --download-only xen=2-1": "E: Failed to fetch: no route",
    }
    monkeypatch.setattr(apt.PrivateApt, "run", fake_run(answers))
    with pytest.raises(Unavailable, match=r"2-1: Failed to fetch: no route") as caught:
        apt.PrivateApt(tmp_path / "apt").fetch_source("xen", tmp_path)
    assert caught.value.id == "lab.fetch"

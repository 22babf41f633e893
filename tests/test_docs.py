"""Docs are run: the commands that they show work, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from shype.cli.main import GROUPS, main
from shype.policy.loader import check_text
from tests.error_index import PAGE, page

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
#: Commands that need neither a lab nor a host: these are really run.
RUNNABLE = {"check", "explain", "decide", "build", "tables", "completion", "keys", "bundle",
            "flows", "test", "walls"}


def commands(page: Path) -> list[str]:
    """Indented or fenced lines of ``page`` that call shype, without comments."""
    lines, fenced = [], False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        match = re.match(r"(?:\$ )?(shype [a-z].*)" if fenced else r" {4}(?:\$ )?(shype [a-z].*)",
                         line)
        if match and "|" not in match[1] and "..." not in match[1]:
            lines.append(re.split(r"\s+#", match[1])[0].strip())
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    known = {name for names in GROUPS.values() for name in names}
    for line in commands(page):
        assert shlex.split(line)[1] in known, f"{page.name}: {line}"


@pytest.mark.parametrize(
    "old", ["labels", "getlabel", "addlabel", "rmlabel", "resources", "dry-run"])
def test_every_command_that_old_users_knew_has_one_here(old: str) -> None:
    known = {name for names in GROUPS.values() for name in names}
    rows = [line.replace("\\|", "/").split("|") for line in (
        ROOT / "docs/how-to/from-acm.md").read_text().splitlines() if line.startswith("| `xm ")]
    new = [row[2].strip() for row in rows if row[1].strip(" `").split()[1] == old]
    assert new, f"xm {old} is not in the table"
    for cell in new:
        match = re.match(r"`shype ([a-z-]+)", cell)
        assert match is not None, f"xm {old}: {cell}"
        assert match[1] in known


def test_the_readme_s_commands_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    ran = set()
    for line in commands(ROOT / "README.md"):
        words = shlex.split(line)[1:]
        if words[0] not in RUNNABLE:
            continue
        # explain answers "denied" with 1: the README asks such a question
        assert main(words) in ((0, 1) if words[0] == "explain" else (0,)), line
        assert capsys.readouterr().out
        ran.add(words[0])
    assert ran >= {"check", "explain", "keys", "build"}


def test_the_readme_s_policy_is_valid() -> None:
    block = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    policy, findings = check_text(block[1], "README.md")
    assert policy is not None, findings


def test_the_readme_fits_its_purpose() -> None:
    text = (ROOT / "README.md").read_text()
    assert "make demo" in text
    assert "make test" in text
    assert "<!--" not in text, "an unfinished place"
    assert text.count("\n") < 160, "long texts belong in docs/"


def test_setup_and_the_lab_s_page_name_the_same_packages() -> None:
    """One list for the machine (scripts/setup.sh), one for a reader; uidmap is for non-root."""
    script = (ROOT / "scripts" / "setup.sh").read_text()
    block = script[script.index("needs=(") : script.index("\n)")]
    installed = {need.rpartition(":")[2] for need in block.split()[1:] if ":" in need}
    page = (ROOT / "docs" / "how-to" / "lab.md").read_text()
    shown = re.search(r"apt-get install ((?:.|\\\n)*?)\n\n", page)
    assert shown is not None
    named = set(shown[1].replace("\\", " ").split())
    # By gcc, by qemu, without root, for pictures, for tests without the lab, of GRUB, or of a TPM.
    implied = {"libc6-dev", "binutils", "uidmap", "seabios", "graphviz",
               "nftables", "rsyslog", "systemd", "grub-common", "grub-pc-bin", "lintian",
               "grub-efi-amd64-bin", "ovmf", "dosfstools", "mtools", "swtpm", "tpm2-tools",
               "libtss2-dev", "pkg-config", "libtss2-tcti-swtpm0"}
    assert installed - implied == named - implied


def test_every_error_is_documented() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.error_index"

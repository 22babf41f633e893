"""The Debian package: built, judged by lintian, unpacked, and run without this checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package."""
    out = tmp_path_factory.mktemp("deb")
    subprocess.run([sys.executable, ROOT / "scripts/deb.py", out], check=True,
                   stdout=subprocess.DEVNULL)
    package, = out.glob("*.deb")
    return package


@pytest.fixture(scope="module")
def tree(deb: Path) -> Path:
    """What it puts on a disk."""
    tree = deb.parent / "tree"
    subprocess.run(["dpkg-deb", "-x", deb, tree], check=True)
    return tree


def shype(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The packaged program, by Debian's Python if there is one, in an empty environment."""
    wrapper = tree / "usr/bin/shype"
    text = wrapper.read_text()
    assert text.startswith("#!/usr/bin/python3 -I\n")
    assert '"/usr/share/shype"' in text
    program = tree / "run"
    program.write_text(text.replace('"/usr/share/shype"', repr(str(tree / "usr/share/shype"))))
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    return subprocess.run([python, "-I", program, *words], capture_output=True, text=True,
                          check=False, cwd="/", env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def test_lintian_finds_nothing(deb: Path) -> None:
    assert shutil.which("lintian") is not None, "make setup installs lintian"
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", deb],
                          capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_same_sources_give_the_same_bytes(deb: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts/deb.py", tmp_path], check=True,
                   stdout=subprocess.DEVNULL)
    assert (tmp_path / deb.name).read_bytes() == deb.read_bytes()


def test_it_holds_what_a_host_needs_and_no_compiler(tree: Path) -> None:
    parts = {path.name for path in (tree / "usr/share/shype/shype").iterdir() if path.is_dir()}
    assert parts == {"base", "policy", "decision", "analysis", "host", "attest", "meter", "cli"}
    for name in ("usr/share/man/man1/shype.1.gz", "usr/share/bash-completion/completions/shype",
                 "lib/systemd/system/shype-watch.service",
                 "lib/systemd/system/shype-attest.service"):
        assert (tree / name).is_file()
    # Nothing about the boot, and no unit is enabled.
    assert not list(tree.glob("etc/**/*"))
    assert not list(tree.glob("boot/**/*"))


def test_every_command_of_a_host_runs_from_it(tree: Path) -> None:
    assert shype(tree, "--version").stdout.startswith("shype 0.")
    assert "doctor" in shype(tree, "--help").stdout
    told = json.loads(shype(tree, "doctor", "--json").stdout)
    assert {"python", "bundle", "boot files"} <= {point["name"] for point in told["points"]}
    for command in ("run", "stop", "status", "watch", "host", "network", "audit", "hotplug"):
        done = shype(tree, command, "--help")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [
    ["check", "/x.yaml"], ["build", "/x.yaml", "--target", "xen-4.17", "-o", "/tmp/x"],
    ["tables", "list"], ["lab", "status"], ["completion", "bash"],
])
def test_a_command_for_authors_says_that_it_is_one(tree: Path, command: list[str]) -> None:
    done = shype(tree, *command)
    assert done.returncode in (2, 3)
    if done.returncode == 3:
        assert "tool.missing" in done.stderr
        assert "author's machine" in done.stderr
    assert "Traceback" not in done.stderr


def test_scripts_change_nothing_at_boot(deb: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-e", deb, tmp_path / "DEBIAN"], check=True)
    postinst = (tmp_path / "DEBIAN/postinst").read_text()
    for word in ("systemctl", "update-grub", "update-initramfs", "host install"):
        assert word not in postinst
    assert "shype host uninstall" in (tmp_path / "DEBIAN/prerm").read_text()

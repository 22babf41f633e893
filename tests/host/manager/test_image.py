"""The manager's RAM disk works as a root directory of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shype.base import child
from shype.base.errors import BadInput
from shype.host.manager.image import image
from tests.host.builders import bundle
from tests.host.manager.test_authority import POLICY
from tests.signing import AUTHOR, keys, sealed


def signed(place: Path) -> tuple[Path, Path]:
    bundle(place, POLICY)
    made = place / "policy.shype"
    made.write_bytes(sealed(place / "bundle", AUTHOR))
    return made, keys(place / "keys")


def test_a_bundle_that_nobody_signed_is_not_packed(tmp_path: Path) -> None:
    made, _ = signed(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInput, match=r"key\.none"):
        image(made, tmp_path / "none", [])


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot is for root")
def test_it_has_all_that_the_manager_needs_and_no_shell(tmp_path: Path) -> None:
    made, trusted = signed(tmp_path)
    (tmp_path / "m.ko").write_bytes(b"module")
    data = image(made, trusted, [tmp_path / "m.ko"])
    assert data == image(made, trusted, [tmp_path / "m.ko"])
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "image").write_bytes(data)
    with (tmp_path / "image").open("rb") as archive:
        child.run(["cpio", "-idm", "--quiet"], cwd=root, input=archive.read())
    assert (root / "modules/00-m.ko").read_bytes() == b"module"
    assert not {path.name for path in root.rglob("*")} & {"sh", "bash", "dash", "busybox"}
    first, *_ = (root / "init").read_text().splitlines()
    python = first.removeprefix("#!").split()[0]
    (root / "try.py").write_text((root / "init").read_text().split("from shype")[0] + (
        "import shype.host.manager.serve as s\n"
        "print(s.succession(s.BUNDLE, s.CURRENT, s.KEYS).now.bundle.policy.name)\n"))
    done = child.run(["chroot", root, python, "-IB", "/try.py"])
    assert done.out.strip() == "managed"

"""What dom0 gets is what a host accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.cli.main import parser
from shype.host.trust import load_trusted
from shype.lab import handover
from shype.policy.ed25519 import PrivateKey
from tests.host.builders import bundle
from tests.signing import AUTHOR, sealed


def test_the_commands_of_dom0_look_where_it_is_put() -> None:
    args = parser("ps").parse_args(["ps"])
    assert args.bundle == Path(handover.POLICY)
    assert args.keys == Path(handover.TRUSTED).parent


def test_a_host_accepts_it(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    _, contents = handover.read(made.path)
    for path, data in handover.files(contents, PrivateKey.generate()).items():
        file = tmp_path / "dom0" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        file.chmod(0o644)
        file.parent.chmod(0o755)
    root = tmp_path / "dom0" / "etc" / "shype"
    assert load_trusted(root / "policy.shype", root / "keys").policy == made.policy


def test_from_a_directory_and_from_a_file_it_is_the_same(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    file = tmp_path / "policy.shype"
    for signers in ([], [AUTHOR]):
        file.write_bytes(sealed(made.path, *signers))
        assert handover.read(file)[1] == handover.read(made.path)[1]
    with pytest.raises(BadInput) as caught:
        handover.read(tmp_path / "none")
    assert caught.value.id == "bundle.missing"

"""Which keys a host believes: only what nobody but root could have put there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.base.errors import BadInput
from shype.host.trust import MAX_KEYS, load_trusted, trusted_keys
from shype.policy.ed25519 import PrivateKey
from tests.host.builders import bundle
from tests.signing import AUTHOR, STRANGER, keys, sealed


def refusal(place: Path) -> BadInput:
    with pytest.raises(BadInput) as caught:
        trusted_keys(place)
    assert caught.value.fix
    return caught.value


def test_all_keys_of_the_directory(tmp_path: Path) -> None:
    place = keys(tmp_path / "keys", AUTHOR, STRANGER)
    (place / "README").write_text("not a key, and not looked at")
    assert trusted_keys(place) == {k.public.id: k.public for k in (AUTHOR, STRANGER)}


def test_one_file(tmp_path: Path) -> None:
    place = keys(tmp_path / "keys")
    assert trusted_keys(place / "0.pub") == {AUTHOR.public.id: AUTHOR.public}


def test_a_key_in_two_files_is_one_key(tmp_path: Path) -> None:
    assert list(trusted_keys(keys(tmp_path / "keys", AUTHOR, AUTHOR))) == [AUTHOR.public.id]


def test_no_key(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "author.key").write_text("the wrong half")
    for place in (tmp_path / "none", tmp_path / "empty", tmp_path / "empty" / "author.key" / "x"):
        assert refusal(place).id == "key.none"


def _link_directory(place: Path) -> None:
    place.rename(place.with_name("real"))
    place.symlink_to("real")


def _link_file(place: Path) -> None:
    (place / "0.pub").rename(place / "real")
    (place / "0.pub").symlink_to("real")


def _replace(how: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / "0.pub").unlink()
        how(place / "0.pub")
    return change


UNSAFE: dict[str, Callable[[Path], object]] = {
    "directory for the group": lambda place: place.chmod(0o775),
    "directory for all": lambda place: place.chmod(0o1777),
    "file for the group": lambda place: (place / "0.pub").chmod(0o664),
    "file for all": lambda place: (place / "0.pub").chmod(0o646),
    "directory is a link": _link_directory,
    "file is a link": _link_file,
    "dangling link": _replace(lambda file: file.symlink_to("nothing")),
    "FIFO": _replace(os.mkfifo),
    "directory in place of a file": _replace(lambda file: file.mkdir(0o755)),
    "too many": lambda place: [
        (place / f"x{n}.pub").write_bytes(b"") for n in range(MAX_KEYS)],
}


@pytest.mark.parametrize("name", UNSAFE)
def test_what_others_could_have_written(tmp_path: Path, name: str) -> None:
    place = keys(tmp_path / "keys")
    UNSAFE[name](place)
    error = refusal(place)
    assert (error.id, str(place) in error.message) == ("key.unsafe", True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_others(tmp_path: Path) -> None:
    for what in ("keys", "keys/0.pub"):
        place = keys(tmp_path / "keys")
        os.chown(tmp_path / what, 4711, 0)
        assert "4711" in refusal(place).message
        os.chown(tmp_path / what, 0, 0)


@pytest.mark.parametrize("garbage", [b"", b"\xff" * 1000, b"x" * 10**6, AUTHOR.pem()])
def test_a_file_that_is_no_key_is_not_passed_over(tmp_path: Path, garbage: bytes) -> None:
    place = keys(tmp_path / "keys")
    (place / "zzz.pub").write_bytes(garbage)
    error = refusal(place)
    assert (error.id, "zzz.pub" in error.message) == ("key.invalid", True)


# -- the bundle -----------------------------------------------------------------------------------


def test_a_bundle_of_a_trusted_key(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    file = tmp_path / "policy.shype"
    file.write_bytes(sealed(made.path, AUTHOR))
    found = load_trusted(file, keys(tmp_path / "keys"))
    assert (found.policy, found.manifest, found.path) == (made.policy, made.manifest, file)


def test_rotating_a_key_needs_no_moment_without_one(tmp_path: Path) -> None:
    """Sign with both; hosts may trust the old, both, or the new key."""
    old, new = AUTHOR, STRANGER
    both = tmp_path / "policy.shype"
    both.write_bytes(sealed(bundle(tmp_path).path, old, new))
    for number, trusted in enumerate(([old], [old, new], [new])):
        load_trusted(both, keys(tmp_path / f"keys{number}", *trusted))
    with pytest.raises(BadInput) as caught:
        load_trusted(both, keys(tmp_path / "others", PrivateKey(bytes(32))))
    assert caught.value.id == "bundle.unknown-key"


def test_unsigned_is_said_even_where_no_key_is_trusted_yet(tmp_path: Path) -> None:
    file = tmp_path / "policy.shype"
    file.write_bytes(sealed(bundle(tmp_path).path))
    for path in (file, tmp_path / "bundle"):  # a directory, as an earlier shype had it
        with pytest.raises(BadInput) as caught:
            load_trusted(path, tmp_path / "none")
        assert caught.value.id == "bundle.unsigned"

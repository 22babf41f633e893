"""Hosts that have booted measured: by UEFI, each with a TPM of its own.

Such a boot takes a minute under emulation, so it is done once, for all of them at the same time,
and saved with TPM, firmware's memory and disk. Who wants one goes on from there.

Their policy is examples/banks.yaml, in which the labels of bank B are attested and leave the first
host for the second when the verifier is gone, and VMs with the label of bank A's desk have TPMs.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from shype.base import canonical
from shype.cli.main import main
from shype.lab import builder, paths, payload
from shype.lab.grubhost import GrubHost
from shype.lab.host import BOOT_LIMIT, Lab, forget
from shype.lab.stages import locked
from shype.policy.ed25519 import PrivateKey
from tests.lab import boot_host
from tests.lab.boot_host import prepared
from tests.lab.conftest import EXAMPLES
from tests.lab.states import sources

NAMES = ("xen1", "xen2")
#: Of the author's and the verifier's machine, as `booted` leaves them in its directory.
KEPT = ("root", "keys", "first.shype", "grub.efi", "author.key", "author.pub", "verifier")
_KIND, _CODE = "measured", "code"


@contextlib.contextmanager
def booted(place: Path, count: int = 1) -> Iterator[list[GrubHost]]:
    """So many hosts, as they are when they have booted the policy on trial for the first time.

    ``place`` gets the files of who installed them (`boot_host.prepared`), of the author of
    reference values, and of a verifier, which knows no host yet.
    """
    state = _saved()
    shutil.copytree(paths.states() / state, place, symlinks=True, dirs_exist_ok=True)
    # An interpreter that has imported the same shype goes on as well.
    files: dict[str, bytes | str] | None = (
        None if (place / _CODE).read_text() == _code() else {})
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(GrubHost(Lab.restore(f"{state}-{name}", files=files)))
               for name in NAMES[:count]]


def policy(verifier: Path) -> str:
    """The hosts' policy; ``verifier`` is the public key of who says whether they are trusted."""
    key = verifier.read_text().splitlines()[1]
    return (EXAMPLES / "banks.yaml").read_text().replace(
        "wall: [bank-b]}", "wall: [bank-b], attested: true}").replace(
        "bank-a-desk: {", "bank-a-desk: {vtpm: true, ") + (
        f"attestation: {{verifiers: {{ops: {key}}}, fresh: 1 hour, lost: evacuate, "
        f"refuges: [{NAMES[1]}]}}\n")


def _saved() -> str:
    """The state of all hosts, made if need be; each one's has its name behind."""
    built = builder.build()
    made_of = [built.xen, built.image, built.vmlinux, built.dom0_initrd, built.guest_initrd,
               Path(__file__).read_text(), Path(boot_host.__file__).read_text(),
               (EXAMPLES / "banks.yaml").read_text(),
               *sources("attest", *(f"lab/{name}.py" for name in (
                   "grub", "grubhost", "qemu", "snapshot", "tpm")))]
    digest = canonical.digest(canonical.dumps([str(part) for part in made_of]))[:16]
    state = f"{_KIND}-{digest}"
    with locked(paths.states() / f".{_KIND}-lock"):
        if not (paths.states() / state).is_dir():
            for old in paths.states().glob(f"{_KIND}-*"):
                forget(old.name)
            for left in paths.states().glob(f".{_KIND}.*"):  # of one that was killed
                shutil.rmtree(left)
            with tempfile.TemporaryDirectory(
                    prefix=f".{_KIND}.", dir=paths.states()) as work:
                _boot(Path(work), state)
    return state


def _boot(work: Path, state: str) -> None:
    author = PrivateKey.generate()
    (work / "author.key").write_bytes(author.pem())
    (work / "author.key").chmod(0o600)
    (work / "author.pub").write_bytes(author.public.pem())
    assert main(["attest", "init", "--state", str(work / "verifier"), "--signer",
                 str(work / "author.pub")]) == 0
    (work / "policy.yaml").write_text(policy(work / "verifier/verifier.pub"))
    files = prepared(work, work / "policy.yaml")
    with contextlib.ExitStack() as stack:
        hosts = {name: stack.enter_context(
            GrubHost.up(work / "disk.img", files, measured=True)) for name in NAMES}
        for name, host in hosts.items():
            host.wait()
            host.lab.channel.ask("warm", timeout=BOOT_LIMIT)
            host.lab.save(f"{state}-{name}")
    kept = work / "kept"
    kept.mkdir()
    for name in KEPT:
        (work / name).rename(kept / name)
    (kept / _CODE).write_text(_code())
    kept.rename(paths.states() / state)  # the last: now there is one


def _code() -> str:
    """Changes with what of shype is in dom0."""
    return canonical.digest(canonical.dumps(
        [[name, canonical.digest(data)] for name, data in payload.package()]))

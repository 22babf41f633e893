"""A host that `shype host install` has installed and that boots by GRUB, for tests of booting."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from shype.base import canonical
from shype.cli.main import main
from shype.compile.flask.build import build
from shype.host.install import assets, grubenv
from shype.lab import builder, grub, qemu
from shype.lab.grubhost import GrubHost
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.manifest import read_directory
from shype.policy.signed import seal
from tests.lab.conftest import EXAMPLES

#: As dom0's first program, in a boot on trial, if the disk says so: it takes its processor for
#: ever and lets nothing else run. No panic, no crash: Xen and its timers go on.
HANG = """\
if grep -q shype.trial /proc/cmdline && [ -e /boot/hang ]; then
  rm /boot/hang
  echo "LAB-HANGS"
  echo -1 > /proc/sys/kernel/sched_rt_runtime_us
  exec chrt -f 99 busybox sh -c 'while :; do :; done'
fi
"""
OPTIONS = ["--xen", "/xen-flask", "--dom0-mem", "768M", "--kernel", "/vmlinuz-lab",
           "--initrd", "/initrd.img-lab", "--kernel-args", qemu.KERNEL_ARGS,
           "--xen-args", grub.XEN_ARGS]
#: Seconds until a boot on trial must be healthy: under emulation, on a busy machine, and for one
#: that will never be.
ENOUGH, SHORT = "300", "30"


def edition(version: str, out: Path, source: Path = EXAMPLES / "banks.yaml") -> Contents:
    """The policy ``source``, compiled, as another version, made from 1.0."""
    policy = load(source).policy
    before = None if version == policy.version else policy.version
    build(replace(policy, version=version, replaces=before), target="xen-4.17", out=out)
    return read_directory(out)


def broken(contents: Contents, module: bytes) -> Contents:
    """The same with another boot module, for which the manifest is right: well signed, and bad."""
    assert isinstance(contents.manifest, dict)
    digests = {**contents.manifest["files"], "policy.bin": canonical.digest(module)}
    return replace(contents, manifest={**contents.manifest, "files": digests},
                   files={**contents.files, "policy.bin": module})


@contextlib.contextmanager
def installed(place: Path, source: Path = EXAMPLES / "banks.yaml") -> Iterator[GrubHost]:
    """Installed on an image, and powered on."""
    files = prepared(place, source)
    with GrubHost.up(place / "disk.img", files) as machine:
        yield machine


def prepared(place: Path, source: Path = EXAMPLES / "banks.yaml") -> dict[str, bytes | str]:
    """Install the policy ``source`` on a disk, ``disk.img`` in ``place``; dom0's further files.

    In ``place`` are also ``root/boot``, ``first.shype``, ``keys`` and ``grub.efi``.
    """
    key = PrivateKey.generate()
    (place / "keys").mkdir()
    (place / "keys/lab.pub").write_bytes(key.public.pem())
    built = builder.load()
    init = (Path(grub.__file__).parent / "dom0/init.sh").read_text()
    grub.tree(built, place / "root/boot", assets.ARM, {
        "init.sh": init.replace("ip link set lo up\n", HANG + "ip link set lo up\n").encode()})
    first = edition("1.0", place / "first", source)
    (place / "first.shype").write_bytes(seal(first, [key]))
    assert main(["host", "install", "--root", str(place / "root"), "--separate-boot",
                 "--bundle", str(place / "first.shype"), "--keys", str(place / "keys"),
                 "--watchdog", ENOUGH, *OPTIONS]) == 0
    grub.disk(place / "root/boot", place / "disk.img")
    (place / "grub.efi").write_bytes(grub.efi_program(place / "disk.img"))
    second = edition("1.1", place / "second", source)
    reference = built.reference.read_bytes()
    return {
        "/etc/shype/keys/lab.pub": key.public.pem(),
        "/root/second.shype": seal(second, [key]),
        "/root/other.shype": seal(
            broken(edition("1.3", place / "other", source), reference), [key]),
    }


def env(host: GrubHost) -> dict[str, str]:
    """What GRUB decides by."""
    return grubenv.loads(host.lab.get("/boot/shype/boot.env"), Path("boot.env"))


def attempt(host: GrubHost, bundle: str, watchdog: str = ENOUGH) -> str:
    """Put a bundle on trial; its id."""
    done = host.lab.run(["shype", "host", "install", "--json", "--bundle", bundle,
                         "--watchdog", watchdog, *OPTIONS])
    assert done.code == 0, done.out + done.err
    return str(json.loads(done.out)["trial"])


def commit(host: GrubHost, *words: str) -> tuple[int, dict[str, object]]:
    """What the unit does at each boot."""
    done = host.lab.run(["shype", "host", "commit", "--json", *words])
    return done.code, json.loads(done.out)

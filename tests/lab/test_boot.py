"""A host that boots by GRUB into what `shype host install` has put on its disk.

Every trial here is a real boot: BIOS, GRUB, Xen, dom0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shype.base import canonical
from shype.cli.main import main
from shype.compile.flask.build import build
from shype.host.install import assets, grubenv
from shype.lab import builder, grub
from shype.lab.grubhost import GrubHost
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.manifest import read_directory
from shype.policy.signed import seal
from tests.lab.conftest import EXAMPLES

pytestmark = pytest.mark.lab

#: As dom0's first program, in a boot on trial, if the disk says so: it takes its processor for
#: ever and lets nothing else run. No panic, no crash: Xen and its timers go on.
HANG = """\
if grep -q shype.trial /proc/cmdline && [ -e /boot/hang ]; then
  rm /boot/hang
  echo "LAB-HANGS"
  echo -1 > /proc/sys/kernel/sched_rt_runtime_us
  exec busybox chrt -f 99 busybox sh -c 'while :; do :; done'
fi
"""
OPTIONS = ["--xen", "/xen-flask", "--dom0-mem", "768M", "--kernel", "/vmlinuz-lab",
           "--initrd", "/initrd.img-lab", "--kernel-args", "console=hvc0 quiet",
           "--xen-args", grub.XEN_ARGS, "--watchdog", "20"]


def edition(version: str, out: Path) -> Contents:
    """examples/banks.yaml, compiled, as another version."""
    policy = load(EXAMPLES / "banks.yaml").policy
    build(replace(policy, version=version), target="xen-4.17", out=out)
    return read_directory(out)


def broken(contents: Contents, module: bytes) -> Contents:
    """The same with another boot module, for which the manifest is right: well signed, and bad."""
    assert isinstance(contents.manifest, dict)
    digests = {**contents.manifest["files"], "policy.bin": canonical.digest(module)}
    return replace(contents, manifest={**contents.manifest, "files": digests},
                   files={**contents.files, "policy.bin": module})


@pytest.fixture(scope="module")
def host(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrubHost]:
    """Installed on an image, and powered on."""
    place = tmp_path_factory.mktemp("boot")
    key = PrivateKey.generate()
    (place / "keys").mkdir()
    (place / "keys/lab.pub").write_bytes(key.public.pem())
    built = builder.load()
    init = (Path(grub.__file__).parent / "dom0/init.sh").read_text()
    grub.tree(built, place / "root/boot", assets.ARM, {
        "init.sh": init.replace("ip link set lo up\n", HANG + "ip link set lo up\n").encode()})
    first = edition("1.0", place / "first")
    (place / "first.shype").write_bytes(seal(first, [key]))
    assert main(["host", "install", "--root", str(place / "root"), "--separate-boot",
                 "--bundle", str(place / "first.shype"), "--keys", str(place / "keys"),
                 *OPTIONS]) == 0
    grub.disk(place / "root/boot", place / "disk.img")
    second = edition("1.1", place / "second")
    module = second.files["policy.bin"]
    reference = built.reference.read_bytes()
    files: dict[str, bytes | str] = {
        "/etc/shype/keys/lab.pub": key.public.pem(),
        "/root/second.shype": seal(second, [key]),
        "/root/truncated.shype": seal(
            broken(edition("1.2", place / "third"), module[: len(module) // 2]), [key]),
        "/root/other.shype": seal(broken(edition("1.3", place / "other"), reference), [key]),
    }
    with GrubHost.up(place / "disk.img", files) as machine:
        yield machine


def env(host: GrubHost) -> dict[str, str]:
    """What GRUB decides by."""
    return grubenv.loads(host.lab.get("/boot/shype/boot.env"), Path("boot.env"))


def attempt(host: GrubHost, bundle: str) -> str:
    """Put a bundle on trial; its id."""
    done = host.lab.run(["shype", "host", "install", "--json", "--bundle", bundle, *OPTIONS])
    assert done.code == 0, done.out + done.err
    return str(json.loads(done.out)["trial"])


def commit(host: GrubHost, *words: str) -> tuple[int, dict[str, object]]:
    """What the unit does at each boot."""
    done = host.lab.run(["shype", "host", "commit", "--json", *words])
    return done.code, json.loads(done.out)


def test_the_first_policy_is_kept_when_the_host_is_healthy(host: GrubHost) -> None:
    console = host.wait()
    name = env(host)[grubenv.TRIED]
    assert f"shype: policy {name}, on trial" in console
    assert "watchdog armed for 20 s" in console
    code, said = commit(host)
    assert (code, said["policy"], said["committed"]) == (0, name, True), said
    assert env(host) == {grubenv.GOOD: name, grubenv.TRIAL: "", grubenv.TRIED: ""}
    # The agent acts by the bundle that was booted. The watchdog is off: dom0 outlives it.
    assert host.lab.run(["shype", "status"]).code in (0, 1)


def test_half_a_policy_makes_xen_panic_and_the_next_boot_is_the_last_good(host: GrubHost) -> None:
    good = env(host)[grubenv.GOOD]
    bad = attempt(host, "/root/truncated.shype")
    host.reboot()
    console = host.wait()
    assert f"shype: policy {bad}, on trial" in console
    assert "Panic on CPU" in console
    assert f"shype: policy {good}\n" in console
    fallen_back(host, good, bad)


def test_a_policy_that_hangs_dom0_is_ended_by_the_watchdog(host: GrubHost) -> None:
    good = env(host)[grubenv.GOOD]
    host.lab.run(["touch", "/boot/hang"])
    bad = attempt(host, "/root/second.shype")
    host.reboot()
    console = host.wait()
    assert "watchdog armed" in console.partition("LAB-HANGS")[0]
    assert "watchdog rebooting machine" in console.partition("LAB-HANGS")[2]
    assert "Panic" not in console
    fallen_back(host, good, bad)


def test_a_policy_that_boots_and_is_not_the_one_that_was_signed_for_ends(host: GrubHost) -> None:
    good = env(host)[grubenv.GOOD]
    bad = attempt(host, "/root/other.shype")
    host.reboot()
    console = host.wait()
    assert f"shype: policy {bad}, on trial" in console
    host.lab.spawn(["shype", "host", "commit", "--reboot"])
    host.wait()
    fallen_back(host, good, bad)


def test_a_new_policy_takes_the_old_one_s_place(host: GrubHost) -> None:
    new = attempt(host, "/root/second.shype")  # it was not the policy's fault that dom0 hung
    host.reboot()
    host.wait()
    code, said = commit(host)
    assert (code, said["policy"], said["committed"], said["bundle_placed"]) == (0, new, True, True)
    assert env(host)[grubenv.GOOD] == new
    status = json.loads(host.lab.run(["shype", "status", "--json"]).out)
    assert (status["policy"]["version"], status["policy"]["loaded"]) == ("1.1", True)
    kept = host.lab.run(["ls", "/boot/shype"]).out.split()
    assert sorted(kept) == sorted([f"{new}.bin", f"{new}.shype", "boot.env"])


def fallen_back(host: GrubHost, good: str, bad: str) -> None:
    """The good policy is booted, and what was tried is known."""
    assert env(host) == {grubenv.GOOD: good, grubenv.TRIAL: "", grubenv.TRIED: bad}
    code, said = commit(host)
    assert (code, said["policy"], said["committed"], said["given_up"]) == (1, good, False, bad)
    assert json.loads(host.lab.run(["shype", "status", "--json"]).out)["policy"]["loaded"]

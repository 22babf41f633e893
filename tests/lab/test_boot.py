"""A host that boots by GRUB into what `shype host install` has put on its disk.

Every trial here is a real boot: BIOS, GRUB, Xen, dom0. Policies with which Xen panics are in
tests/attacks/test_boot.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shype.host.install import grubenv
from shype.lab import builder
from shype.lab.grubhost import GrubHost
from tests.lab.boot_host import ENOUGH, SHORT, attempt, commit, env, installed
from tests.lab.conftest import EXAMPLES

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def host(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrubHost]:
    """Installed with its first policy, and powered on."""
    place = tmp_path_factory.mktemp("boot")
    (place / "banks.yaml").write_text((EXAMPLES / "banks.yaml").read_text().replace(
        "minimum: enforcing", "minimum: enforcing, updates: live"))
    with installed(place, place / "banks.yaml") as machine:
        yield machine


def test_the_first_policy_is_kept_when_the_host_is_healthy(host: GrubHost) -> None:
    console = host.wait()
    name = env(host)[grubenv.TRIED]
    assert f"shype: policy {name}, on trial" in console
    assert f"watchdog armed for {ENOUGH} s" in console
    code, said = commit(host)
    assert (code, said["policy"], said["committed"]) == (0, name, True), said
    assert env(host) == {grubenv.GOOD: name, grubenv.TRIAL: "", grubenv.TRIED: ""}
    # The agent acts by the bundle that was booted. The watchdog is off: dom0 outlives it.
    assert host.lab.run(["shype", "status"]).code in (0, 1)


def test_a_policy_that_hangs_dom0_is_ended_by_the_watchdog(host: GrubHost) -> None:
    good = env(host)[grubenv.GOOD]
    host.lab.run(["touch", "/boot/hang"])
    bad = attempt(host, "/root/second.shype", SHORT)
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


def test_what_grub_itself_cannot_load_falls_back_in_the_same_boot(host: GrubHost) -> None:
    good = env(host)[grubenv.GOOD]
    bad = attempt(host, "/root/second.shype")
    host.lab.run(["rm", f"/boot/shype/{bad}.bin"])
    host.reboot()
    console = host.wait()
    assert f"shype: policy {bad}, on trial" in console
    assert f"/shype/{bad}.bin' not found" in console
    assert f"shype: policy {good}" in console
    fallen_back(host, good, bad)


def test_a_policy_that_was_applied_live_is_tried_at_the_next_boot_and_kept(host: GrubHost) -> None:
    good = env(host)[grubenv.GOOD]
    # It was not this policy's fault that dom0 hung.
    done = host.lab.run(["shype", "apply", "/root/second.shype", "--yes", "--json"], timeout=300)
    assert done.code == 0, done.out + done.err
    status = json.loads(host.lab.run(["shype", "status", "--json"]).out)
    assert (status["policy"]["version"], status["policy"]["loaded"]) == ("1.1", True)
    new = env(host)[grubenv.TRIAL]
    assert env(host)[grubenv.GOOD] == good != new
    host.reboot()
    assert f"shype: policy {new}, on trial" in host.wait()
    code, said = commit(host)
    assert (code, said["policy"], said["committed"]) == (0, new, True), said
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

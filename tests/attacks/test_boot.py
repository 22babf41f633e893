"""Somebody or something changes what the host boots."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shype.host.install import grubenv
from shype.lab import builder
from shype.lab.grubhost import GrubHost
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.lab.boot_host import attempt, commit, env, installed

pytestmark = pytest.mark.lab

HOSTS: list[GrubHost] = []
#: What a user may try: GRUB's block, the module, the entry, the trial of another bundle.
TAMPER = """\
cat /boot/shype/boot.env
printf x >> /boot/shype/boot.env; rm -f /boot/shype/boot.env; mv /boot/shype /boot/other
for file in /boot/shype/*.bin /boot/grub/custom.cfg; do printf x >> $file; done
ln -s /tmp /boot/shype/new
shype host install --bundle /root/second.shype --xen /xen-flask --kernel-args quiet
shype host commit; shype host uninstall
printf V > /dev/watchdog
"""


@pytest.fixture(scope="class")
def arena(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A host that has booted its first policy, which is good."""
    place = tmp_path_factory.mktemp("boot")
    with installed(place) as host:
        HOSTS[:] = [host]
        host.wait()
        assert commit(host)[0] == 0
        yield Arena(host.lab)


def _sums(arena: Arena) -> str:
    return arena.lab.sh("cd /boot && sha256sum shype/* grub/custom.cfg && ls -la shype").out


def user_tampers(arena: Arena) -> Ended:
    before = _sums(arena)
    code, said = arena.as_user(TAMPER)
    if code and _sums(arena) == before and "Permission denied" in said:
        return Ended(Ends.STOPPED, f"{said.count('ermission denied')} times permission denied")
    return Ended(Ends.OPEN, said)


def half_written(arena: Arena) -> Ended:
    """The worst moment: GRUB's block names the new policy, and its module is not all there."""
    host = HOSTS[0]
    good = env(host)[grubenv.GOOD]
    bad = attempt(host, "/root/second.shype")
    module = f"/boot/shype/{bad}.bin"
    arena.lab.sh(f"truncate -s $(($(stat -c %s {module}) / 3)) {module}")
    told = arena.lab.run(["shype", "doctor"], timeout=200)
    host.reboot()
    console = host.wait()
    code, said = commit(host)
    tried = f"shype: policy {bad}, on trial" in console and "Panic on CPU" in console
    if tried and (code, said["policy"], said["given_up"]) == (1, good, bad):
        return Ended(Ends.STOPPED, "Xen panicked, and the next boot was the last good policy; "
                     + next((line for line in told.out.splitlines() if "NOT what" in line), ""))
    return Ended(Ends.OPEN, f"{said} {console[-500:]}")


def older(arena: Arena) -> Ended:
    """The first policy, module, signed bundle and block, is put back after the second is good."""
    host = HOSTS[0]
    arena.lab.sh("rm -rf /root/old && cp -a /boot/shype /root/old")
    attempt(host, "/root/second.shype")
    host.reboot()
    host.wait()
    assert commit(host)[0] == 0
    assert arena.lab.run(["shype", "status"], timeout=200).code in (0, 1)  # 1.1 counts from here
    arena.lab.sh("rm -rf /boot/shype/* && cp -a /root/old/. /boot/shype/")
    host.reboot()
    host.wait()
    code, said = commit(host)
    refused = arena.lab.run(["shype", "run", "/run/a-db.cfg", "--json"], timeout=200)
    if code == 2 and said.get("error") == "bundle.older" and refused.code in (2, 3):
        return Ended(Ends.DETECTED, str(said["message"]))
    return Ended(Ends.OPEN, f"{code} {said} {refused.out}")


ATTACKS = [
    Attack("boot.user", By.USER, "A user changes GRUB's block, the policy module and the entry.",
           Ends.STOPPED, Whom.KERNEL, user_tampers),
    Attack("boot.half-written", By.FAULT,
           "Power is lost: a third of the new policy is on the disk, and GRUB boots it.",
           Ends.STOPPED, Whom.LOADER, half_written),
    Attack("boot.older", By.FAULT, "Root puts an older signed policy back into /boot.",
           Ends.DETECTED, Whom.AGENT, older),
]
WHY = ("GRUB, the trial and the commit do not read labels, and never open a window; each of these "
       "boots takes a minute")
TestDefault, TestLocked, TestManager = each(
    ATTACKS, without={Mode.LOCKED: WHY, Mode.MANAGER: WHY})

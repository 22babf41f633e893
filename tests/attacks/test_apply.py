"""Somebody tries to get another policy into a host than the one it is to have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shype.lab import builder
from shype.lab.host import Lab
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.signed import seal
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import in_mode
from tests.lab.test_apply import SHOP, compiled, successor
from tests.lab.test_faults import wait_in_dom0

pytestmark = pytest.mark.lab

HERE = "/run/update"


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """A host with a live policy, and a directory in which everybody may write."""
    bundle = tmp_path_factory.mktemp("update") / "shop.shype"
    text = in_mode(SHOP, mode)
    bundle.write_bytes(seal(compiled(text), []))
    with Lab.up(bundle=bundle, loaded=True) as lab:
        assert lab.sh(f"mkdir -m 1777 {HERE}").code == 0
        yield Arena(lab, {"policy": text}, mode)


def said(lab: Lab, *words: str) -> dict[str, Any]:
    """What a command says."""
    found = json.loads(lab.run(["shype", *words, "--json"], timeout=300).out)
    assert isinstance(found, dict)
    return found


def version(lab: Lab) -> tuple[int, bool]:
    """The minor version of the host's bundle, and whether the hypervisor has it."""
    policy = said(lab, "status")["policy"]
    return int(policy["version"].split(".")[1]), bool(policy["loaded"])


def coming(arena: Arena) -> Contents:
    """The next version."""
    return compiled(successor(version(arena.lab)[0] + 1, arena.notes["policy"]))


def signed(lab: Lab, parts: Contents) -> bytes:
    """Signed with the key that the host trusts."""
    return seal(parts, [PrivateKey.from_pem(lab.key.read_bytes(), str(lab.key))])


def rollback(arena: Arena) -> Ended:
    lab = arena.lab
    lab.put(f"{HERE}/next", signed(lab, coming(arena)))
    assert said(lab, "apply", f"{HERE}/next", "--yes")["applied"]
    now = version(lab)
    lab.put(f"{HERE}/old", signed(lab, compiled(arena.notes["policy"])))
    error = said(lab, "apply", f"{HERE}/old", "--yes").get("error")
    if error == "bundle.older" and version(lab) == now:
        return Ended(Ends.STOPPED, error)
    return Ended(Ends.OPEN, str(error))


def swapped(arena: Arena) -> Ended:
    """The file is exchanged for an altered one all the time."""
    lab = arena.lab
    before = version(lab)[0]
    good = signed(lab, coming(arena))
    arena.as_user(f"rm -f {HERE}/*")
    lab.put(f"{HERE}/good", good)
    lab.put(f"{HERE}/bad", good.replace(b"map_write", b"map_wrong"))
    lab.put(f"{HERE}/swap", f"cd {HERE}; while [ -e go ]; do cp good x; mv x new; cp bad x; "
            "mv x new; done")
    assert lab.sh(f"cd {HERE}; rm -f new; touch go; chmod 644 *").code == 0
    lab.spawn(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh",
               f"{HERE}/swap"])
    wait_in_dom0(lab, f"test -e {HERE}/new")
    ends = []
    for _ in range(4):
        done = said(lab, "apply", f"{HERE}/new", "--yes")
        ends.append(str(done.get("error") or ("applied" if done.get("applied") else "refused")))
        if ends[-1] == "applied":
            break
    lab.sh(f"rm {HERE}/go")
    now, loaded = version(lab)
    right = now == before + ("applied" in ends) and loaded
    if right and {*ends} <= {"applied", "bundle.altered", "bundle.corrupt"}:
        return Ended(Ends.STOPPED, ", ".join(dict.fromkeys(ends)))
    return Ended(Ends.OPEN, f"{ends}, version {now}, loaded {loaded}")


def killed(arena: Arena) -> Ended:
    """SIGKILL for the command and its guardian as soon as the hypervisor has the new policy."""
    lab = arena.lab
    parts = coming(arena)
    before = version(lab)[0]
    lab.put(f"{HERE}/next", signed(lab, parts))
    assert isinstance(parts.manifest, dict)
    digest = parts.manifest["digest"]
    lab.put(f"{HERE}/kill", f"""\
setsid shype apply {HERE}/next --yes >/dev/null 2>&1 &
until flask-get-bool policy_{digest} >/dev/null 2>&1; do :; done
for one in /proc/[0-9]*; do
    if tr '\\0' ' ' <$one/cmdline 2>/dev/null | grep -q 'apply {HERE}/next'; then
        kill -9 ${{one#/proc/}}
    fi
done
""")
    assert lab.run(["sh", f"{HERE}/kill"], timeout=300).code == 0
    shown = said(lab, "status")
    assert "error" not in said(lab, "ps")
    now, loaded = version(lab)
    if shown["update"] and loaded and said(lab, "status")["sound"]:
        return Ended(Ends.STOPPED, f"shown as {shown['update']['phase']}, then "
                     f"{'the new' if now > before else 'the old'} policy wholly")
    return Ended(Ends.OPEN, f"shown: {shown['update']}, loaded: {loaded}")


def by_user(arena: Arena) -> Ended:
    lab = arena.lab
    lab.put(f"{HERE}/next", signed(lab, coming(arena)))
    before = version(lab)
    code, text = arena.as_user(f"shype apply {HERE}/next --yes; xl loadpolicy {HERE}/next")
    if code != 0 and version(lab) == before:
        return Ended(Ends.STOPPED, text.strip().splitlines()[0][:80])
    return Ended(Ends.OPEN, text)


def by_xl(arena: Arena) -> Ended:
    """root loads a policy without shype, while no update is at work."""
    lab = arena.lab
    lab.put("/run/policy.bin", compiled(arena.notes["policy"]).files["policy.bin"])
    before = version(lab)
    done = lab.run(["xl", "loadpolicy", "/run/policy.bin"])
    denial = [line for line in lab.run(["xl", "dmesg"]).out.splitlines()
              if "denied  { load_policy }" in line]
    if done.code != 0 and denial and version(lab) == before:
        return Ended(Ends.STOPPED, "avc: denied { load_policy }")
    return Ended(Ends.OPEN, done.err)


TestDefault, TestLocked, TestManager = each([
    Attack("update.rollback", By.ADMIN, "An older version, rightly signed, is applied.",
           Ends.STOPPED, Whom.AGENT, rollback),
    Attack("update.swap", By.USER,
           "The bundle is exchanged for an altered one, again and again, while it is applied.",
           Ends.STOPPED, Whom.AGENT, swapped),
    Attack("update.killed", By.FAULT,
           "The command and its guardian are killed between the load and the commit.",
           Ends.STOPPED, Whom.AGENT, killed),
    Attack("update.by-user", By.USER, "An unprivileged user applies a bundle, and loads it by xl.",
           Ends.STOPPED, Whom.KERNEL, by_user),
    Attack("update.by-xl", By.ADMIN, "root loads a policy by `xl loadpolicy`, past shype.",
           Ends.STOPPED, Whom.XEN, by_xl),
], without={
    Mode.LOCKED: "each of these ends at a signature, a version, a journal or the right to load, "
                 "for which no label counts",
    Mode.MANAGER: "the manager loads then: against it, dom0.replay-bundle, altered-bundle, "
                  "kill-update and load-policy are the same"})

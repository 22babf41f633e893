"""A new policy for a host that runs, with real guests that hold what it forbids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.base import canonical
from shype.compile.flask.build import compile_cil, make
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.probe import Result
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.signed import seal
from tests.analysis.policies import policy
from tests.lab.conftest import boolean, guests
from tests.lab.test_faults import Answer, begin, shype

pytestmark = pytest.mark.lab

#: web and db share a coalition, web and till do not; db and till always do.
SHOP = """\
shype: 1
policy: {name: shop, version: "1.0"}
coalitions: [back, pay, keep]
labels:
  host: {coalitions: all}
  web:  {coalitions: [back]}
  db:   {coalitions: [back, keep]}
  till: {coalitions: [pay, keep]}
host: {dom0: host, updates: live}
vms: {web-1: web, db-1: db, till-1: till}
"""
#: db has another name.
RENAMED = SHOP.replace("  db:   {", "  store: {was: db, ").replace("db-1: db", "db-1: store")
BACK, PAY = "web:  {coalitions: [back]}", "web:  {coalitions: [pay]}"
VMS = ("web-1", "db-1", "till-1")
NEW = "/run/new.shype"


def successor(number: int, text: str, *, revocation: str = "refuse") -> str:
    """``text`` as the version after ``number`` - 1."""
    before = f'"1.{number - 1}"'
    return text.replace('"1.0"}', f'"1.{number}", from: {before}}}').replace(
        "updates: live}", f"updates: live, revocation: {revocation}}}")


def compiled(text: str) -> Contents:
    """The parts of a bundle."""
    return make(policy(text), target="xen-4.17")[1]


def changed(parts: Contents, binary: bytes) -> Contents:
    """The same with another binary, which the manifest owns to."""
    files = {**parts.files, "policy.bin": binary}
    manifest = parts.manifest
    assert isinstance(manifest, dict)
    named = {name: canonical.digest(data) for name, data in files.items()}
    return Contents({**manifest, "files": named}, parts.policy, files)


def loose(parts: Contents, tmp_path: Path, rule: str) -> Contents:
    """The same with one rule more in its binary, which nobody has validated."""
    (tmp_path / "loose.cil").write_bytes(parts.files["policy.cil"] + rule.encode())
    compile_cil(tmp_path / "loose.cil", tmp_path / "loose.bin")
    return changed(parts, (tmp_path / "loose.bin").read_bytes())


def put(lab: Lab, parts: Contents) -> None:
    """Sign a bundle with the key that dom0 trusts, and put it there."""
    key = PrivateKey.from_pem(lab.key.read_bytes(), str(lab.key))
    lab.put(NEW, seal(parts, [key]))


def apply(lab: Lab, parts: Contents, *words: str) -> Answer:
    """`shype apply` of a bundle."""
    put(lab, parts)
    return shype(lab, "apply", NEW, *(words or ("--yes",)))


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A host with SHOP 1.0 and three guests that run."""
    place = tmp_path_factory.mktemp("apply") / "shop.shype"
    place.write_bytes(seal(compiled(SHOP), []))
    with Lab.up(bundle=place, loaded=True) as up:
        for vm in VMS:
            start(up, vm)
        probe.wait_for(up.run, VMS, timeout=400)
        yield up


def start(lab: Lab, vm: str) -> None:
    """Start a guest."""
    lab.put(f"/run/{vm}.cfg", config(vm, type="pv"))
    done = shype(lab, "run", f"/run/{vm}.cfg")
    assert done.code == 0, done.value


def domid(lab: Lab, vm: str) -> int:
    """Its domain id."""
    return int(lab.run(["xl", "domid", vm]).out)


def hold(lab: Lab, mapper: str, owner: str, text: str) -> None:
    """``mapper`` maps a page of ``owner`` and keeps it."""
    offered = probe.ask(lab.run, owner, "grant_offer", domid(lab, mapper), "rw", text)
    kept = probe.ask(lab.run, mapper, "grant_keep", domid(lab, owner), int(str(offered["gref"])))
    assert kept["result"] == "ok", kept
    assert probe.ask(lab.run, mapper, "grant_kept")["text"] == text


def flows(lab: Lab, a: str, b: str) -> set[Result]:
    """What becomes of every attempt between two guests, in both directions."""
    found = probe.probe_pairs(lab.run, [(a, b), (b, a)], [
        way for way in probe.SHARING if way is not probe.Way.ARGO])
    return {attempt.result for attempt in found}


def names(answer: Answer, key: str) -> list[object]:
    """A list of the answer."""
    found = answer.value[key]
    assert isinstance(found, list)
    return found


def meanwhile(lab: Lab, parts: Contents, a: str, b: str) -> tuple[Answer, set[Result], int]:
    """`shype apply` while two guests exchange all the time: how it ended, and what they saw."""
    def ended() -> int:
        return int(lab.sh("ls /run/apply-*.code 2>/dev/null | wc -l").out)

    put(lab, parts)
    before = ended()
    answer = begin(lab, "apply", NEW, "--yes")
    seen: set[Result] = set()
    count = 0
    while ended() == before:
        found = probe.probe_pairs(lab.run, [(a, b)], [probe.Way.EVENT, probe.Way.GRANT_MAP_RW])
        seen |= {attempt.result for attempt in found}
        count += len(found)
    return answer(), seen, count


def test_a_policy_that_is_not_taken_changes_nothing(lab: Lab, tmp_path: Path) -> None:
    assert flows(lab, "web-1", "db-1") == {Result.PERMITTED}
    assert flows(lab, "web-1", "till-1") == {Result.DENIED}
    hold(lab, "web-1", "db-1", "held")

    # Refused by its own word.
    said = apply(lab, compiled(successor(1, SHOP.replace(BACK, PAY))))
    assert said.code == 1, said.value
    assert "refuse" in str(said.value["refused"])
    assert said.value["certain"] is True
    assert names(said, "holders") == [{"domid": domid(lab, "web-1"), "vm": "web-1"}]

    # The hypervisor refuses the binary.
    pausing = compiled(successor(1, SHOP.replace(BACK, PAY), revocation="pause"))
    said = apply(lab, changed(pausing, pausing.files["policy.bin"][:-40]))
    assert (said.code, said.error) == (3, "host.load"), said.value
    assert shype(lab, "status").code == 0

    # It does not say what its source says: rolled back, renamed labels and all.
    renamed = compiled(successor(1, RENAMED.replace(BACK, PAY), revocation="pause"))
    said = apply(lab, loose(renamed, tmp_path, "(allow l_web_t l_store_t (grant (map_read)))\n"))
    assert (said.code, said.error) == (3, "apply.rolled-back"), said.value
    assert "map_read" in str(said.value["message"])
    assert shype(lab, "status").code == 0
    assert set(guests(lab).values()) == {"u:r:l_web_t:s0", "u:r:l_db_t:s0", "u:r:l_till_t:s0"}
    assert probe.ask(lab.run, "web-1", "grant_kept")["text"] == "held", "who was paused goes on"
    assert flows(lab, "web-1", "db-1") == {Result.PERMITTED}


def test_who_maps_what_becomes_forbidden_is_paused(lab: Lab) -> None:
    parts = compiled(successor(1, SHOP.replace(BACK, PAY), revocation="pause"))
    said, seen, count = meanwhile(lab, parts, "db-1", "till-1")
    assert said.code == 0, said.value
    assert (names(said, "paused"), names(said, "left")) == (["web-1"], [])
    assert seen == {Result.PERMITTED}, "what both policies permit is not interrupted"
    assert count >= 4
    assert shype(lab, "status").code == 0
    assert not boolean(lab, "load_open")
    assert lab.run(["xl", "list", "web-1"]).out.split()[-2][2] == "p"
    assert shype(lab, "unpause", "web-1").error == "vm.revoked"


def test_labels_are_renamed_and_what_is_permitted_again_flows(lab: Lab) -> None:
    said, seen, _ = meanwhile(lab, compiled(successor(2, RENAMED)), "db-1", "till-1")
    assert said.code == 0, said.value
    assert seen == {Result.PERMITTED}
    assert guests(lab)["db-1"] == "u:r:l_store_t:s0"
    assert shype(lab, "unpause", "web-1").code == 0
    assert probe.ask(lab.run, "web-1", "grant_kept")["text"] == "held"
    assert flows(lab, "web-1", "db-1") == {Result.PERMITTED}


def test_who_maps_what_becomes_forbidden_is_destroyed(lab: Lab) -> None:
    last = RENAMED.replace(", was: db", "").replace(BACK, PAY)
    lab.put("/run/module.bin", b"of the boot entry")
    parts = compiled(successor(3, last, revocation="destroy"))
    said = apply(lab, parts, "--yes", "--boot-policy", "/run/module.bin")
    assert said.code == 0, said.value
    assert (names(said, "destroyed"), names(said, "left")) == (["web-1"], [])
    assert set(guests(lab)) == {"db-1", "till-1"}
    assert lab.get("/run/module.bin") == parts.files["policy.bin"]
    start(lab, "web-1")
    probe.wait_for(lab.run, ["web-1"], timeout=400)
    assert flows(lab, "web-1", "db-1") == {Result.DENIED}, "nothing flows between the two"
    assert flows(lab, "web-1", "till-1") == {Result.PERMITTED}, "what is permitted now does"
    assert shype(lab, "status").code == 0

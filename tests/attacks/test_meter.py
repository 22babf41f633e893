"""Somebody tries to pay less, to be held to less, or to change the bill afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.base import canonical
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.meter.anchor import Point
from shype.meter.places import Places
from shype.meter.reader import lines
from shype.meter.record import decode, encode
from shype.meter.verify import verify
from shype.policy.ed25519 import PrivateKey, PublicKey
from tests.attacks.attack import Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import up
from tests.attacks.policies import BANKS
from tests.lab.conftest import guests
from tests.lab.test_lifecycle import ENDS
from tests.lab.trails import shown, shype

pytestmark = pytest.mark.lab

LEDGER = "/var/lib/shype/meter"
QUOTAS = """\
quotas:
  labels:
    bank-a-db: {vms: 1, each: {cpu: 90 %, weight: 512}}
"""
RACERS = 6


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """A metered host with some records behind it, a copy of them, and what an auditor noted."""
    place = tmp_path_factory.mktemp("meter")
    with up(BANKS + QUOTAS, mode, place) as lab:
        assert shype(lab, "meter", "begin")[0] == 0
        for _ in range(3):
            assert shype(lab, "meter", "sample")[0] == 0
        old = place / "old"
        copied(lab, old)
        assert shype(lab, "meter", "key", "rotate")[0] == 0
        for _ in range(3):
            assert shype(lab, "meter", "sample")[0] == 0
        copied(lab, place / "copy")
        end = lab.run(["shype", "meter", "head"], 120).out.strip()
        yield Arena(lab, {"copy": str(place / "copy"), "old": str(old), "end": end}, mode)


def copied(lab: Lab, into: Path) -> None:
    """The ledger's files, the present key included: root has them all."""
    into.mkdir()
    for name in ("ledger.jsonl", "head.json", "first.pub", "key.pem"):
        (into / name).write_bytes(lab.get(f"{LEDGER}/{name}"))


def judged(arena: Arena, ledger: Path) -> Ended:
    """The verdict of somebody who has noted the first key and the end."""
    key = PublicKey.from_pem((Path(arena.notes["copy"]) / "first.pub").read_bytes(), "first")
    found = verify(ledger, key, points=[Point.parse(arena.notes["end"])])
    if found.good:
        return Ended(Ends.OPEN, f"whole: {found.records} records")
    return Ended(Ends.DETECTED, found.problems[0].what)


def tampered(change: Callable[[list[bytes], PrivateKey], list[bytes]]) -> Callable[[Arena], Ended]:
    """What root does to the records, with the key that the host has now."""
    def attempt(arena: Arena) -> Ended:
        with tempfile.TemporaryDirectory() as place:
            ledger = Path(place) / "meter"
            shutil.copytree(arena.notes["copy"], ledger)
            assert judged(arena, ledger).how is Ends.OPEN  # it was whole
            key = PrivateKey.from_pem((ledger / "key.pem").read_bytes(), "key.pem")
            found = change([line.data for line in lines(ledger)], key)
            Places(ledger).current.write_bytes(b"".join(found))
            return judged(arena, ledger)

    return attempt


def alter(records: list[bytes], key: PrivateKey) -> list[bytes]:
    """A VM's processor time is halved, and all that follows is signed anew."""
    place = next(n for n, line in enumerate(records) if decode(line).kind == "sample")
    prev = decode(records[place]).prev
    for number in range(place, len(records)):
        body = dict(decode(records[number]).body)
        seq = body.pop("seq")
        del body["prev"]
        if number == place:
            body["usage"] = [[row[0], row[1] // 2, *row[2:]] for row in body["usage"]]
        records[number] = encode(body, seq, prev, [key])
        prev = canonical.digest(records[number])
    return records


def roll_back(arena: Arena) -> Ended:
    return judged(arena, Path(arena.notes["old"]))


def reboot_to_escape(arena: Arena) -> Ended:
    """A guest that ends itself again and again; each of its lives is on the bill."""
    lab = arena.lab
    lab.put("/run/reboots.cfg", config("a-db", type="pv", args=f"{ENDS}reboot -f"))
    assert shype(lab, "run", "/run/reboots.cfg")[0] == 0
    lives = 1
    try:
        for _ in range(2):
            done = lab.sh("for i in $(seq 900); do xl list a-db | grep -q -e '---sr-' && exit 0; "
                          "sleep 0.1; done; exit 1", timeout=200)
            assert done.code == 0
            assert lab.run(["shype", "watch", "--once"], 200).code == 0
            lives += 1
    finally:
        shype(lab, "stop", "--force", "a-db")
    rows = shype(lab, "meter", "report")[1]["rows"]
    row = next(row for row in rows if row["key"] == "a-db")
    told = f"{row['runs']} runs, {row['cpu_ns'] / 1e9:.2f} s, {row['ended_unseen']} ended unseen"
    if row["runs"] >= lives and row["cpu_ns"] > 0:
        return Ended(Ends.STOPPED, told)
    return Ended(Ends.OPEN, told)


def race(arena: Arena) -> Ended:
    """So many launches at once of a label that may have one VM."""
    lab = arena.lab
    for number in range(RACERS):
        lab.put(f"/run/race{number}.cfg", config(
            f"race{number}", type="pv", seclabel="bank-a-db", memory=100))
    script = " ".join(f"shype run --lock-timeout 300 /run/race{n}.cfg >/run/race{n}.out 2>&1 &"
                      for n in range(RACERS))
    lab.sh(f"{script} wait", timeout=500)
    running = [vm for vm in guests(lab) if vm.startswith("race")]
    refused = lab.sh("grep -l quota.exceeded /run/race*.out | wc -l").out.strip()
    for vm in running:
        shype(lab, "stop", "--force", vm)
    if len(running) == 1 and refused == str(RACERS - 1):
        return Ended(Ends.STOPPED, f"{len(running)} runs, {refused} quota.exceeded")
    return Ended(Ends.OPEN, f"{running}, {refused} refused")


def lift_cap(arena: Arena) -> Ended:
    lab = arena.lab
    lab.put("/run/capped.cfg", config("a-db", type="pv"))
    assert shype(lab, "run", "/run/capped.cfg")[0] == 0
    try:
        domid = lab.run(["xl", "domid", "a-db"]).out.strip()
        assert lab.run(["xl", "sched-credit2", "-d", domid, "-c", "0"]).code == 0
        code, said = shype(lab, "meter", "quotas")
        assert lab.run(["shype", "watch", "--once"], 200).code == 0
        now = lab.run(["xl", "sched-credit2", "-d", domid]).out.split()[-2:]
    finally:
        shype(lab, "stop", "--force", "a-db")
    records = shown(lab, "--kind", "quota.reapplied")
    if code == 1 and now == ["512", "90"] and records:
        return Ended(Ends.DETECTED, f"{said['loose'][0]['now']}, and back at {' '.join(now)} %")
    return Ended(Ends.OPEN, f"{code} {now} {said}")


ATTACKS = (
    Attack("meter.alter", By.ROOT, "Figures of the past are halved and signed anew.",
           Ends.DETECTED, Whom.AUDITOR, tampered(alter)),
    Attack("meter.drop", By.ROOT, "A record of the meter is taken out.", Ends.DETECTED,
           Whom.AUDITOR, tampered(lambda records, key: [*records[:3], *records[4:]])),
    Attack("meter.replay", By.ROOT, "An old record is put in the place of a newer one.",
           Ends.DETECTED, Whom.AUDITOR,
           tampered(lambda records, key: [*records[:5], records[2], *records[6:]])),
    Attack("meter.roll-back", By.ROOT, "The whole ledger is replaced by an old copy of it.",
           Ends.DETECTED, Whom.AUDITOR, roll_back),
    Attack("meter.reboot", By.GUEST, "A guest reboots again and again, to be metered from nought.",
           Ends.STOPPED, Whom.AGENT, reboot_to_escape),
    Attack("quota.race", By.ADMIN, "Many launches at once, where there is room for one.",
           Ends.STOPPED, Whom.AGENT, race),
    Attack("quota.lift", By.ROOT, "A VM's cap is lifted behind shype's back.",
           Ends.DETECTED, Whom.AGENT, lift_cap),
)
WHY = {
    Mode.LOCKED: "the share of the processor that this quota gives is not given to a locked label: "
                 "its VM does not start",
    Mode.MANAGER: "as with locked labels",
}
TestDefault, TestLocked, TestManager = each(ATTACKS, without=WHY)

"""Somebody tries to change, hide or drown the record of what happened."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shype.host.audit import head as heads
from shype.host.audit import keyfile
from shype.host.audit.limiter import BURST
from shype.host.audit.record import Key, decode, encode
from shype.host.audit.verify import Anchor, verify
from shype.lab import builder, probe
from shype.lab.guests import config
from tests.attacks.attack import AS_MANAGED, Arena, Attack, By, Ended, Ends, Mode, Whom, each
from tests.attacks.modes import up
from tests.attacks.policies import BANKS
from tests.lab.conftest import STILL
from tests.lab.trails import copied, shown, shype, watched

pytestmark = pytest.mark.lab

STATE = "/var/lib/shype"
#: Twelve writers, each killed by SIGKILL a little later than the one before.
KILLS = """\
import os, signal, sys, time
from pathlib import Path
from shype.host.audit.event import Event, Result
from shype.host.audit.trail import Trail
trail = Trail(Path("/var/lib/shype/audit"))
event = Event(kind="test", result=Result.DONE, details={"text": "x" * 20000})
for number in range(12):
    pid = os.fork()
    if pid == 0:
        while True:
            trail.record(event)
    time.sleep(0.3 + number * 0.041)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
trail.record(event)
"""


@pytest.fixture(scope="class")
def arena(
    lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory, mode: Mode,
) -> Iterator[Arena]:
    """A host where something happened, its key and a copy of its trail (two files)."""
    place = tmp_path_factory.mktemp("audit")
    with up(BANKS, mode, place) as lab:
        lab.put("/run/market.cfg", config("market", type="pv"))
        lab.put("/run/a-db.cfg", config("a-db", type="pv", extra=STILL))
        lab.put("/run/b-db.cfg", config("b-db", type="pv", extra=STILL))
        assert shype(lab, "run", "/run/market.cfg")[0] == 0
        assert shype(lab, "run", "/run/a-db.cfg")[0] == 0
        assert shype(lab, "audit", "rotate")[0] == 0
        assert shype(lab, "run", "/run/b-db.cfg")[0] == 1
        (place / "key").write_text(lab.run(["shype", "audit", "key"]).out)
        copied(lab, place / "copy")
        yield Arena(lab, {"key": str(place / "key"), "copy": str(place / "copy")}, mode)


def judged(arena: Arena, trail: Path, *anchors: Anchor) -> Ended:
    """The auditor's verdict, off the host."""
    report = verify([trail], keyfile.read(Path(arena.notes["key"])), anchors=anchors)
    if report.good:
        return Ended(Ends.OPEN, f"whole: {report.records} records")
    return Ended(Ends.DETECTED, report.problems[0].what)


def tampered(change: Callable[[Path], None]) -> Callable[[Arena], Ended]:
    """What root does to the files, judged by the auditor."""
    def attempt(arena: Arena) -> Ended:
        with tempfile.TemporaryDirectory() as place:
            trail = Path(place) / "trail"
            shutil.copytree(arena.notes["copy"], trail)
            assert judged(arena, trail).how is Ends.OPEN  # it was whole
            change(trail)
            return judged(arena, trail)

    return attempt


def _lines(trail: Path) -> list[bytes]:
    return (trail / "audit.jsonl").read_bytes().splitlines(keepends=True)


def truncate(trail: Path) -> None:
    (trail / "audit.jsonl").write_bytes(b"".join(_lines(trail)[:-1]))


def reorder(trail: Path) -> None:
    lines = _lines(trail)
    (trail / "audit.jsonl").write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


def edit(trail: Path) -> None:
    data = (trail / "audit.jsonl").read_bytes()
    assert b'"refused"' in data
    (trail / "audit.jsonl").write_bytes(data.replace(b'"refused"', b'"permitted"'))


def remove_file(trail: Path) -> None:
    closed, = trail.glob("audit-*.jsonl")
    closed.unlink()


def make_anew(trail: Path) -> None:
    """All hashes are made to fit, with a key of one's own."""
    key, previous, made = Key(b"mine" * 8), "", []
    closed, = trail.glob("audit-*.jsonl")
    previous = decode(closed.read_bytes().splitlines(keepends=True)[-1]).hash
    for line in _lines(trail):
        body = dict(decode(line).body)
        seq, _ = body.pop("seq"), body.pop("prev")
        body["result"] = "permitted"
        new, previous = encode(body, seq, previous, key)
        made.append(new)
    (trail / "audit.jsonl").write_bytes(b"".join(made))
    head = heads.read(trail / "head")
    assert head is not None
    forged = replace(head, hash=previous, key=key, offset=(trail / "audit.jsonl").stat().st_size)
    (trail / "head").write_bytes(heads.image(forged.proved()))


def roll_back(arena: Arena) -> Ended:
    """The whole state is replaced by an old copy; the auditor has an anchor of later."""
    head = shype(arena.lab, "status")[1]["audit"]
    return judged(arena, Path(arena.notes["copy"]), Anchor(head["seq"] + 5, head["hash"]))


def restore_trail(arena: Arena) -> Ended:
    """Only the trail's directory is put back, on the running host."""
    lab = arena.lab
    lab.sh(f"rm -rf /run/kept && cp -a {STATE} /run/kept && cp -a {STATE}/audit /run/old")
    shype(lab, "run", "/run/b-db.cfg")  # refused, and so recorded
    lab.sh(f"rm -r {STATE}/audit && mv /run/old {STATE}/audit")
    code, answer = shype(lab, "stop", "nobody")
    code, answer = shype(lab, "audit", "rotate")
    lab.sh(f"rm -r {STATE} && mv /run/kept {STATE}")
    if code == 3 and answer["error"] == "audit.broken":
        return Ended(Ends.DETECTED, answer["message"])
    return Ended(Ends.OPEN, json.dumps(answer))


def user_reads_and_writes(arena: Arena) -> Ended:
    code, said = arena.as_user(
        f"cat {STATE}/audit/audit.jsonl; cat {STATE}/audit/head; echo '{{}}' >> "
        f"{STATE}/audit/audit.jsonl; rm -rf {STATE}/audit; shype audit show; "
        "shype audit rotate; ls /var/lib/shype/audit")
    intact = arena.lab.run(["shype", "audit", "verify", "--key", _key(arena)], timeout=200)
    if code and "seq" not in said and intact.code == 0:
        return Ended(Ends.STOPPED, "Permission denied, " + intact.out.splitlines()[0])
    return Ended(Ends.OPEN, said)


def kill_in_the_midst(arena: Arena) -> Ended:
    done = arena.lab.sh(f"cd /opt/shype && python3 -c '{KILLS}'", timeout=200)
    assert done.code == 0, done.err
    done = arena.lab.run(["shype", "audit", "verify", "--key", _key(arena)], timeout=200)
    if done.code == 0:
        return Ended(Ends.STOPPED, done.out.splitlines()[0])
    return Ended(Ends.OPEN, done.out)


def guest_floods(arena: Arena) -> Ended:
    """It makes Xen print 300 refusals; another one, by dom0, must be on record all the same."""
    lab = arena.lab
    probe.wait_for(lab.run, ["market"], timeout=300)
    assert lab.run(["xl", "create", "/run/b-db.cfg"], timeout=200).code != 0
    assert shype(lab, "audit", "collect")[0] == 0
    before = len(shown(lab, "--kind", "denial"))
    target = lab.run(["xl", "domid", "a-db"]).out.strip()
    answer = probe.ask(lab.run, "market", "bench_map", int(target), 8, 300, timeout=300)
    assert shype(lab, "audit", "collect")[0] == 0
    denials = shown(lab, "--kind", "denial")
    rules = [record.get("rule") for record in denials]
    mine = [r for r in denials[before:] if r.get("vm") == "market"]
    times = sum(r["details"]["times"] for r in mine)
    told = f"{answer.get('failed')} refused, {len(mine)} records, {times} counted"
    labels = {(r.get("subject"), r.get("object_label")) for r in mine}
    kept = "create.unlabelled" in rules and ("market-data", "bank-a-db") in labels
    if kept and 0 < len(mine) <= BURST and times > len(mine):
        return Ended(Ends.STOPPED, told)
    return Ended(Ends.OPEN, f"{told}; {rules} {labels}")


def guest_drowns(arena: Arena) -> Ended:
    """The same while `shype watch` runs: each one is counted, or the bytes that are lost are."""
    lab = arena.lab
    probe.wait_for(lab.run, ["market"], timeout=300)
    waited = shype(lab, "audit", "collect")[1]["waiting"]
    after = shown(lab, "-n", "1")[0]["seq"]
    target = lab.run(["xl", "domid", "a-db"]).out.strip()
    with watched(lab):
        answer = probe.ask(lab.run, "market", "bench_map", int(target), 8, 300, timeout=300)
    waiting = shype(lab, "audit", "collect")[1]["waiting"]
    new = [r for r in shown(lab, "--kind", "denial") if r["seq"] > after]
    lost = sum(r["details"]["bytes"] for r in new if r["kind"] == "denial.gap")
    lines = [r for r in new if r["kind"] == "denial"]
    counted = sum(r["details"]["times"] for r in lines) + waiting - waited
    failed = int(str(answer.get("failed")))
    length = max((len(r["details"]["line"]) for r in lines), default=100) + 1
    said = f"{failed} refused, {counted} counted in {len(lines)} records, {lost} bytes lost"
    whole = counted + lost / length
    told = counted >= failed if not lost else whole >= failed - 2
    return Ended(Ends.DETECTED if told and len(lines) <= BURST + 2 else Ends.OPEN, said)


def clear_the_ring(arena: Arena) -> Ended:
    """A denial is to vanish from the ring before it is collected: the policy lets nobody clear it.

    So both are collected: what was to be hidden, and the try to clear.
    """
    lab = arena.lab
    shype(lab, "audit", "collect")
    lab.run(["xl", "create", "/run/b-db.cfg"], timeout=200)
    lab.run(["xl", "dmesg", "-c"])
    code, answer = shype(lab, "audit", "collect")
    if code == 0 and answer["denials"] >= 2 and not answer["lost"]:
        return Ended(Ends.STOPPED, f"xl dmesg -c is refused; {json.dumps(answer)}")
    return Ended(Ends.OPEN, json.dumps(answer))


def inject(arena: Arena) -> Ended:
    """A VM's name has a line break, a terminal's control sequence, and what ends a record."""
    lab = arena.lab
    name = 'x\\n{"seq":1}\x1b[2J","hash":"' + "0" * 64
    lab.put("/run/hostile.cfg", f"name = '{name}'\nmemory = 32\nkernel = '/guest/vmlinux'\n"
            "type = 'pv'\n")
    refused = lab.run(["shype", "run", "/run/hostile.cfg"], timeout=300)
    said = lab.run(["shype", "audit", "show", "-n", "5"], timeout=200).out
    whole = lab.run(["shype", "audit", "verify", "--key", _key(arena)], timeout=200)
    if refused.code and "\x1b" not in said and whole.code == 0:
        return Ended(Ends.STOPPED, said.splitlines()[-1])
    return Ended(Ends.OPEN, said + whole.out)


def fill_the_disk(arena: Arena) -> Ended:
    """Not one byte is left for the trail: nothing starts, and stopping is on record."""
    lab = arena.lab
    lab.sh("mkdir -p /run/full/audit && mount -t tmpfs -o size=320k,mode=700 tmpfs /run/full/audit")
    try:
        assert shype(lab, "run", "/run/b-db.cfg", "--state", "/run/full")[0] == 1
        lab.sh("head -c 1m /dev/zero > /run/full/audit/fill; cd /opt/shype; python3 -c '"
               + FILL + "'", timeout=200)
        lab.put("/run/a-desk.cfg", config("a-desk", type="pv", extra=STILL))
        code, answer = shype(lab, "run", "/run/a-desk.cfg", "--state", "/run/full")
        stopped, _ = shype(lab, "stop", "a-db", "--force", "--state", "/run/full")
        lab.sh("rm /run/full/audit/fill")
        shype(lab, "audit", "rotate", "--state", "/run/full")
        ends = [r["result"] for r in shown(lab, "--kind", "stop", "--state", "/run/full")]
    finally:
        lab.sh("umount -l /run/full/audit")
    if (code, answer.get("error"), stopped, ends) == (3, "audit.unwritable", 0,
                                                      ["permitted", "done"]):
        return Ended(Ends.STOPPED, answer["message"])
    return Ended(Ends.OPEN, f"{code} {answer} {stopped} {ends}")


FILL = """\
from pathlib import Path
from shype.host.audit.event import Event, Result
from shype.host.audit.trail import Trail
trail = Trail(Path("/run/full/audit"))
while not trail.head().reserve:
    trail.record(Event(kind="test", result=Result.DONE, deferrable=True))
"""


def _key(arena: Arena) -> str:
    """The verification key, back in dom0 for a look."""
    arena.lab.put("/run/audit.key", Path(arena.notes["key"]).read_text(), 0o600)
    return "/run/audit.key"


ATTACKS = [
    Attack("audit.truncate", By.FAULT, "Root cuts the last record off.",
           Ends.DETECTED, Whom.AUDITOR, tampered(truncate)),
    Attack("audit.reorder", By.FAULT, "Root exchanges two records.",
           Ends.DETECTED, Whom.AUDITOR, tampered(reorder)),
    Attack("audit.edit", By.FAULT, "Root makes a refusal a permission.",
           Ends.DETECTED, Whom.AUDITOR, tampered(edit)),
    Attack("audit.remove-file", By.FAULT, "Root removes a full file.",
           Ends.DETECTED, Whom.AUDITOR, tampered(remove_file)),
    Attack("audit.make-anew", By.FAULT, "Root makes all hashes and the head anew.",
           Ends.DETECTED, Whom.AUDITOR, tampered(make_anew)),
    Attack("audit.roll-back", By.FAULT, "Root puts an old copy of everything back.",
           Ends.DETECTED, Whom.AUDITOR, roll_back),
    Attack("audit.restore", By.ADMIN, "The trail's directory comes from a backup.",
           Ends.DETECTED, Whom.AGENT, restore_trail),
    Attack("audit.user", By.USER, "A user reads, appends to and removes the trail.",
           Ends.STOPPED, Whom.KERNEL, user_reads_and_writes),
    Attack("audit.inject", By.ADMIN, "A VM's name forges a record and clears the screen.",
           Ends.STOPPED, Whom.AGENT, inject),
    Attack("audit.flood", By.GUEST, "A guest floods the denials to hide another one.",
           Ends.STOPPED, Whom.AGENT, guest_floods),
    Attack("audit.drown", By.GUEST, "A guest denies faster than the watcher reads the ring.",
           Ends.DETECTED, Whom.AGENT, guest_drowns),
    Attack("audit.clear-ring", By.ADMIN, "Root clears the ring before it is collected.",
           Ends.STOPPED, Whom.XEN, clear_the_ring),
    Attack("audit.kill", By.FAULT, "Twelve writers are killed in the midst of records.",
           Ends.STOPPED, Whom.AGENT, kill_in_the_midst),
    Attack("audit.full-disk", By.FAULT, "The disk fills up under the trail.",
           Ends.STOPPED, Whom.AGENT, fill_the_disk),
]

TestDefault, TestLocked, TestManager = each(ATTACKS, without=AS_MANAGED)

"""The audit trail of a real host: what is in it, verified elsewhere; and a full disk."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from shype.host.audit import keyfile
from shype.host.audit.verify import Anchor, verify
from shype.lab.host import Lab
from tests.lab.conftest import guests
from tests.lab.trails import copied, shown, shype, watched

FILL = """\
from pathlib import Path
from shype.host.audit.event import Event, Result
from shype.host.audit.trail import Trail
trail = Trail(Path("/run/small/audit"))
while not trail.head().reserve:
    trail.record(Event(kind="test", result=Result.DONE, deferrable=True))
"""

pytestmark = pytest.mark.lab


def test_what_happened_is_in_the_trail_and_is_verified_elsewhere(
    empty_lab: Lab, tmp_path: Path
) -> None:
    lab = empty_lab
    assert shype(lab, "run", "/etc/xen/vms/a-db.cfg")[0] == 0
    assert shype(lab, "run", "/etc/xen/vms/b-db.cfg")[0] == 1
    assert lab.run(["xl", "create", "/etc/xen/vms/stray.cfg"], timeout=200).code != 0
    assert shype(lab, "stop", "a-db", "--force")[0] == 0
    launches = [(r["vm"], r["result"], r["subject"]) for r in shown(lab, "--kind", "launch")]
    assert launches == [("a-db", "permitted", "bank-a-db"), ("a-db", "done", "bank-a-db"),
                        ("b-db", "refused", "bank-b-db")]
    everything = shown(lab)
    kinds = [record["kind"] for record in everything]
    assert kinds[:2] == ["audit.begin", "bundle.accept"]
    assert kinds.index("window.open") < kinds.index("window.close")
    refused = next(r for r in everything if r.get("vm") == "b-db")
    assert refused["rule"] == "wall.conflict"
    assert any("banks.yaml:" in rule for rule in refused["rules"])
    assert "create.unlabelled" in [r.get("rule") for r in everything if r["kind"] == "denial"]
    assert [r["result"] for r in everything if r["kind"] == "stop"] == ["permitted", "done"]
    key = tmp_path / "host.key"
    key.write_text(lab.run(["shype", "audit", "key"]).out)
    assert lab.run(["shype", "audit", "key"]).code == 3
    status = shype(lab, "status")[1]["audit"]
    report = verify([copied(lab, tmp_path / "copy")], keyfile.read(key),
                    anchors=[Anchor(status["seq"], status["hash"])])
    assert (report.problems, report.notes) == ((), ())
    assert report.records == status["seq"] > 10


def denied(lab: Lab, *words: str) -> None:
    """dom0 asks so often for what the policy gives to nobody: each is a line on Xen's console."""
    program = Path(__file__).with_name("denial_program.py")
    lab.put(f"/run/{program.name}", program.read_bytes())
    done = lab.sh(f"cd /opt/shype && PYTHONPATH=. python3 /run/{program.name} {' '.join(words)}",
                  timeout=300)
    assert done.code == 0, done.err


def told(lab: Lab, after: int) -> int:
    """How many of these are on record."""
    return sum(record["details"]["times"] for record in shown(lab, "--kind", "denial")
               if record["seq"] > after and "clearconsole" in record["details"]["line"])


def test_the_watcher_loses_no_denial_though_the_ring_wraps(empty_lab: Lab) -> None:
    lab, many = empty_lab, 250
    denied(lab, "1")
    assert shype(lab, "audit", "collect")[1]["denials"] >= 1
    line = next(r["details"]["line"] for r in reversed(shown(lab, "--kind", "denial"))
                if "clearconsole" in r["details"]["line"])
    assert many * len(line) > 20_000  # and the ring has 16 KiB
    denied(lab, str(many))
    alone = shype(lab, "audit", "collect")[1]
    assert alone["lost"] > 0
    assert 0 < alone["denials"] < many
    # What was lost is told in bytes: with what is left it makes the whole.
    assert abs(alone["lost"] / (len(line) + 1) + alone["denials"] - many) < 2
    after = shown(lab)[-1]["seq"]
    waited = shype(lab, "audit", "collect")[1]["waiting"]
    with watched(lab):
        denied(lab, str(many), "paced")
    last = shype(lab, "audit", "collect")[1]
    assert [r for r in shown(lab, "--kind", "denial.gap") if r["seq"] > after] == []
    assert told(lab, after) + last["waiting"] == waited + many, lab.get("/run/watch.log").decode()


def test_the_load_is_anchored_and_a_copy_answers_a_nonce(empty_lab: Lab, tmp_path: Path) -> None:
    lab = empty_lab
    assert [r["details"]["policy"] for r in shown(lab, "--kind", "bundle.load")] == ["banks"]
    line, = lab.get("/var/lib/shype/audit.anchors").decode().splitlines()
    anchor = line.split()[3]
    script = "shype audit copy /run/asked --nonce 0123456789abcdef && tar -C /run -cz asked"
    assert lab.sh(f"{script} > /run/asked.tgz", timeout=120).code == 0
    with tarfile.open(fileobj=io.BytesIO(lab.get("/run/asked.tgz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    seq, digest = anchor.split(":")
    report = verify([tmp_path / "asked"], anchors=[Anchor(int(seq), digest)])
    assert report.problems == ()
    assert (tmp_path / "asked" / "fresh").read_text() != ""


def test_a_full_disk_starts_nothing_stops_and_loses_nothing(empty_lab: Lab) -> None:
    lab, state = empty_lab, ["--state", "/run/small"]
    assert lab.sh("mkdir -p /run/small/audit && mount -t tmpfs -o size=320k,mode=700 tmpfs "
                  "/run/small/audit").code == 0
    try:
        assert shype(lab, "run", "/etc/xen/vms/a-db.cfg", *state)[0] == 0
        # Its last page has room for some more records: they are written, too.
        lab.sh("cat /dev/zero > /run/small/audit/fill; cd /opt/shype; python3 -c '" + FILL + "'",
               timeout=120)
        code, value = shype(lab, "run", "/etc/xen/vms/b-db.cfg", *state)
        assert code == 1, value  # a refusal by the policy needs no room
        lab.put("/run/market.cfg", lab.get("/etc/xen/vms/stray.cfg").decode()
                .replace("stray", "market"))
        code, value = shype(lab, "run", "/run/market.cfg", *state)
        assert (code, value["error"]) == (3, "audit.unwritable")
        assert list(guests(lab)) == ["a-db"]
        assert "NO ROOM" in lab.run(["shype", "status", *state], timeout=100).out
        code, value = shype(lab, "stop", "a-db", "--force", *state)
        assert (code, value["released"]) == (0, ["run_bank_a"])
        assert guests(lab) == {}
        lab.sh("rm /run/small/audit/fill")
        assert shype(lab, "audit", "rotate", *state)[0] == 0
        code, value = shype(lab, "audit", "verify", "--key",
                            "/run/small/audit/verification.key", *state)
        assert (code, value["problems"]) == (0, [])
        ended = [(r["kind"], r.get("vm"), r["result"]) for r in shown(lab, *state)]
        for kept in (("launch", "b-db", "refused"), ("launch", "market", "failed"),
                     ("stop", "a-db", "permitted"), ("stop", "a-db", "done")):
            assert kept in ended
    finally:
        lab.sh("umount -l /run/small/audit")

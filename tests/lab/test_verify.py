"""Source, binary, loaded policy and guests of six labels agree; and one boot serves all that
needs such guests: levels, a guard, a wall, switches, hardware, and what the probe can show."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.host.verify.compare import Report
from shype.host.verify.table import OPERATIONS, Answer, Row, Side
from shype.lab import builder, guest, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.probe import Attempt, Result, Way
from shype.lab.verification import all_four
from shype.policy.loader import load
from shype.policy.manifest import load_bundle
from shype.policy.names import LabelName
from tests.decision import reference_model as model
from tests.decision.small_policies import world_of
from tests.lab.test_faults import window

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: levels, version: "1.0"}
coalitions:
  work: {}
  log: {mechanisms: [grant, argo], write-up: true}
  outside: {mechanisms: [event, grant]}
walls: {ways: [in, out]}
levels: {order: [low, high], categories: [crew]}
integrity: {order: [dirty, clean]}
labels:
  manager: {coalitions: all}
  low: {coalitions: [work, log], level: low, integrity: clean}
  high: {coalitions: [work], level: high, integrity: clean}
  low-crew: {coalitions: [work], level: "low {crew}", integrity: dirty, wall: [in]}
  high-crew: {coalitions: [work, log], level: "high {crew}", integrity: clean}
  web: {coalitions: [outside], level: low, integrity: dirty, wall: [out]}
guards:
  release: {from: work, to: outside, level: [low, high], integrity: [dirty, clean],
            reason: "a test"}
resources:
  - {ioport: "0x2f8-0x2ff", coalitions: [outside], level: low, integrity: dirty}
host: {dom0: manager}
vms: {device: web, greedy: high}
"""
HIGH = LabelName("high")
PORTS = 'ioports = ["2f8-2ff"]'
LEVELS = ("low", "high", "low-crew", "high-crew")
#: Guests that run when the matrix has been tried: PVH, PVH, PV; PEER has the label of ONE.
ONE, OTHER, WEB, PEER = "try-high", "try-release", "try-web", "twin-high"


@dataclass(frozen=True)
class Verified:
    """A lab in which everything has been verified, and the guests of the last round run."""

    lab: Lab
    report: Report
    server: SecurityServer
    bundle: Path
    processor: float
    clock: float

    def row(self, subject: str, object: str, operation: Operation) -> Row:
        question = LabelName(subject), LabelName(object), operation
        return next(row for row in self.report.rows if row.question == question)

    def of(self, subject: str, object: str, operation: Operation) -> Answer:
        return self.row(subject, object, operation).of(Side.GUESTS)


@pytest.fixture(scope="module")
def here(lab_built: builder.Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verified]:
    folder = tmp_path_factory.mktemp("verify")
    (folder / "levels.yaml").write_text(POLICY)
    build(load(folder / "levels.yaml").policy, target="xen-4.17", out=folder / "bundle")
    program = folder / "probe"
    subprocess.run(["gcc", *guest.CFLAGS, "-o", program, *guest.sources()], check=True)
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm, type="pv", extra=PORTS)
             for vm in ("device", "greedy")}
    with Lab.up(bundle=folder / "bundle", files=files) as lab:
        lab.put("/usr/local/bin/probe", program.read_bytes(), 0o755)
        server = SecurityServer(load_bundle(folder / "bundle").policy)
        spent, began = processor(lab.record.pid), time.monotonic()
        report = all_four(lab, None, twins=[HIGH], keep=True, progress=print)
        yield Verified(lab, report, server, folder / "bundle",
                       processor(lab.record.pid) - spent, time.monotonic() - began)


def processor(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- all four agree ---------------------------------------------------------------------------


def test_all_four_agree(
    here: Verified, record_property: Callable[[str, object], None]
) -> None:
    """How long it took is recorded and not judged: machines differ."""
    different = [item.to_json() for item in here.report.differences]
    different += [row.to_json() for row in here.report.rows if row.different]
    assert not different, json.dumps(different, indent=1)
    record_property("processor_seconds", round(here.processor))
    record_property("clock_seconds", round(here.clock))


def test_every_pair_that_may_run_together_was_tried_by_every_mechanism(here: Verified) -> None:
    labels = [*LEVELS, "web", "release"]
    apart = {("low-crew", "web"), ("web", "low-crew")}
    for a, b in itertools.product(labels, repeat=2):
        got = {here.of(a, b, operation) for operation in OPERATIONS}
        if (a, b) in apart:
            assert got == {Answer.NOT_TOGETHER}
        elif a == b != "high":
            assert got == {Answer.NOT_TRIED}
        else:
            assert got <= {Answer.PERMIT, Answer.DENY}, (a, b)
    by = {(count.one, count.other): count for count in here.report.counts}
    tried = (30 - 2 + 1) * len(OPERATIONS)
    for side in (Side.SOURCE, Side.BINARY, Side.LOADED):
        count = by[side, Side.GUESTS]
        assert (count.asked, count.different, count.open) == (tried, 0, 36 * 8 - tried)
    assert by[Side.BINARY, Side.LOADED].asked > 5000
    seen = {(op, here.of(a, b, op)) for a, b in itertools.product(labels, repeat=2)
            for op in OPERATIONS}
    for way in probe.SHARING:  # each is both permitted and denied somewhere
        assert {(way.operation, Answer.PERMIT), (way.operation, Answer.DENY)} <= seen
    for way in probe.FORBIDDEN:
        assert (way.operation, Answer.PERMIT) not in seen


def test_guests_and_hypervisor_do_what_the_reference_model_says(here: Verified) -> None:
    world = world_of(here.server.policy, date.today())
    for row in here.report.rows:
        subject, object, operation = row.question
        reasons = model.may_do(world, subject, object, operation.value)
        wanted = Answer.PERMIT if reasons <= model.PERMISSIONS else Answer.DENY
        assert row.of(Side.LOADED) is wanted, (row.to_json(), reasons)
        if row.of(Side.GUESTS).asked:
            assert row.of(Side.GUESTS) is wanted, (row.to_json(), reasons)


def test_levels(here: Verified) -> None:
    can = {(a, b, way) for a, b in itertools.permutations(LEVELS, 2) for way in probe.SHARING
           if here.of(*((b, a) if way.pulled else (a, b)), way.operation) is Answer.PERMIT}
    ways = {way for _, _, way in can}
    assert ways == {*probe.SHARING} - {Way.EVENT, Way.GRANT_MAP_RW}  # two-way: equal levels
    assert ("low", "high", Way.GRANT_MAP_RO) in can  # read down
    assert ("low", "high", Way.GRANT_COPY_TO) not in can  # no blind write up ...
    assert ("low", "high-crew", Way.GRANT_COPY_TO) in can  # ... but where the policy opens it
    assert not any(source.startswith("high") and target in ("low", "low-crew")
                   for source, target, _ in can)  # never down
    # Read down, if what is read is not less clean: integrity alone forbids this.
    assert here.of("high-crew", "low", Operation.MAP_READ) is Answer.PERMIT
    assert here.of("high-crew", "low-crew", Operation.MAP_READ) is Answer.DENY
    assert here.row("high-crew", "low-crew", Operation.MAP_READ).of(Side.SOURCE) is Answer.DENY
    assert {here.of("high", "high", way.operation) for way in probe.SHARING} == {Answer.PERMIT}


@pytest.mark.parametrize(("source", "target", "some"), [
    ("high", "web", False), ("web", "high", False),
    ("high", "release", True), ("release", "high", False),
    ("release", "web", True), ("web", "release", False),
    ("high-crew", "release", False),
])
def test_the_guard_passes_one_way(here: Verified, source: str, target: str, some: bool) -> None:
    got = {here.of(*((target, source) if way.pulled else (source, target)), way.operation)
           for way in probe.SHARING}
    assert (Answer.PERMIT in got) is some


def test_the_guard_moves_what_its_source_cannot_send_itself(here: Verified) -> None:
    secret = "the figures of the third quarter"
    answers = probe.script(here.lab.run, [
        (ONE, "info"), (OTHER, "info"), (WEB, "info"),
        (ONE, "grant_offer", "@2.domid", "ro", secret),
        (WEB, "grant_map", "@0.domid", "@3.gref", "ro"),
        (ONE, "grant_offer", "@1.domid", "ro", secret),
        (OTHER, "grant_map", "@0.domid", "@5.gref", "ro"),
        (OTHER, "grant_offer", "@2.domid", "ro", "figures: released"),
        (WEB, "grant_map", "@1.domid", "@7.gref", "ro"),
    ])
    assert answers[4]["result"] == "denied"
    assert answers[6]["text"] == secret
    assert answers[8]["text"] == "figures: released"


def test_the_hypervisor_shows_the_levels(here: Verified) -> None:
    manifest = load_bundle(here.bundle).manifest
    rows = (line.split() for line in here.lab.run(["xl", "list", "-Z"]).out.splitlines()[1:])
    shown = {row[0]: row[-1] for row in rows if row[1] != "0"}
    assert shown == {
        PEER: manifest.labels[HIGH].context,
        **{f"try-{name}": entry.context for name, entry in manifest.labels.items()
           if name != "low-crew"},
    }
    status = json.loads(here.lab.run(["shype", "status", "--json"], timeout=200).out)
    assert status["sound"] is True


def test_the_hypervisor_has_a_record_of_what_it_refused(here: Verified) -> None:
    """A second witness."""
    refused = [line for line in here.lab.console().splitlines() if "avc:  denied" in line]
    for tclass, one, other in (("event", "l_high_t", "l_web_t"), ("grant", "l_high_t", "l_web_t"),
                               ("argo", "l_high_t", "l_low_t")):
        assert any(f"tclass={tclass}" in line and one in line and other in line
                   for line in refused), (tclass, refused[-20:])


def test_a_device_goes_to_its_label_only(here: Verified) -> None:
    lab = here.lab
    done = lab.run(["shype", "run", "/etc/xen/vms/device.cfg"], timeout=300)
    assert done.code == 0, done.out + done.err
    done = lab.run(["shype", "run", "--json", "/etc/xen/vms/greedy.cfg"], timeout=300)
    assert done.code == 1, done.out + done.err
    assert json.loads(done.out)["source"] == "agent"
    # and root, who can open a window, is stopped by the hypervisor
    context = load_bundle(here.bundle).manifest.labels[HIGH].context
    lab.put("/run/behind.cfg", config("behind", type="pv", extra=PORTS, seclabel=context))
    window(lab, HIGH)
    try:
        assert lab.run(["xl", "create", "/run/behind.cfg"], timeout=300).code != 0
    finally:
        window(lab, None)
    log = lab.run(["xl", "dmesg"]).out
    assert any(
        "avc:  denied" in line and "tclass=resource" in line and "l_high_t" in line
        for line in log.splitlines()
    ), log[-3000:]
    listed = lab.run(["xl", "list"]).out
    assert "greedy" not in listed
    assert "behind" not in listed
    assert "device" in listed
    lab.run(["xl", "destroy", "device"])


# -- what the probe shows besides -------------------------------------------------------------


def results(attempts: tuple[Attempt, ...]) -> Mapping[Way, Result]:
    return {attempt.mechanism: attempt.result for attempt in attempts}


def test_control_experiment_dom0_may_do_what_guests_may_not(here: Verified) -> None:
    """Else a wrong call would pass for a refused one."""
    found = probe.probe_pair(here.lab.run, "Domain-0", ONE, probe.FORBIDDEN)
    assert results(found) == dict.fromkeys(probe.FORBIDDEN, Result.PERMITTED)


def test_sharing_a_coalition_gives_no_control_and_no_foreign_memory(here: Verified) -> None:
    """Of a PVH and of a PV guest, which FLASK itself refuses."""
    first, second = (
        probe.probe_pair(here.lab.run, a, b, probe.FORBIDDEN) for a, b in ((ONE, PEER), (PEER, ONE))
    )
    assert {a.result for a in (*first, *second)} == {Result.DENIED}
    foreign = next(a for a in second if a.mechanism is Way.FOREIGN)
    steps = foreign.evidence["steps"]
    assert isinstance(steps, list)
    assert steps[-1]["errno_name"] == "EACCES"


def test_vm_reaches_dom0_only_as_pv_devices_need_it(here: Verified) -> None:
    assert results(probe.probe_pair(here.lab.run, ONE, "Domain-0", tuple(Way))) == {
        Way.EVENT: Result.PERMITTED, Way.GRANT_MAP_RO: Result.PERMITTED,
        Way.GRANT_MAP_RW: Result.DENIED,  # the VM would map dom0's memory
        Way.GRANT_COPY_FROM: Result.PERMITTED, Way.GRANT_COPY_TO: Result.PERMITTED,
        Way.ARGO: Result.DENIED, Way.FOREIGN: Result.DENIED, Way.CONTROL: Result.DENIED,
    }


def test_guest_can_read_booleans_and_change_nothing(here: Verified) -> None:
    answers = probe.script(here.lab.run, [
        (ONE, "bool_get", "run_out"), (ONE, "bool_get", "nonsense"),
        (ONE, "bool_set", "run_out", 0), (ONE, "policy_load"), (ONE, "enforce_set", 0),
        (ONE, "enforce_set", 1), (ONE, "bool_get", "run_out"),
        (PEER, "argo_register", 1, 4711),
    ])
    assert answers[0]["value"] == 1
    assert answers[1]["errno_name"] == "ENOENT"
    for attack in answers[2:5]:
        assert (attack["result"], attack["errno_name"]) == ("denied", "EACCES"), attack
    assert answers[5]["errno_name"] == "EALREADY"
    assert answers[6]["value"] == 1
    assert here.lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    # A PV guest cannot have an Argo ring, and says so.
    assert (answers[7]["result"], answers[7]["errno_name"]) == ("error", "EOPNOTSUPP")


@pytest.mark.parametrize(("who", "peer"), [(ONE, PEER), (PEER, ONE)])
def test_benchmarks_leave_the_guest_usable(here: Verified, who: str, peer: str) -> None:
    """Raw maps use an address (PVH) or a page-table entry (PV) of our own: nothing may be lost."""
    answers = probe.script(here.lab.run, [
        (peer, "info"), (who, "info"), (peer, "grant_offer", "@1.domid", "rw", "before"),
        (who, "bench_map", "@0.domid", "@2.gref", 50),
        (who, "bench_copy", "@0.domid", "@2.gref", 50),
        (who, "grant_map", "@0.domid", "@2.gref", "rw", "after a while"),
        (peer, "grant_read", "@2.gref"), (peer, "grant_close", "@2.gref"),
    ])
    for found in answers[3:5]:
        assert (found["result"], found["n"], found["failed"]) == ("ok", 50, 0)
        for name in ("ns", "empty_ns"):
            spent = found[name]
            assert isinstance(spent, int)
            assert spent > 0
    assert answers[5]["text"] == "before"
    assert answers[6]["written"] == "after a while"
    assert answers[7]["result"] == "ok"


def test_dom0_command_line_chains_operations(here: Verified) -> None:
    run = here.lab.run
    offered = probe.script(run, [(ONE, "info"), (ONE, "event_offer", 0, "hold")])
    domid, port = str(offered[0]["domid"]), str(offered[1]["port"])
    done = run(["probe", "event_bind", domid, port, "--", "bench_send", "@", "50"])
    assert done.code == 0, done.out
    assert json.loads(done.out.splitlines()[1])["failed"] == 0
    received, closed = probe.script(
        run, [(ONE, "event_received", port, 2000), (ONE, "event_close", port)])
    assert received["count"] == 1  # a held port stays masked after its first event
    assert closed["result"] == "ok"

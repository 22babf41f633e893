"""What real guests can do to each other, against what the policy says they may."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.decision.security_server import SecurityServer
from shype.lab import builder, guest, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.probe import Result, Way
from shype.policy.manifest import load_bundle
from shype.policy.names import LabelName

pytestmark = pytest.mark.lab

LABELS = {"a-db": LabelName("bank-a-db"), "a-desk": LabelName("bank-a-desk"),
          "market": LabelName("market-data")}
PV = "a-desk-pv"


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, bundle: Path, tmp_path_factory: pytest.TempPathFactory
        ) -> Iterator[Lab]:
    """Three PVH guests of which one shares with both others, and a PV guest; a probe in dom0."""
    program = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", *guest.CFLAGS, "-o", program, *guest.sources()], check=True)
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm) for vm in LABELS}
    with Lab.up(bundle=bundle, files=files) as lab:
        lab.put("/usr/local/bin/probe", program.read_bytes(), 0o755)
        for vm in LABELS:
            done = lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
            assert done.code == 0, done.out + done.err
        _start_pv(lab, bundle)
        probe.wait_for(lab.run, [*LABELS, PV], timeout=300)
        yield lab


def _start_pv(lab: Lab, bundle: Path) -> None:
    """A second VM with a-desk's label, which the policy assigns to nobody by name."""
    manifest = load_bundle(bundle).manifest
    entry = manifest.labels[LABELS["a-desk"]]
    lab.put("/run/pv.cfg", config(PV, type="pv", seclabel=entry.context))
    for window in (LABELS["a-desk"], None):
        for name, value in manifest.window_values(window).items():
            assert lab.run(["flask-set-bool", name, str(int(value))]).code == 0
        if window is not None:
            done = lab.run(["xl", "create", "/run/pv.cfg"], timeout=300)
            assert done.code == 0, done.err


def test_hypervisor_does_what_the_policy_says(lab: Lab, bundle: Path) -> None:
    server = SecurityServer(load_bundle(bundle).policy)
    lab.run(["xl", "dmesg", "-c"])
    attempts = probe.probe_matrix(lab.run, list(LABELS))
    assert len(attempts) == 6 * len(probe.SHARING)
    for attempt in attempts:
        decision = attempt.mechanism.decide(
            server, LABELS[attempt.source], LABELS[attempt.target]
        )
        expected = Result.PERMITTED if decision.permitted else Result.DENIED
        assert attempt.result is expected, json.dumps(attempt.to_json(), indent=1)
    for way in probe.SHARING:
        seen = {attempt.result for attempt in attempts if attempt.mechanism is way}
        assert seen == {Result.PERMITTED, Result.DENIED}, way
    # a second witness: the hypervisor's own record of what it refused
    refused = lab.run(["xl", "dmesg"]).out
    for tclass in ("event", "grant", "argo"):
        assert any("avc:  denied" in line and f"tclass={tclass}" in line
                   and "l_bank_a_db_t" in line and "l_market_data_t" in line
                   for line in refused.splitlines()), tclass


@pytest.mark.parametrize("source", ["a-db", PV])
def test_sharing_a_coalition_gives_no_control_and_no_foreign_memory(
    lab: Lab, source: str
) -> None:
    for attempt in probe.probe_pair(lab.run, source, "a-desk", probe.FORBIDDEN):
        assert attempt.result is Result.DENIED, json.dumps(attempt.to_json(), indent=1)


def test_control_experiment_dom0_may_do_what_guests_may_not(lab: Lab) -> None:
    """Else a wrong call would pass for a refused one."""
    for attempt in probe.probe_pair(lab.run, "Domain-0", "a-db", probe.FORBIDDEN):
        assert attempt.result is Result.PERMITTED, json.dumps(attempt.to_json(), indent=1)


def test_pv_guest_is_refused_foreign_memory_by_flask_itself(lab: Lab) -> None:
    attempt, = probe.probe_pair(lab.run, PV, "a-db", (Way.FOREIGN,))
    steps = attempt.evidence["steps"]
    assert isinstance(steps, list)
    assert steps[-1]["errno_name"] == "EACCES"


def test_pv_guest_can_share_as_a_pvh_guest_does(lab: Lab) -> None:
    ways = tuple(way for way in probe.SHARING if way is not Way.ARGO)
    for attempt in (*probe.probe_pair(lab.run, PV, "a-db", ways),
                    *probe.probe_pair(lab.run, "a-db", PV, ways)):
        assert attempt.result is Result.PERMITTED, json.dumps(attempt.to_json(), indent=1)


def test_pv_guest_cannot_have_an_argo_ring_and_says_so(lab: Lab) -> None:
    answer = probe.ask(lab.run, PV, "argo_register", 1, 4711)
    assert (answer["result"], answer["errno_name"]) == ("error", "EOPNOTSUPP")


def test_vm_reaches_dom0_only_as_pv_devices_need_it(lab: Lab) -> None:
    results = {attempt.mechanism: attempt.result
               for attempt in probe.probe_pair(lab.run, "a-db", "Domain-0", tuple(Way))}
    assert results == {
        Way.EVENT: Result.PERMITTED, Way.GRANT_MAP_RO: Result.PERMITTED,
        Way.GRANT_MAP_RW: Result.DENIED,  # the VM would map dom0's memory
        Way.GRANT_COPY_FROM: Result.PERMITTED, Way.GRANT_COPY_TO: Result.PERMITTED,
        Way.ARGO: Result.DENIED, Way.FOREIGN: Result.DENIED, Way.CONTROL: Result.DENIED,
    }


def test_guest_can_read_booleans_and_change_nothing(lab: Lab) -> None:
    assert probe.ask(lab.run, "a-db", "bool_get", "run_bank_a")["value"] == 1
    assert probe.ask(lab.run, "a-db", "bool_get", "nonsense")["errno_name"] == "ENOENT"
    for attack in (("bool_set", "run_bank_a", 0), ("policy_load",), ("enforce_set", 0)):
        answer = probe.ask(lab.run, "a-db", *attack)
        assert (answer["result"], answer["errno_name"]) == ("denied", "EACCES"), attack
    assert probe.ask(lab.run, "a-db", "enforce_set", 1)["errno_name"] == "EALREADY"
    assert probe.ask(lab.run, "a-db", "bool_get", "run_bank_a")["value"] == 1
    assert lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"


@pytest.mark.parametrize("who", ["a-desk", PV])
def test_benchmarks_leave_the_guest_usable(lab: Lab, who: str) -> None:
    """Raw maps use an address (PVH) or a page-table entry (PV) of our own: nothing may be lost."""
    peer, mine = (probe.ask(lab.run, vm, "info")["domid"] for vm in ("a-db", who))
    assert isinstance(peer, int)
    assert isinstance(mine, int)
    gref = probe.ask(lab.run, "a-db", "grant_offer", mine, "rw", "before")["gref"]
    assert isinstance(gref, int)
    for op in ("bench_map", "bench_copy"):
        found = probe.ask(lab.run, who, op, peer, gref, 50, timeout=300)
        assert (found["result"], found["n"], found["failed"]) == ("ok", 50, 0)
        spent, empty = found["ns"], found["empty_ns"]
        assert isinstance(spent, int)
        assert isinstance(empty, int)
        assert spent > 0
        assert empty > 0
    answer = probe.ask(lab.run, who, "grant_map", peer, gref, "rw", "after a while")
    assert answer["text"] == "before"
    assert probe.ask(lab.run, "a-db", "grant_read", gref)["written"] == "after a while"
    assert probe.ask(lab.run, "a-db", "grant_close", gref)["result"] == "ok"


def test_dom0_command_line_chains_operations(lab: Lab) -> None:
    domid = str(probe.ask(lab.run, "a-db", "info")["domid"])
    port = str(probe.ask(lab.run, "a-db", "event_offer", 0, "hold")["port"])
    done = lab.run(["probe", "event_bind", domid, port, "--", "bench_send", "@", "50"])
    assert done.code == 0, done.out
    assert json.loads(done.out.splitlines()[1])["failed"] == 0
    received = probe.ask(lab.run, "a-db", "event_received", port, 2000)["count"]
    assert received == 1  # a held port stays masked after its first event
    assert probe.ask(lab.run, "a-db", "event_close", port)["result"] == "ok"

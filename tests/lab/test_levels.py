"""Levels, switches, guards and resources on the real hypervisor, against the security server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.decision.security_server import SecurityServer
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.probe import Attempt, Result, Way
from shype.policy.loader import load
from shype.policy.manifest import load_bundle
from shype.policy.names import LabelName

pytestmark = pytest.mark.lab

POLICY = """\
shype: 1
policy: {name: levels, version: "1.0"}
coalitions:
  work: {}
  log: {mechanisms: [grant, argo], write-up: true}
  outside: {mechanisms: [event, grant]}
levels: {order: [low, high], categories: [crew]}
labels:
  manager: {coalitions: all}
  low: {coalitions: [work, log], level: low}
  high: {coalitions: [work], level: high}
  low-crew: {coalitions: [work], level: "low {crew}"}
  high-crew: {coalitions: [work, log], level: "high {crew}"}
  web: {coalitions: [outside], level: low}
guards:
  release: {from: work, to: outside, level: [low, high], reason: "a test"}
resources:
  - {ioport: "0x2f8-0x2ff", coalitions: [outside], level: low}
host: {dom0: manager}
vms: {low: low, high: high, peer: high, low-crew: low-crew, high-crew: high-crew, web: web,
      release: release, greedy: high}
"""
LEVELS = ("low", "high", "low-crew", "high-crew")
GUESTS = (*LEVELS, "web", "release")
#: A second VM with the label high: PV, which boots faster and cannot have an Argo ring.
PEER = "peer"
LABELS = {**{vm: LabelName(vm) for vm in GUESTS}, PEER: LabelName("high")}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled policy."""
    directory = tmp_path_factory.mktemp("levels")
    (directory / "levels.yaml").write_text(POLICY)
    build(load(directory / "levels.yaml").policy, target="xen-4.17", out=directory / "bundle")
    return directory / "bundle"


@pytest.fixture(scope="module")
def lab(lab_built: builder.Built, compiled: Path) -> Iterator[Lab]:
    """A guest of every label, and its probe."""
    ports = 'ioports = ["2f8-2ff"]'
    files = {f"/etc/xen/vms/{vm}.cfg": config(vm) for vm in GUESTS}
    # A PV guest boots faster; it cannot have an Argo ring, which web's coalition does not open.
    files["/etc/xen/vms/web.cfg"] = config("web", type="pv", extra=ports)
    files[f"/etc/xen/vms/{PEER}.cfg"] = config(PEER, type="pv")
    files["/etc/xen/vms/greedy.cfg"] = config("greedy", type="pv", extra=ports)
    with Lab.up(bundle=compiled, files=files) as lab:
        for vm in (*GUESTS, PEER):
            done = lab.run(["shype", "run", f"/etc/xen/vms/{vm}.cfg"], timeout=300)
            assert done.code == 0, done.out + done.err
        probe.wait_for(lab.run, [*GUESTS, PEER], timeout=300)
        yield lab


def agree(server: SecurityServer, attempts: tuple[Attempt, ...]) -> set[tuple[Way, Result]]:
    """Every attempt had the outcome that the security server decides; what was seen."""
    for attempt in attempts:
        source, target = LABELS[attempt.source], LABELS[attempt.target]
        decision = attempt.mechanism.decide(server, source, target)
        expected = Result.PERMITTED if decision.permitted else Result.DENIED
        told = f"{decision.id}: {json.dumps(attempt.to_json(), indent=1)}"
        assert attempt.result is expected, told
    return {(attempt.mechanism, attempt.result) for attempt in attempts}


def test_every_pair_of_levels_by_every_mechanism(lab: Lab, compiled: Path) -> None:
    server = SecurityServer(load_bundle(compiled).policy)
    attempts = probe.probe_matrix(lab.run, list(LEVELS))
    assert len(attempts) == 12 * len(probe.SHARING)
    assert agree(server, attempts) == set(itertools.product(probe.SHARING, Result)) - {
        (way, Result.ERROR) for way in probe.SHARING
    } - {(Way.EVENT, Result.PERMITTED), (Way.GRANT_MAP_RW, Result.PERMITTED)}
    ways = {(a.source, a.target, a.mechanism) for a in attempts if a.result is Result.PERMITTED}
    assert ("low", "high", Way.GRANT_MAP_RO) in ways  # read down
    assert ("low", "high", Way.GRANT_COPY_TO) not in ways  # no blind write up ...
    assert ("low", "high-crew", Way.GRANT_COPY_TO) in ways  # ... but where the policy opens it
    assert not any(source.startswith("high") and target in ("low", "low-crew")
                   for source, target, _ in ways)  # never down


def test_equal_levels_share_both_ways(lab: Lab, compiled: Path) -> None:
    server = SecurityServer(load_bundle(compiled).policy)
    ways = tuple(way for way in probe.SHARING if way is not Way.ARGO)
    for source, target in (("high", PEER), (PEER, "high")):
        seen = agree(server, probe.probe_pair(lab.run, source, target, ways))
        assert seen == {(way, Result.PERMITTED) for way in ways}


def test_the_hypervisor_shows_the_levels(lab: Lab, compiled: Path) -> None:
    manifest = load_bundle(compiled).manifest
    rows = (line.split() for line in lab.run(["xl", "list", "-Z"]).out.splitlines()[1:])
    shown = {row[0]: row[-1] for row in rows if row[1] != "0"}
    assert shown == {vm: manifest.labels[label].context for vm, label in LABELS.items()}
    assert json.loads(lab.run(["shype", "status", "--json"], timeout=200).out)["sound"] is True


def test_the_guard_passes_one_way_by_every_mechanism(lab: Lab, compiled: Path) -> None:
    server = SecurityServer(load_bundle(compiled).policy)
    for source, target, some in (
        ("high", "web", False), ("web", "high", False),
        ("high", "release", True), ("release", "high", False),
        ("release", "web", True), ("web", "release", False),
        ("high-crew", "release", False),
    ):
        seen = agree(server, probe.probe_pair(lab.run, source, target))
        assert any(result is Result.PERMITTED for _, result in seen) is some, (source, target)


def test_the_guard_moves_what_its_source_cannot_send_itself(lab: Lab) -> None:
    domids = {vm: probe.ask(lab.run, vm, "info")["domid"] for vm in ("high", "release", "web")}
    secret = "the figures of the third quarter"
    offered = probe.ask(lab.run, "high", "grant_offer", _number(domids["web"]), "ro", secret)
    refused = probe.ask(
        lab.run, "web", "grant_map", _number(domids["high"]), _number(offered["gref"]), "ro"
    )
    assert refused["result"] == "denied"
    offered = probe.ask(lab.run, "high", "grant_offer", _number(domids["release"]), "ro", secret)
    received = probe.ask(
        lab.run, "release", "grant_map", _number(domids["high"]), _number(offered["gref"]), "ro"
    )
    assert received["text"] == secret
    passed = probe.ask(
        lab.run, "release", "grant_offer", _number(domids["web"]), "ro", "figures: released"
    )
    arrived = probe.ask(
        lab.run, "web", "grant_map", _number(domids["release"]), _number(passed["gref"]), "ro"
    )
    assert arrived["text"] == "figures: released"


def test_a_device_goes_to_its_label_only(lab: Lab) -> None:
    """web got its I/O ports at the start of this file; a VM of another label does not."""
    done = lab.run(["shype", "run", "--json", "/etc/xen/vms/greedy.cfg"], timeout=300)
    assert done.code != 0, done.out
    log = lab.run(["xl", "dmesg"]).out
    assert any(
        "avc:  denied" in line and "tclass=resource" in line and "l_high_t" in line
        for line in log.splitlines()
    ), log[-3000:]
    assert "greedy" not in lab.run(["xl", "list"]).out


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value

"""Who may still start, by quotas and reservations; and who stays held to his share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shype.host import caps, quota
from shype.host.agent import Agent
from shype.host.census import residents
from shype.host.governor import Share
from shype.host.launch import launch
from shype.host.points import points
from shype.host.stop import stop
from shype.host.watch import watch
from shype.policy.quotas import Amount
from tests.host.builders import BANKS, config, host, model

QUOTAS = BANKS + """\
quotas:
  host: {vms: 8, memory: 1 GiB, vcpus: 16}
  coalitions:
    market: {memory: 512 MiB, vcpus: 6}
  labels:
    bank-a-desk: {vms: 2, each: {cpu: 50 %, weight: 512}}
    bank-a-db: {reserved: {memory: 256 MiB}}
"""


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return host(tmp_path, QUOTAS)


def start(
    agent: Agent, place: Path, name: str, label: str, memory: int = 128, vcpus: int = 1
) -> str:
    """The decision's id, or ``runs``."""
    file = place / f"{name}.cfg"
    file.write_text(f'name = "{name}"\nseclabel = "{label}"\nmemory = {memory}\nvcpus = {vcpus}\n')
    outcome = launch(agent, file)
    return "runs" if outcome.domid is not None else outcome.decision.id


def test_a_label_has_so_many_vms(agent: Agent, tmp_path: Path) -> None:
    assert start(agent, tmp_path, "one", "bank-a-desk") == "runs"
    assert start(agent, tmp_path, "two", "bank-a-desk") == "runs"
    outcome = launch(agent, config(tmp_path, "three", 'seclabel = "bank-a-desk"'))
    assert outcome.decision.id == "quota.exceeded"
    assert "label bank-a-desk may have 2 VMs" in outcome.decision.sentence
    assert "one (1 VM), two (1 VM) hold 2 VMs" in outcome.decision.sentence
    assert outcome.decision.rules[0].line == 20
    stop(agent, "one", force=True, timeout=0)
    assert start(agent, tmp_path, "three", "bank-a-desk") == "runs"


def test_a_coalition_shares_its_memory(agent: Agent, tmp_path: Path) -> None:
    assert start(agent, tmp_path, "m1", "market-data", 300) == "runs"
    assert start(agent, tmp_path, "d1", "bank-a-desk", 300) == "quota.exceeded"
    assert start(agent, tmp_path, "d1", "bank-a-desk", 212) == "runs"
    assert start(agent, tmp_path, "m2", "market-data", 1) == "quota.exceeded"
    assert start(agent, tmp_path, "a1", "bank-a-db", 256) == "runs"  # of another coalition
    held = {one.whose: one for one in quota.taken(agent, residents(agent))}
    assert held["coalition market"].sum(Amount.MEMORY) == 512 * 1024
    assert held["the host"].sum(Amount.VMS) == 3


def test_what_is_reserved_stays_free(agent: Agent, tmp_path: Path) -> None:
    """1 GiB, of which 256 MiB are kept for bank-a-db until it takes them."""
    for number in range(2):
        assert start(agent, tmp_path, f"u{number}", "market-data", 250) == "runs"
    assert start(agent, tmp_path, "big", "bank-a-db", 800) == "quota.exceeded"  # more than is left
    (tmp_path / "other").mkdir()
    roomy = QUOTAS.replace("market: {memory: 512 MiB", "market: {memory: 1 GiB")
    other = host(tmp_path / "other", roomy)
    assert start(other, tmp_path, "u0", "market-data", 700) == "runs"
    outcome = launch(other, config(tmp_path, "u1", 'seclabel = "market-data"'))
    assert outcome.decision.id == "quota.reserved"
    assert "256 MiB for label bank-a-db" in outcome.decision.sentence
    assert start(other, tmp_path, "a1", "bank-a-db", 256) == "runs"
    assert start(other, tmp_path, "u1", "market-data", 68) == "runs"
    assert start(other, tmp_path, "u2", "market-data", 1) == "quota.exceeded"


def test_what_a_vm_could_have_counts_and_not_what_it_has(agent: Agent, tmp_path: Path) -> None:
    file = tmp_path / "balloon.cfg"
    file.write_text('name = "m1"\nseclabel = "market-data"\nmemory = 100\nmaxmem = 400\n')
    assert launch(agent, file).domid is not None
    with model(agent)._state() as state:
        for domain in state.domains:
            object.__setattr__(domain, "memory", 1024)  # it gives memory back
    assert start(agent, tmp_path, "m2", "market-data", 128) == "quota.exceeded"


def test_a_vm_that_dies_still_holds_its_part(agent: Agent, tmp_path: Path) -> None:
    assert start(agent, tmp_path, "m1", "market-data", 400) == "runs"
    model(agent).exit(1, zombie=True)
    assert start(agent, tmp_path, "m2", "market-data", 400) == "quota.exceeded"


#: An agent in a process of its own for each configuration; all ask at the same moment.
AT_ONCE = """\
import os, sys
from pathlib import Path
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.launch import launch
from shype.policy.manifest import load_bundle

directory = Path(sys.argv[1])
start, go = os.pipe()
for config in sys.argv[2:]:
    if os.fork() == 0:
        os.close(go)
        os.read(start, 1)
        bundle = load_bundle(directory / "bundle")
        agent = Agent(bundle, ModelHypervisor(bundle, directory / "model.json"),
                      directory / "state")
        outcome = launch(agent, Path(config), lock_timeout=120)
        said = "runs" if outcome.domid is not None else outcome.decision.id
        os.write(1, f"{said}\\n".encode())
        os._exit(0)
os.close(go)
for config in sys.argv[2:]:
    os.wait()
"""


def test_of_fifty_launches_at_once_none_too_many_runs(tmp_path: Path) -> None:
    agent = host(tmp_path, QUOTAS.replace("vms: 2", "vms: 5"))
    files = [config(tmp_path, f"vm{number}", 'seclabel = "bank-a-desk"\nmemory = 8')
             for number in range(50)]
    done = subprocess.run([sys.executable, "-c", AT_ONCE, str(tmp_path), *map(str, files)],
                          capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    words = sorted(done.stdout.split())
    assert words == ["quota.exceeded"] * 45 + ["runs"] * 5
    assert sum(r.label == "bank-a-desk" for r in residents(agent)) == 5


def test_a_share_is_set_before_it_runs_and_again_when_lifted(agent: Agent, tmp_path: Path) -> None:
    assert start(agent, tmp_path, "d1", "bank-a-desk") == "runs"
    governor = agent.hypervisor.governor()
    assert governor.share(1) == Share(512, 50)
    assert caps.loose(agent) == ()
    governor.set_share(1, Share())  # root: xl sched-credit2 -d 1 -c 0
    assert [one.now for one in caps.loose(agent)] == ["weight 256, no cap"]
    point = next(point for point in points(agent, ()) if point.name == "quotas")
    assert point.wrong
    assert "d1: processors at weight 256, no cap" in point.said
    watch(agent, lambda what: None, go_on=lambda: False)
    assert governor.share(1) == Share(512, 50)
    assert next(one for one in points(agent, ()) if one.name == "quotas").said == "kept"
    kinds = agent.trail.path.read_text()
    assert "quota.reapplied" in kinds


def test_without_quotas_nothing_is_asked(tmp_path: Path) -> None:
    agent = host(tmp_path)
    assert start(agent, tmp_path, "m1", "market-data", 10**6) == "runs"
    assert quota.taken(agent, residents(agent)) == ()
    assert not caps.concerned(agent)


@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(
    st.sampled_from(["market-data", "bank-a-desk", "bank-a-db"]), st.integers(1, 400),
    st.integers(1, 4), st.booleans()), max_size=10))
def test_against_a_plain_account(
    tmp_path_factory: pytest.TempPathFactory, wishes: list[tuple[str, int, int, bool]]
) -> None:
    """Whatever is asked for: it starts iff a plain sum says that it fits."""
    place = tmp_path_factory.mktemp("account")
    agent = host(place, QUOTAS)
    runs: dict[str, tuple[str, int, int]] = {}
    for number, (label, memory, vcpus, ends) in enumerate(wishes):
        after = [*runs.values(), (label, memory, vcpus)]
        market = [one for one in after if one[0] != "bank-a-db"]
        kept = max(256 - sum(m for name, m, _ in after if name == "bank-a-db"), 0)
        fits = (
            len(after) <= 8 and sum(m for _, m, _ in after) + kept <= 1024
            and sum(v for *_, v in after) <= 16
            and sum(name == "bank-a-desk" for name, *_ in after) <= 2
            and (label == "bank-a-db" or (
                sum(m for _, m, _ in market) <= 512 and sum(v for *_, v in market) <= 6)))
        said = start(agent, place, f"vm{number}", label, memory, vcpus)
        assert (said == "runs") is fits, said
        if fits:
            runs[f"vm{number}"] = (label, memory, vcpus)
        if ends and runs:
            name = next(iter(runs))
            stop(agent, name, force=True, timeout=0)
            del runs[name]

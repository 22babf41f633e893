"""The daemon's loop, what Prometheus gets, the picture, and the anchor in a real (software) TPM."""

from __future__ import annotations

import re
import threading
import urllib.request
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from shype.attest.tpm import Tpm
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.audit.event import Event, Result
from shype.meter import serve
from shype.meter.anchor import anchor
from shype.meter.ledger import Ledger
from shype.meter.openmetrics import CONTENT_TYPE, render
from shype.meter.picture import series, svg
from shype.meter.reader import lines
from shype.meter.record import decode
from shype.meter.report import By, Period, history, report
from shype.meter.sampler import Taken, Why, sample
from shype.meter.source import Sight
from shype.meter.tpm_anchor import INDEX, TpmAnchor
from shype.meter.verify import verify
from shype.meter.watch import Plan, watch
from shype.meter.witness import Sampling
from tests.attest.software_tpm import SoftwareTpm
from tests.meter.builders import MIB, SECOND, Labels, Machine, begun, take
from tests.meter.test_verify import Counter


class Broken(Machine):
    """Cannot be read at one of its moments."""

    looks = 0

    def look(self) -> Sight:
        self.looks += 1
        if self.looks == 3:
            raise Unavailable("host.domains", "the hypervisor is silent")
        return super().look()


def test_it_samples_on_the_beat_and_goes_on_after_an_error(tmp_path: Path) -> None:
    ledger, machine, counter = begun(tmp_path), Broken(), Counter()
    machine.start(1, "web")
    now, slept = [0.0], list[float]()
    told: list[Taken | ShypeError] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        machine.passes(int(seconds))
        machine.runs(1, 0.5)

    def clock() -> float:
        now[0] += 0.25  # a sample takes its time
        return now[0]

    watch(ledger, machine, Labels, Plan(10, 25, tmp_path / "shype.prom"), told.append,
          anchor=counter, go_on=lambda: len(told) < 6, clock=clock, sleep=sleep)
    assert [type(one) for one in told] == [Taken, Taken, Unavailable, Taken, Taken, Taken]
    assert all(8 < seconds <= 10 for seconds in slept)
    found = verify(ledger.directory, counter=("counter", counter.count))
    assert found.good, found.problems
    kinds = [decode(line.data).kind for line in lines(ledger.directory)]
    assert kinds.count("sample") == 5
    assert kinds.count("key") == kinds.count("anchor") >= 1
    assert "shype_vm_cpu_seconds_total" in (tmp_path / "shype.prom").read_text()
    first = next(decode(line.data) for line in lines(ledger.directory)
                 if decode(line.data).kind == "sample")
    assert first.body["why"] == "start"


def test_the_agents_own_samples_never_raise(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    kept: list[Event] = []

    def failed(error: ShypeError) -> Event:
        return Event(kind="meter.sample", result=Result.FAILED, error=error.id)

    witness = Sampling(ledger, machine, Labels(), failed, kept.append)
    machine.start(1, "web")
    witness.came()
    machine.runs(1, 3)
    witness.goes(1)
    machine.gone(1)
    machine.passes(50)
    assert take(ledger, machine).step.ended[0].unseen == 0
    assert kept == []
    assert verify(ledger.directory).gaps == ()
    rows = report([ledger.directory], By.VM)
    assert rows[0].usage.cpu_ns == 3 * SECOND
    ledger.places.key.unlink()
    witness.goes()
    witness.goes()  # whoever waits for a VM looks each second
    assert [event.error for event in kept] == ["meter.broken"]


def test_a_domain_that_lives_on_after_its_last_sample_is_no_ordered_end(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    sample(ledger, machine, Labels(), Why.END, ends=1)  # and destroying it failed
    machine.passes(5)
    take(ledger, machine)
    machine.gone(1)
    machine.passes(5)
    assert take(ledger, machine).step.ended[0].unseen == 5 * SECOND


def test_what_prometheus_gets(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, 'we"b\\')
    machine.runs(1, 1.5)
    machine.moves(1, "vif-0#1", 10, 20)
    take(ledger, machine)
    head = ledger.head()
    assert head is not None
    text = render(head)
    assert text.endswith("# EOF\n")
    assert ('shype_vm_cpu_seconds_total{vm="we\\"b\\\\",label="we\\"b\\\\",uuid="uuid-we\\"b\\\\",'
            'domid="1"} 1.5') in text
    assert 'shype_vm_net_sent_bytes_total{' in text
    # the format's own rules: each family is announced once, before its samples, and counters end so
    announced = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert len({name for name, _ in announced}) == len(announced)
    suffix = {"counter": "_total", "info": "_info", "gauge": ""}
    known = {name + suffix[kind] for name, kind in announced}
    for line in text.splitlines():
        if not line.startswith("#"):
            assert re.split(r"[{ ]", line)[0] in known
    page = serve.server(ledger, "127.0.0.1:0")
    thread = threading.Thread(target=page.serve_forever, daemon=True)
    thread.start()
    try:
        place = f"http://127.0.0.1:{page.server_address[1]}"
        with urllib.request.urlopen(f"{place}/metrics", timeout=30) as answer:
            assert answer.headers["Content-Type"] == CONTENT_TYPE
            assert answer.read().decode() == text
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{place}/else", timeout=30)
        ledger.places.head.write_bytes(b"{}")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"{place}/metrics", timeout=30)
    finally:
        page.shutdown()
        page.server_close()
    with pytest.raises(BadInput):
        serve.server(ledger, "nowhere")
    with pytest.raises(BadInput):
        serve.text(Ledger(tmp_path / "none"))


def test_reports_of_a_period_and_a_picture(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    machine.start(2, "db", 512 * MIB)
    times = []
    for _ in range(4):
        machine.passes(10)
        machine.runs(1, 5)
        machine.runs(2, 1)
        take(ledger, machine)
        times.append(machine.wall)
    rows = report([ledger.directory], By.VM, Period(times[1], times[3]))
    assert [(row.key, row.usage.cpu_ns) for row in rows] == [
        ("web", 10 * SECOND), ("db", 2 * SECOND)]
    (both,) = report([ledger.directory, ledger.directory], By.COALITION)
    assert (both.key, both.runs) == ("all", 4)
    drawn = series(history(ledger.directory), By.VM, "cpu")
    assert [(line.key, line.points[0][1]) for line in drawn] == [("web", 0.5), ("db", 0.1)]
    memory = series(history(ledger.directory), By.VM, "memory")
    assert memory[0].key == "db"
    assert memory[0].points[0][1] == pytest.approx(512)
    tree = ET.fromstring(svg(drawn, "cpu"))
    assert len(tree.findall("{http://www.w3.org/2000/svg}polyline")) == 2
    ET.fromstring(svg((), "network"))


def test_a_counter_in_a_tpm_finds_an_old_copy(tmp_path: Path, own_tpm: SoftwareTpm) -> None:
    import shutil

    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    with Tpm(own_tpm.name) as tpm:
        where = TpmAnchor(tpm)
        take(ledger, machine)
        anchor(ledger, where)
        shutil.copytree(ledger.directory, tmp_path / "old")
        take(ledger, machine)
        anchor(ledger, where)
        now = (where.name, where.now())
        assert verify(ledger.directory, counter=now).good
        found = verify(tmp_path / "old", counter=now)
        assert "it is an old copy" in str(found.problems[0])
        # deleted and made anew it does not begin below what it had
        tpm.counter_delete(INDEX)
        where.begin()
        assert where.now() > now[1]


def test_an_anchor_that_was_interrupted_is_made_good(tmp_path: Path) -> None:
    class Killed(Counter):
        def advance(self) -> int:
            raise KeyboardInterrupt

    ledger, machine = begun(tmp_path), Machine()
    take(ledger, machine, Why.HAND)
    with pytest.raises(KeyboardInterrupt):
        anchor(ledger, Killed())
    found = verify(ledger.directory, counter=("counter", 40))
    assert found.good
    assert "interrupted" in found.notes[0]
    counter = Counter()
    anchor(ledger, counter)
    assert verify(ledger.directory, counter=("counter", counter.count)).good


def test_the_dashboard_asks_only_for_what_is_there(tmp_path: Path) -> None:
    ledger, machine = begun(tmp_path), Machine()
    machine.start(1, "web")
    take(ledger, machine)
    text = serve.text(ledger)
    dashboard = Path(__file__).parents[2] / "examples/grafana/usage.json"
    asked = set(re.findall(r"shype_vm_\w+", dashboard.read_text()))
    assert len(asked) >= 8
    assert all(f"\n{name}{{" in text for name in asked)

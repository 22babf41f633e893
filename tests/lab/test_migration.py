"""Real guests that move to another host over ssh, and that do not.

One pair of hosts for all of it. The guest that moves at the end is the one that was refused,
given back and kept through everything before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.base.child import Completed
from shype.lab import builder, probe
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.lab.link import link
from tests.lab import dying_program
from tests.lab.conftest import STILL, boolean, guests
from tests.lab.dying_program import BOTH, MEMORY, SELF
from tests.lab.test_faults import CONTEXT, shype, wait_in_dom0

pytestmark = pytest.mark.lab

A_DB, B_DB = "/etc/xen/vms/a-db.cfg", "/etc/xen/vms/b-db.cfg"
LOG = "/var/log/xen/console/guest-a-db.log"
#: Tells the receiver where to die.
TOLD = "/run/told"
DYING = f"/run/{Path(dying_program.__file__).name}"
Pair = tuple[Lab, Lab, str]


@pytest.fixture(scope="module")
def pair(lab_built: builder.Built, bundle: Path) -> Iterator[Pair]:
    """The sender, where a-db runs, the receiver, and its address as the sender's ssh knows it."""
    files = {A_DB: config("a-db", type="pv", memory=100)}
    others: dict[str, bytes | str] = {
        B_DB: config("b-db", type="pv", extra=STILL),
        DYING: Path(dying_program.__file__).read_bytes()}
    with (Lab.up(bundle=bundle, files=files, loaded=True) as one,
          Lab.up(bundle=bundle, files=others, loaded=True) as two):
        address = link(one, two)[1]
        assert shype(one, "run", A_DB).code == 0
        assert one.sh("mkdir -p /root/.ssh && ssh-keygen -q -t ed25519 -N '' "
                      "-f /root/.ssh/id_ed25519").code == 0
        two.put("/root/.ssh/id_ed25519.pub", one.get("/root/.ssh/id_ed25519.pub"))
        command(two, "shype receive")
        assert two.sh("chmod 700 /root /root/.ssh; ssh-keygen -A; mkdir -p /run/sshd; "
                      "/usr/sbin/sshd").code == 0
        key = two.get("/etc/ssh/ssh_host_ed25519_key.pub").decode()
        one.put("/root/.ssh/known_hosts", f"{address} {key}")
        wait_in_dom0(one, f"grep -q hello {LOG}", 0.3)
        yield one, two, address


def command(two: Lab, words: str) -> None:
    """What the sender's key may do on the receiver."""
    public = two.get("/root/.ssh/id_ed25519.pub").decode()
    two.put("/root/.ssh/authorized_keys", f'command="{words}",restrict {public}', 0o600)


def migrate(one: Lab, vm: str, address: str) -> Completed:
    return one.run(["shype", "migrate", "--json", vm, address], timeout=900)


def goes_on(one: Lab, vm: str = "a-db") -> None:
    """The guest is where it was, with its label and place, and works."""
    assert guests(one) == {vm: CONTEXT}
    assert boolean(one, "run_bank_a")
    probe.wait_for(one.run, [vm])


@pytest.fixture
def taken(pair: Pair) -> Iterator[None]:
    """The other side of the wall runs on the receiver."""
    assert shype(pair[1], "run", B_DB).code == 0
    yield
    assert shype(pair[1], "stop", "--force", "b-db").value["released"] == ["run_bank_b"]


@pytest.fixture
def named(pair: Pair, request: pytest.FixtureRequest) -> Iterator[str]:
    """The guest under another name, which is what a receiver labels it by."""
    assert pair[0].run(["xl", "rename", "a-db", request.param]).code == 0
    yield request.param
    assert pair[0].run(["xl", "rename", request.param, "a-db"]).code == 0


def last(lab: Lab, kind: str) -> dict[str, object]:
    """The last record of this kind, read without starting an interpreter in dom0."""
    lines = lab.sh("tail -n 20 /var/lib/shype/audit/audit.jsonl").out.splitlines()
    found: dict[str, object] = [r for r in map(json.loads, lines) if r["kind"] == kind][-1]
    return found


def refused(pair: Pair, vm: str, rule: str, sentence: str) -> None:
    """By the receiver, which says why; both sides have it on record, and nothing has changed."""
    one, two, address = pair
    before = guests(two)
    done = migrate(one, vm, address)
    assert done.code == 1, done.out + done.err
    said = json.loads(done.out)["refusal"]
    assert said["id"] == rule
    assert sentence in said["sentence"]
    sent, asked = last(one, "vm.migrate"), last(two, "receive.ask")
    assert (sent["result"], sent["error"], sent["message"]) == ("refused", rule, said["sentence"])
    assert (asked["result"], asked["rule"], asked["sentence"]) == (
        "refused", rule, said["sentence"])
    stays(pair, vm, before)


def stays(pair: Pair, vm: str, before: dict[str, str]) -> None:
    """It goes on where it was, and nothing of it is on the receiver."""
    one, two, _ = pair
    assert guests(two) == before
    assert not boolean(two, "win_en")
    assert not boolean(two, "run_bank_a")
    goes_on(one, vm)


@pytest.mark.usefixtures("taken")
def test_refused_by_the_receivers_wall(pair: Pair) -> None:
    refused(pair, "a-db", "wall.conflict", "bank-a-db may not start")


@pytest.mark.parametrize("named", ["a-desk"], indirect=True)
def test_refused_by_a_receiver_whose_policy_gives_another_label(pair: Pair, named: str) -> None:
    refused(pair, named, "image.mismatch", "its label on this host is bank-a-desk")
    # a sender that does not ask, as xl: refused when the guest comes, and xl takes it back
    one, two, address = pair
    sends = one.run(["xl", "migrate", "-s", "", named, f"exec ssh {address} shype receive"],
                    timeout=900)
    assert sends.code != 0
    assert "its label on this host is bank-a-desk" in sends.err
    assert last(two, "receive")["rule"] == "image.mismatch"
    stays(pair, named, {})


@pytest.mark.parametrize("named", ["stray"], indirect=True)
def test_refused_by_a_receiver_that_does_not_know_the_vm(pair: Pair, named: str) -> None:
    refused(pair, named, "label.none", "stray may not start")


@pytest.mark.parametrize(("at", "who"), [(MEMORY, BOTH), ("kept", SELF)])
def test_a_receiver_that_is_killed_gives_the_guest_back(pair: Pair, at: str, who: str) -> None:
    one, two, address = pair
    command(two, f"exec env PYTHONPATH=/opt/shype python3 {DYING} receive {TOLD}")
    two.put(TOLD, f"{at} {who}")
    done = migrate(one, "a-db", address)
    assert (done.code, json.loads(done.out)["error"]) == (3, "migrate.failed"), done.out
    goes_on(one)
    if who == BOTH:
        assert two.sh("test -e /var/lib/shype/launch.json").code == 0
        assert shype(two, "recover").value["unfinished"] == "a-db"
    wait_in_dom0(two, "! test -e /var/lib/shype/launch.json")
    assert guests(two) == {}
    status = shype(two, "status")
    assert (status.code, status.value["window"]) == (0, {"open": False, "label": None})
    assert not boolean(two, "run_bank_a")


def test_it_moves_and_its_place_with_it(pair: Pair) -> None:
    one, two, address = pair
    command(two, "shype receive")
    done = migrate(one, "a-db", address)
    value = json.loads(done.out)
    assert (done.code, value["moved"], value["released"]) == (0, True, ["run_bank_a"]), done.err
    assert guests(one) == {}
    assert guests(two) == {"a-db": CONTEXT}
    assert (boolean(one, "run_bank_a"), boolean(two, "run_bank_a")) == (False, True)
    assert not boolean(two, "win_en")
    probe.wait_for(two.run, ["a-db"])

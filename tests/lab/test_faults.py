"""What goes wrong on a real host: shype refuses, says why, and no domain is left.

Every test asserts the error's id, the exit code, and who runs afterwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shype.compile.flask.build import build
from shype.lab import builder
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.loader import load
from tests.lab.conftest import EXAMPLES, STILL, boolean, guests, sealed_for

pytestmark = pytest.mark.lab

A_DB, B_DB = "/etc/xen/vms/a-db.cfg", "/etc/xen/vms/b-db.cfg"
CONTEXT = "u:r:l_bank_a_db_t:s0"
OTHER = "/run/other.shype"
#: A guest that obeys `xl shutdown`. (busybox' poweroff would ask init, which in the lab's guests
#: is a shell script and takes no requests; with -f it asks the kernel.)
OBEDIENT = """\
extra = 'console=hvc0 quiet "sysctl.kernel.poweroff_cmd=/bin/busybox poweroff -f"'
"""


def still(name: str, seclabel: str | None = None) -> str:
    """A VM that need not get anywhere."""
    return config(name, type="pv", seclabel=seclabel, extra=STILL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command with --json said."""

    code: int
    value: Mapping[str, object]

    @property
    def error(self) -> object:
        """The error's id."""
        return self.value.get("error")

    @property
    def denial(self) -> tuple[object, list[object]]:
        """Id of the decision, names of the holders."""
        decision = self.value["decision"]
        assert isinstance(decision, dict)
        return decision["id"], [holder["vm"] for holder in decision["holders"]]


def shype(lab: Lab, command: str, *words: str) -> Answer:
    """Run a command in dom0."""
    done = lab.run(["shype", command, "--json", *words], timeout=300)
    assert done.out, done.err
    return Answer(done.code, json.loads(done.out))


def begin(lab: Lab, command: str, *words: str) -> Callable[[], Answer]:
    """Start a command in dom0's background; the result waits for its answer."""
    name = f"/run/{command}-{time.monotonic_ns()}"
    line = " ".join(("shype", command, "--json", *words))
    lab.spawn(["sh", "-c", f"{line} >{name}.out 2>{name}.err; echo $? >{name}.part; "
                           f"mv {name}.part {name}.code"])

    def answer() -> Answer:
        wait_in_dom0(lab, f"test -e {name}.code", 0.3)
        out = lab.get(f"{name}.out")
        assert out, lab.get(f"{name}.err")
        return Answer(int(lab.get(f"{name}.code")), json.loads(out))

    return answer


def wait_in_dom0(lab: Lab, condition: str, every: float = 0.05) -> None:
    """Until the shell command ``condition`` succeeds; looks often, without a call per look.

    Each look takes dom0's only processor from what is waited for, 20 ms for the sleep alone.
    """
    done = lab.sh(f"until {condition}; do sleep {every}; done", timeout=300)
    assert done.code == 0, f"{condition}: {done.err}"


# -- hosts that cannot enforce --------------------------------------------------------------------


def test_without_flask_xl_starts_vms_unlabelled_and_shype_none(
    lab_built: builder.Built, bundle: Path
) -> None:
    labelled = still("a-db", seclabel=CONTEXT)
    with Lab.up(bundle=bundle, flask="disabled", files={A_DB: labelled}) as lab:
        refused = shype(lab, "run", A_DB)
        assert (refused.code, refused.error) == (3, "host.no-flask")
        assert shype(lab, "status").code == 3
        assert guests(lab) == {}
        # what it guards against: the toolstack fails open
        started = lab.run(["xl", "create", A_DB], timeout=200)
        assert started.code == 0
        assert "XSM" in started.err, started.err
        assert guests(lab) == {"a-db": "-"}


def test_permissive_host_starts_nothing(lab_built: builder.Built, bundle: Path) -> None:
    with Lab.up(bundle=bundle, flask="permissive",
                files={A_DB: still("a-db")}) as lab:
        refused = shype(lab, "run", A_DB)
        assert (refused.code, refused.error) == (3, "host.not-enforcing")
        assert shype(lab, "status").code == 3
        assert guests(lab) == {}


def test_another_policy_than_the_loaded_one_starts_nothing(empty_lab: Lab, tmp_path: Path) -> None:
    source = tmp_path / "other.yaml"
    # the same labels and types, one rule less: only the digest tells them apart
    text = (EXAMPLES / "banks.yaml").read_text()
    assert "[bank-a, market]" in text
    changed = text.replace("[bank-a, market]", "[bank-a]").replace('"1.0"', '"1.1"')
    assert '"1.1"' in changed
    source.write_text(changed)
    build(load(source).policy, target="xen-4.17", out=tmp_path / "other")
    empty_lab.put(OTHER, sealed_for(empty_lab, tmp_path / "other"))
    refused = shype(empty_lab, "run", "--bundle", OTHER, A_DB)
    assert (refused.code, refused.error) == (3, "host.wrong-policy")
    status = shype(empty_lab, "status", "--bundle", OTHER)
    assert status.code == 3
    assert guests(empty_lab) == {}


# -- races and half launches ----------------------------------------------------------------------


def test_two_agents_at_once_one_wins(empty_lab: Lab) -> None:
    pending = {vm: begin(empty_lab, "run", "--lock-timeout", "300", path)
               for vm, path in (("a-db", A_DB), ("b-db", B_DB))}
    answers = {vm: answer() for vm, answer in pending.items()}
    assert sorted(answer.code for answer in answers.values()) == [0, 1]
    winner, = (vm for vm, answer in answers.items() if answer.code == 0)
    loser, = answers.keys() - {winner}
    assert answers[loser].denial == ("wall.conflict", [winner])
    assert list(guests(empty_lab)) == [winner]


def test_a_toolstack_that_fails_leaves_no_domain_and_a_free_wall(empty_lab: Lab) -> None:
    good = still("a-db")
    broken = {  # what xl says -> the configuration
        # there is a domain, without memory
        "failed to open file '/guest/none'": good.replace("/guest/vmlinux", "/guest/none"),
    }
    for words, text in broken.items():
        empty_lab.put("/run/broken.cfg", text)
        failed = shype(empty_lab, "run", "/run/broken.cfg")
        assert (failed.code, failed.error) == (3, "create.failed"), words
        assert words in str(failed.value["message"])
        assert guests(empty_lab) == {}, words
        assert not boolean(empty_lab, "win_en"), words
        assert not boolean(empty_lab, "run_bank_a"), words
    assert shype(empty_lab, "run", B_DB).code == 0
    assert list(guests(empty_lab)) == ["b-db"]


def test_agent_and_guardian_killed_the_wall_stands_and_the_next_launch_cleans_up(
    empty_lab: Lab
) -> None:
    begin(empty_lab, "run", A_DB)
    wait_in_dom0(empty_lab, "flask-get-bool win_en | grep -q 1")
    both = "[p]ython3 -m shype run"  # (the bracket: not the shell that has this in its argv)
    for number in ("STOP", "KILL"):  # stopped first, so that neither sees the other end
        assert empty_lab.run(["pkill", f"-{number}", "-f", both]).code == 0
    wait_in_dom0(empty_lab, f"! pgrep -f '{both}'")
    status = shype(empty_lab, "status")
    assert status.code == 1
    assert status.value["window"] == {"open": True, "label": "bank-a-db"}
    left = status.value["journal"]
    assert isinstance(left, dict)
    assert left["vm"] == "a-db"
    # even now root cannot start the other side of the wall
    empty_lab.put("/run/root.cfg", still("root", seclabel="u:r:l_bank_b_db_t:s0"))
    assert empty_lab.run(["xl", "create", "/run/root.cfg"], timeout=200).code != 0
    assert "root" not in guests(empty_lab)
    assert shype(empty_lab, "run", B_DB).code == 0
    assert list(guests(empty_lab)) == ["b-db"]
    assert shype(empty_lab, "status").code == 0


def test_pvh_launch_while_the_clock_jumps(empty_lab: Lab) -> None:
    empty_lab.put("/run/pvh.cfg", config("a-db", type="pvh", extra=STILL))
    now = int(time.time())
    try:
        launch = begin(empty_lab, "run", "/run/pvh.cfg")
        assert empty_lab.run(["date", "-s", f"@{now + 10 * 365 * 86400}"]).code == 0
        wait_in_dom0(empty_lab, "test -e /var/lib/shype/launch.json")
        assert empty_lab.run(["date", "-s", f"@{now - 10 * 365 * 86400}"]).code == 0
        assert launch().code == 0
    finally:
        empty_lab.run(["date", "-s", f"@{int(time.time())}"])
    assert guests(empty_lab) == {"a-db": CONTEXT}
    assert boolean(empty_lab, "run_bank_a")
    assert not boolean(empty_lab, "win_en")


# -- stopping -------------------------------------------------------------------------------------


def test_an_obedient_guest_shuts_down_and_then_frees_the_wall(empty_lab: Lab) -> None:
    log = "/var/log/xen/console/guest-a-db.log"
    empty_lab.put("/run/obedient.cfg", config("a-db", type="pv", extra=OBEDIENT))
    empty_lab.sh(f"rm -f {log}")  # of earlier guests of this name
    assert shype(empty_lab, "run", "/run/obedient.cfg").code == 0
    wait_in_dom0(empty_lab, f"grep -q hello {log}", 0.3)
    stop = begin(empty_lab, "stop", "--timeout", "200", "a-db")
    # the boolean is read before the domain is looked for: while there is one, it must be on
    seen = empty_lab.sh("while b=$(flask-get-bool run_bank_a); xl domid a-db >/dev/null 2>&1; "
                   "do echo $b; done", timeout=300).out.splitlines()
    assert set(seen) == {"run_bank_a: 1"}
    done = stop()
    assert (done.code, done.value["destroyed"]) == (0, False)
    assert done.value["released"] == ["run_bank_a"]
    assert not boolean(empty_lab, "run_bank_a")


def test_a_deaf_guest_keeps_the_wall_until_it_is_destroyed(empty_lab: Lab) -> None:
    assert shype(empty_lab, "run", A_DB).code == 0
    late = shype(empty_lab, "stop", "--timeout", "1", "a-db")
    assert (late.code, late.error) == (3, "stop.timeout")
    assert "--force" in str(late.value["fix"])
    assert list(guests(empty_lab)) == ["a-db"]
    assert shype(empty_lab, "run", B_DB).denial == ("wall.conflict", ["a-db"])
    done = shype(empty_lab, "stop", "--timeout", "1", "--force", "a-db")
    assert (done.code, done.value["destroyed"]) == (0, True)
    assert done.value["released"] == ["run_bank_a"]
    assert guests(empty_lab) == {}


# -- root against the hypervisor ------------------------------------------------------------------


def test_nobody_relabels_a_vm(empty_lab: Lab) -> None:
    both = (still("a-db", seclabel="u:r:l_market_data_t:s0")
            + f'init_seclabel = "{CONTEXT}"\n')
    empty_lab.put("/run/relabel.cfg", both)
    refused = shype(empty_lab, "run", "/run/relabel.cfg")
    assert refused.code == 1
    assert refused.denial == ("label.relabel", [])
    assert guests(empty_lab) == {}
    # root, with a window of its own making: even then only the creation is permitted
    empty_lab.run(["xl", "dmesg", "-c"])
    window(empty_lab, "bank-a-db")
    try:
        assert empty_lab.run(["xl", "create", "/run/relabel.cfg"], timeout=200).code != 0
    finally:
        window(empty_lab, None)
    assert guests(empty_lab) == {}
    assert "label.relabel" in denials(empty_lab)


def test_root_cannot_switch_enforcement_off_nor_change_the_policy(empty_lab: Lab) -> None:
    empty_lab.run(["xl", "dmesg", "-c"])
    assert empty_lab.run(["xl", "setenforce", "0"]).code != 0
    extract = ["shype", "bundle", "extract", "/etc/shype/policy.shype", "-o", "/run/extracted"]
    assert empty_lab.run(extract).code == 0
    assert empty_lab.run(["xl", "loadpolicy", "/run/extracted/policy.bin"]).code != 0
    assert empty_lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    assert denials(empty_lab).count("security.locked") == 2


def window(lab: Lab, label: str | None) -> None:
    """Open or close the launch window as root can, without shype."""
    script = ("import sys; from pathlib import Path; "
              "from shype.policy import signed; p = Path('/etc/shype/policy.shype'); "
              "from shype.host.drivers.xen.flask import Flask; "
              "Flask().set_booleans(signed.opened(signed.read(p), p)[0].manifest"
              ".window_values(sys.argv[1] or None))")
    assert lab.run(["python3", "-c", script, label or ""]).code == 0


def denials(lab: Lab) -> list[object]:
    """Ids of what the hypervisor denied since its ring was cleared."""
    found = shype(lab, "denials").value["denials"]
    assert isinstance(found, list)
    return [item["decision"] and item["decision"]["id"] for item in found]

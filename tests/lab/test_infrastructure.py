"""The lab itself: boots, snapshots, channel, isolation, failures, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.lab import builder, paths, ready, rundir, spawn, verification
from shype.lab.channel import RemoteError
from shype.lab.guests import config
from shype.lab.host import BootFailed, Lab, forget
from tests.lab.conftest import Factory, sealed_for

pytestmark = pytest.mark.lab


def qemu_processes(name: str) -> list[int]:
    """Processes that work in the directory of the lab ``name``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = (entry / "cwd").readlink()
            except OSError:
                continue
            if where.name.split(" ")[0] == name and where.parent == paths.runs():
                found.append(int(entry.name))
    return found


def test_boots_enforcing_and_has_everything(fresh_lab: Factory, bundle: Path) -> None:
    lab = fresh_lab(bundle=bundle, snapshot=False)
    assert not lab.record.from_snapshot
    assert lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    assert "u:r:dom0_t:s0" in lab.run(["xl", "list", "-Z"]).out
    assert lab.get("/etc/shype/policy.shype") == sealed_for(lab, bundle)
    assert lab.key.stat().st_mode & 0o777 == 0o600
    uses = "import shype.policy.manifest, ctypes, fcntl, mmap, cryptography"
    assert lab.run(["python3", "-c", uses]).code == 0
    assert lab.sh("test -e /dev/fd/0 && test -d /var/lib/shype && test -d /etc/xen/vms").code == 0
    assert lab.sh("cat /sys/class/net/xenbr0/bridge/forward_delay").out.strip() == "0"
    assert "Xen version 4.17" in lab.console()


def test_a_policy_that_is_loaded_is_in_force_as_one_that_is_booted(
    fresh_lab: Factory, bundle: Path,
) -> None:
    lab = fresh_lab(bundle=bundle, loaded=True, files={"/run/again.bin": ready.module()})
    assert not verification.loaded(lab, None).different
    assert "u:r:dom0_t:s0" in lab.run(["xl", "list", "-Z"]).out
    assert lab.run(["xl", "loadpolicy", "/run/again.bin"]).code != 0, "as little as after a boot"
    assert lab.sh("test -e /run/shype-lab/policy.bin").code == 1
    again = fresh_lab(bundle=bundle, loaded=True)
    assert again.record.from_snapshot
    assert again.run(["shype", "verify"], timeout=200).code == 0


def test_a_snapshot_is_quick_and_exact(
    fresh_lab: Factory, bundle: Path, record_property: Callable[[str, object], None]
) -> None:
    fresh_lab(bundle=bundle).down()
    lab = fresh_lab(bundle=bundle, files={"/etc/xen/vms/new.cfg": config("new")})
    record_property("snapshot_to_first_answer_seconds", lab.record.seconds)
    assert lab.record.from_snapshot
    assert lab.record.seconds < 15, "even on a machine that does other things"
    assert lab.run(["xl", "getenforce"]).out.strip() == "Enforcing"
    assert lab.get("/etc/xen/vms/new.cfg").decode() == config("new")
    clock = float(lab.run(["date", "+%s.%N"]).out)
    assert abs(clock - time.time()) < 5


def test_two_side_by_side(fresh_lab: Factory, bundle: Path) -> None:
    one, two = fresh_lab(bundle=bundle), fresh_lab(bundle=bundle)
    one.put("/root/mark", b"one")
    two.put("/root/mark", b"two")
    assert (one.get("/root/mark"), two.get("/root/mark")) == (b"one", b"two")
    one.down()
    assert two.run(["cat", "/root/mark"]).out == "two"
    assert two.name in [record.name for record in rundir.running()]
    assert one.name not in [record.name for record in rundir.running()]


def test_the_channel(banks_lab: Lab) -> None:
    lab = banks_lab
    done = lab.run(["sh", "-c", "cat; echo oops >&2; exit 7"], input=b"\x00\xffin")
    assert (done.code, done.err) == (7, "oops\n")
    assert lab.run(["no-such-program"]).code == 127
    data = os.urandom(700_001)
    lab.put("/root/dir/blob", data, mode=0o755)
    assert lab.get("/root/dir/blob") == data
    assert lab.run(["stat", "-c", "%a", "/root/dir/blob"]).out == "755\n"
    lab.put("/root/empty", b"")
    assert lab.get("/root/empty") == b""
    with pytest.raises(RemoteError, match="FileNotFoundError"):
        lab.get("/no/such/file")
    lab.spawn(["sh", "-c", "echo begun; sleep 300"], log="/run/spawned.log")
    assert lab.sh("sleep 0.5; cat /run/spawned.log").out == "begun\n"


def test_a_late_command_is_killed_with_its_children(banks_lab: Lab) -> None:
    done = banks_lab.run(["sh", "-c", "echo before; sleep 4321 & wait"], timeout=1)
    assert (done.code, done.out) == (124, "before\n")
    assert banks_lab.run(["pgrep", "-f", "sleep 4321"]).code == 1


def test_a_long_command_blocks_nobody(banks_lab: Lab) -> None:
    long = threading.Thread(target=banks_lab.run, args=(["sleep", "8"],))
    long.start()
    began = time.monotonic()
    assert banks_lab.run(["true"]).code == 0
    with Lab.attach(banks_lab.name).channel as second:
        assert second.run(["true"]).code == 0
    assert time.monotonic() - began < 7
    assert long.is_alive()
    long.join()


def test_what_a_client_waits_for_ends_with_it(banks_lab: Lab) -> None:
    script = (f"from shype.lab.host import Lab; Lab.attach({banks_lab.name!r})"
              ".run(['sleep', '7654'], timeout=None)")
    client = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: banks_lab.run(["pgrep", "-f", "^sleep 7654"]).code == 0)
    client.kill()
    client.wait()
    wait_for(lambda: banks_lab.run(["pgrep", "-f", "^sleep 7654"]).code == 1)


def test_a_name_is_taken_once(banks_lab: Lab) -> None:
    with pytest.raises(BadInput) as caught:
        Lab.up(flask="disabled", name=banks_lab.name)
    assert caught.value.id == "lab.exists"


def test_a_host_without_flask_can_be_told(fresh_lab: Factory, bundle: Path) -> None:
    lab = fresh_lab(bundle=bundle, flask="disabled")
    assert "Disabled" in lab.run(["xl", "getenforce"]).out
    assert "u:r:" not in lab.run(["xl", "list", "-Z"]).out
    assert lab.sh("test -f /etc/shype/policy.shype").code == 0


def test_permissive_is_not_enforcing(fresh_lab: Factory, bundle: Path) -> None:
    lab = fresh_lab(bundle=bundle, flask="permissive")
    assert lab.run(["xl", "getenforce"]).out.strip() == "Permissive"


def own_runs() -> set[Path]:
    """What this process's labs have on disk; other processes start and end theirs meanwhile."""
    return {path for path in paths.runs().iterdir() if f"lab-{os.getpid()}-" in path.name}


def test_a_truncated_policy_is_a_panic_told_at_once(
    fresh_lab: Factory, bundle: Path, tmp_path: Path
) -> None:
    module = tmp_path / "short.bin"
    module.write_bytes((bundle / "policy.bin").read_bytes()[:1000])
    before = own_runs()
    with pytest.raises(BootFailed) as caught:
        fresh_lab(policy_module=module)
    assert caught.value.id == "lab.panic"
    assert "FLASK policy" in caught.value.message
    assert "Panic on CPU 0" in caught.value.console
    assert own_runs() == before, "a failed start leaves nothing"


def test_guests_run_and_a_saved_host_is_cloned(fresh_lab: Factory) -> None:
    lab = fresh_lab(flask="disabled", files={"/etc/xen/vms/g.cfg": config("g", type="pv")})
    assert lab.run(["xl", "create", "/etc/xen/vms/g.cfg"], 120).code == 0
    log = "/var/log/xen/console/guest-g.log"
    wait_for(lambda: lab.sh(f"grep -q hello {log}").code == 0, 120)
    lab.save("test-infrastructure")
    try:
        clones = [Lab.restore("test-infrastructure") for _ in range(2)]
        try:
            clones[0].run(["xl", "destroy", "g"])
            assert clones[0].run(["xl", "domid", "g"]).code != 0
            assert clones[1].run(["xl", "domid", "g"]).code == 0
        finally:
            for clone in clones:
                clone.down()
        assert lab.run(["xl", "domid", "g"]).code == 0
    finally:
        forget("test-infrastructure")


@pytest.mark.parametrize("victim", ["client", "qemu"])
def test_kill_leaves_nothing(lab_built: builder.Built, tmp_path: Path, victim: str) -> None:
    name = f"kill-{victim}-{os.getpid()}"
    script = (f"import time; from shype.lab.host import Lab; Lab.up(flask='disabled', "
              f"name={name!r}); print('up', flush=True); time.sleep(600)")
    mounts = Path("/proc/mounts").read_text()
    loops = loop_devices()
    client = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert client.stdout is not None
    try:
        assert client.stdout.readline() == b"up\n"
        _, record = rundir.find(name)
        if victim == "client":
            client.kill()
        else:
            spawn.kill(record.pid, record.began, signal.SIGKILL)
        wait_for(lambda: not record.alive and not qemu_processes(name), 20)
    finally:
        client.kill()
        client.wait()
    with pytest.raises(Unavailable):
        rundir.find(name)
    assert name not in [r.name for r in rundir.running()]
    rundir.sweep()
    assert not (paths.runs() / name).exists()
    assert Path("/proc/mounts").read_text() == mounts
    assert loop_devices() <= loops


@pytest.mark.parametrize("attached", [True, False])
def test_a_start_killed_half_way_leaves_no_process(
    lab_built: builder.Built, attached: bool
) -> None:
    name = f"half-{attached}-{os.getpid()}".lower()
    script = ("from shype.lab.host import Lab; "
              f"Lab.up(flask='disabled', snapshot=False, name={name!r}, attached={attached})")
    client = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: (paths.runs() / name / "lab.json").exists(), 30)
    assert qemu_processes(name)
    client.kill()
    client.wait()
    if not attached:
        rundir.sweep()  # as the next `up` or `status` does
    wait_for(lambda: not qemu_processes(name), 20)
    rundir.sweep()
    assert not (paths.runs() / name).exists()


def test_icount_makes_work_cost_the_same(fresh_lab: Factory) -> None:
    """Virtual time counts instructions: the same loop costs the same on any host, twice."""
    lab = fresh_lab(flask="disabled", icount=True)
    loop = ("import time; t = time.perf_counter_ns(); x = sum(range(300000)); "
            "print(time.perf_counter_ns() - t)")
    costs = [int(lab.run(["python3", "-c", loop], 120).out) for _ in range(3)]
    assert max(costs) < 1.1 * min(costs), costs


def loop_devices() -> set[str]:
    """Loop devices in use."""
    return {path.parent.name for path in Path("/sys/block").glob("loop*/loop")}


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until ``condition()`` is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)

"""The Xen driver with an `xl` on PATH that behaves as xl does, and fails as it does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.host.drivers.xen.driver import XenHypervisor
from shype.host.drivers.xen.flask import Flask
from shype.host.hypervisor import CreateFailed, VmConfig
from shype.policy.model import Enforcement
from tests.host.drivers.test_flask import Xen
from tests.host.drivers.test_xl import HEADER, UUID, row

CONTEXT = "u:r:l_web_t:s0"


@pytest.fixture
def xl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory where ``CASE`` (first argument) tells the fake xl what to do, a script each."""
    program = tmp_path / "bin" / "xl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n. {tmp_path}/case-$1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def case(xl: Path, command: str, script: str) -> None:
    (xl / f"case-{command}").write_text(script)


def dry(name: str, label: str, **top: object) -> str:
    value = {"c_info": {"name": name, "uuid": UUID, "ssid_label": label}, "b_info": {}, **top}
    return f"cat <<'EOF'\n{json.dumps(value)}\nEOF\n"


def calls(xl: Path) -> list[str]:
    return (xl / "calls").read_text().splitlines()


def test_answers_of_xl_become_values(xl: Path) -> None:
    driver = XenHypervisor(Flask(Xen({"win_en": True})))
    case(xl, "list", f"cat <<'EOF'\n{HEADER}{row('Domain-0', 0, 'r-----', CONTEXT)}EOF\n")
    case(xl, "dmesg", "echo '(XEN) avc:  denied  { create } for x'; echo other")
    assert [d.domid for d in driver.domains()] == [0]
    assert driver.denials() == ("(XEN) avc:  denied  { create } for x",)
    assert driver.enforcement() is Enforcement.ENFORCING
    assert driver.boolean("win_en") is True
    driver.set_booleans({"win_en": False})
    assert driver.boolean("win_en") is False


def test_prepare_writes_the_overriding_lines_and_reads_them_back(xl: Path) -> None:
    asked = {"on_reboot": "restart", "on_crash": "coredump_destroy", "on_watchdog": "preserve"}
    vm, into = VmConfig("web", UUID, None, None, actions=asked), xl / "launch.cfg"
    case(xl, "create", dry("web", CONTEXT, on_reboot="preserve", on_watchdog="preserve",
                           on_crash="coredump_destroy", on_poweroff="destroy"))
    XenHypervisor().prepare(b'name="web"', into, vm=vm, seclabel=CONTEXT)
    text = into.read_text()
    assert text.startswith('name="web"\n')
    assert f'seclabel = "{CONTEXT}"' in text
    assert f'uuid = "{UUID}"' in text
    for line in ('on_reboot = "preserve"', 'on_crash = "coredump-destroy"',
                 'on_watchdog = "preserve"', 'on_poweroff = "destroy"'):
        assert line in text
    assert into.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("answer", [
    dry("other", CONTEXT), dry("web", "u:r:l_other_t:s0"), dry("web", CONTEXT, on_reboot="restart"),
])
def test_prepare_refuses_what_xl_understands_otherwise(xl: Path, answer: str) -> None:
    case(xl, "create", answer)
    with pytest.raises(BadInput) as caught:
        XenHypervisor().prepare(
            b"x", xl / "launch.cfg", vm=VmConfig("web", UUID, None, None), seclabel=CONTEXT)
    assert caught.value.id == "config.invalid"


def test_failures_carry_what_xl_said(xl: Path) -> None:
    driver = XenHypervisor()
    for command in ("create", "list", "dmesg", "unpause", "pause", "dump-core"):
        case(xl, command, "echo 'libxl: error: it broke' >&2; exit 3")
    with pytest.raises(CreateFailed, match="it broke"):
        driver.create_paused(xl / "x.cfg")
    with pytest.raises(BadInput, match="it broke"):
        driver.read_config(xl / "x.cfg")
    for ask in (driver.domains, driver.denials, lambda: driver.unpause(3),
                lambda: driver.pause(3), lambda: driver.dump(3, xl / "dump")):
        with pytest.raises(Unavailable, match="it broke"):
            ask()
    assert f"create -p {xl}/x.cfg" in calls(xl)


@pytest.mark.parametrize("answer", ["exit 1", "exec sleep 60"])
def test_a_guest_that_does_not_acknowledge_the_shutdown_is_no_error(
    xl: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr("shype.host.drivers.xen.driver._REQUEST", 0.3)
    case(xl, "shutdown", answer)
    began = time.monotonic()
    XenHypervisor().shutdown(3)
    assert time.monotonic() - began < 30
    assert "shutdown 3" in calls(xl)


@pytest.mark.parametrize(("state", "raises"), [(None, False), ("--p--d", False), ("-b----", True)])
def test_destroying_what_is_gone_is_no_error(xl: Path, state: str | None, raises: bool) -> None:
    listing = HEADER + (row("web", 3, state, CONTEXT) if state else "")
    case(xl, "list", f"cat <<'EOF'\n{listing}EOF\n")
    case(xl, "destroy", "echo 'web is an invalid domain identifier' >&2; exit 1")
    if raises:
        with pytest.raises(Unavailable):
            XenHypervisor().destroy(3)
    else:
        XenHypervisor().destroy(3)


def test_xl_dies_with_the_agent(xl: Path) -> None:
    case(xl, "create", f"echo $$ > {xl}/pid; exec sleep 60")
    agent = subprocess.Popen([
        sys.executable, "-c",
        "import sys; from pathlib import Path\n"
        "from shype.host.drivers.xen.driver import XenHypervisor\n"
        "XenHypervisor().create_paused(Path('x.cfg'))",
    ])
    deadline = time.monotonic() + 30
    while not (xl / "pid").exists() or not (xl / "pid").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int((xl / "pid").read_text())
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- images and migrations ------------------------------------------------------------------------


def test_an_image_is_saved_as_xl_writes_it(xl: Path) -> None:
    taken = list[bytes]()
    case(xl, "save", 'head -c 3000000 /dev/zero > "$4"; echo Saving >&2')
    XenHypervisor().save(3, taken.append)
    assert sum(map(len, taken)) == 3000000
    assert calls(xl) == ["save -p 3 /proc/self/fd/1"]  # paused: its end is the agent's


def test_xl_that_cannot_save_says_why(xl: Path) -> None:
    case(xl, "save", "echo 'Failed to save domain, resuming domain' >&2; exit 1")
    with pytest.raises(Unavailable, match="resuming domain") as caught:
        XenHypervisor().save(3, lambda chunk: None)
    assert caught.value.id == "xl.failed"


def test_an_image_that_nobody_takes_lets_xl_resume_the_guest(xl: Path) -> None:
    def full(chunk: bytes) -> None:
        raise OSError(28, "No space left on device")

    case(xl, "save", f'head -c 100000000 /dev/zero > "$4" 2>/dev/null || echo yes > {xl}/resumed')
    with pytest.raises(OSError, match="No space"):
        XenHypervisor().save(3, full)
    assert (xl / "resumed").read_text() == "yes\n"


def test_an_image_is_restored_paused_and_shypes_scripts_know_that_it_is_decided(xl: Path) -> None:
    case(xl, "restore", f'cat "$3" > {xl}/got; echo $SHYPE_DECIDED >> {xl}/got')
    XenHypervisor().restore_paused(lambda ended: iter([b"head,", b"memory,"]))
    assert (xl / "got").read_text() == "head,memory,1\n"
    assert calls(xl) == ["restore -p /proc/self/fd/0"]


def test_a_restoration_that_xl_cannot_do(xl: Path) -> None:
    case(xl, "restore", "echo 'libxl: error: domain creation fail: Permission denied' >&2; exit 1")
    with pytest.raises(CreateFailed, match="Permission denied"):
        XenHypervisor().restore_paused(lambda ended: iter([bytes(1 << 20)] * 4))


def test_a_source_that_breaks_off_ends_the_restoration(xl: Path) -> None:
    def source(ended: Callable[[], bool]) -> Iterator[bytes]:
        yield b"head"
        while not (xl / "pid").exists():
            time.sleep(0.01)
        raise Unavailable("receive.broken-off", "the sender broke off")

    case(xl, "restore", f"echo $$ > {xl}/part; mv {xl}/part {xl}/pid; exec sleep 60")
    with pytest.raises(Unavailable, match="broke off"):
        XenHypervisor().restore_paused(source)
    assert not alive(int((xl / "pid").read_text()))


def test_a_migration_is_xls(xl: Path) -> None:
    case(xl, "migrate", "[ \"$5\" = 'exec ssh host2 shype receive' ]")
    XenHypervisor().migrate(3, "exec ssh host2 shype receive")
    assert calls(xl) == ["migrate -s  3 exec ssh host2 shype receive"]
    case(xl, "migrate", "echo 'Migration failed, resuming at sender.' >&2; exit 1")
    with pytest.raises(Unavailable, match="resuming at sender") as caught:
        XenHypervisor().migrate(3, "exec ssh host2 shype receive")
    assert caught.value.id == "xl.failed"


@pytest.mark.parametrize("what", ["restore", "save", "migrate"])
def test_which_xl_dies_with_the_agent(xl: Path, what: str) -> None:
    """One that builds must; one that gives a guest away must put it right again instead."""
    case(xl, what, f"echo $$ > {xl}/part; mv {xl}/part {xl}/pid; read end < {xl}/end; "
                   f"echo done > {xl}/done")
    os.mkfifo(xl / "end")
    act = {"restore": "restore_paused(lambda ended: iter([b'x']))",
           "save": "save(3, lambda chunk: None)", "migrate": "migrate(3, 'true')"}[what]
    agent = subprocess.Popen([
        sys.executable, "-c",
        f"from shype.host.drivers.xen.driver import XenHypervisor\nXenHypervisor().{act}"])
    deadline = time.monotonic() + 30
    while not (xl / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int((xl / "pid").read_text())
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    if what != "restore":
        (xl / "end").write_text("now\n")
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (xl / "done").exists() is (what != "restore")


@pytest.mark.parametrize("what", ["save", "migrate"])
def test_ctrl_c_leaves_no_guest_suspended(xl: Path, what: str) -> None:
    """A terminal interrupts all that is in the foreground; xl must put the guest right first."""
    case(xl, what, f"echo > {xl}/begun; while test -e {xl}/begun && echo x; do :; done; "
                   f"sleep 0.5; echo > {xl}/resumed; exit 1")
    act = {"save": "save(3, lambda chunk: None)", "migrate": "migrate(3, 'true')"}[what]
    agent = subprocess.Popen([
        sys.executable, "-c",
        # (tests that run in the background inherit that SIGINT is ignored)
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from shype.host.drivers.xen.driver import XenHypervisor\nXenHypervisor().{act}"],
        start_new_session=True, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (xl / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)  # xl has begun; the agent has to notice that it did
    os.killpg(agent.pid, signal.SIGINT)
    (xl / "begun").unlink()
    assert b"KeyboardInterrupt" in agent.communicate(timeout=30)[1]
    while not (xl / "resumed").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_target_is_the_release_that_runs() -> None:
    assert XenHypervisor(release=lambda: (4, 17)).target() == "xen-4.17"

    def none() -> tuple[int, int]:
        raise PermissionError(13, "Permission denied")

    with pytest.raises(Unavailable, match="Permission denied") as caught:
        XenHypervisor(release=none).target()
    assert caught.value.id == "host.no-xen"

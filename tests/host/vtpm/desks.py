"""A host on the model whose policy gives VMs TPMs, each served by a real swtpm."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from shype.host.agent import Agent
from shype.host.launch import Outcome, launch
from shype.host.stop import stop
from shype.host.vtpm import swtpm
from shype.host.vtpm.places import Owner, TpmPlaces
from tests.host.builders import config, host, model

#: A directory, and the agent of its host.
Desk = tuple[Path, Agent]
POLICY = """\
shype: 1
policy: {name: tpms, version: "1.0"}
coalitions: [work, play]
labels:
  manager: {coalitions: all}
  desk:    {coalitions: [work], vtpm: true}
  toy:     {coalitions: [play], vtpm: true}
  plain:   {coalitions: [work]}
host: {dom0: manager}
vms: {desk: desk, desk-two: desk, toy: toy, plain: plain}
"""
UUID = "5e1f0000-0000-4000-8000-00000000000a"
OTHER = "5e1f0000-0000-4000-8000-00000000000b"


def of(uuid: str, *lines: str) -> str:
    """Lines of a VM's configuration."""
    return "\n".join((f'uuid = "{uuid}"', *lines))


def required() -> None:
    """Without swtpm the test is skipped, but never in CI or after `make setup`."""
    if shutil.which("swtpm") is None:
        if os.environ.get("CI"):
            pytest.fail("swtpm is not installed: apt-get install swtpm")
        pytest.skip("swtpm is not installed: apt-get install swtpm (`make setup` does)")


@contextlib.contextmanager
def desks() -> Iterator[tuple[Path, Agent]]:
    """The host, in a directory with a name as short as sockets need it.

    Other tests' hosts on the same machine have TPMs of the same users.
    """
    required()
    with (tempfile.TemporaryDirectory(prefix="vtpm-") as name,
          mock.patch("shype.host.vtpm.places.busy_users", return_value=frozenset())):
        place = Path(name)
        agent = host(place, POLICY)
        with all_ended(place):
            yield place, agent


@contextlib.contextmanager
def all_ended(place: Path) -> Iterator[None]:
    """Ends what serves TPMs in ``place``, however a test has left them.

    By where they are at work: of a TPM whose record a test has damaged, or that it has removed, no
    agent knows what serves it.
    """
    try:
        yield
    finally:
        for pid in at_work(place):
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                try:
                    if pid in at_work(place):  # and not another one of that number by now
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                        assert select.select([handle], [], [], 30)[0]
                finally:
                    os.close(handle)


def at_work(place: Path) -> set[int]:
    """The processes that have their working directory under ``place``, there still or not."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(place.resolve()):
                found.add(int(link.parent.name))
    return found - {os.getpid()}


def owner(agent: Agent, uuid: str = UUID) -> Owner:
    """Whose the TPM is."""
    found = TpmPlaces(agent.state).get(uuid)
    assert found is not None
    return found


def serving(agent: Agent, uuid: str = UUID, lock: str = swtpm.LOCK) -> int | None:
    """The process that serves it, or another one of it that has that lock."""
    return swtpm.holder(TpmPlaces(agent.state), owner(agent, uuid), lock)


def kill(agent: Agent, uuid: str = UUID, lock: str = swtpm.LOCK) -> None:
    """Kill the process that serves it; returns when it is gone, as the kernel takes a moment."""
    pid = serving(agent, uuid, lock)
    assert pid is not None
    handle = os.pidfd_open(pid)
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], 30)[0]
    os.close(handle)
    assert serving(agent, uuid, lock) is None


def guest(agent: Agent, vm: str = "desk") -> socket.socket:
    """The guest's end: what the device model would pass on to the VM's console."""
    stream = model(agent).channels.guest(vm)
    stream.settimeout(30)
    return stream


def run(desk: Desk, vm: str = "desk", uuid: str = UUID, *lines: str) -> Outcome:
    """`shype run` of ``vm`` with that UUID."""
    place, agent = desk
    return launch(agent, config(place, vm, of(uuid, *lines)))


def halt(desk: Desk, vm: str = "desk") -> None:
    """`shype stop --force`."""
    stop(desk[1], vm, force=True, timeout=0)

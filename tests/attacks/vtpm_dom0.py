"""Runs in dom0, as root: what a test needs of VMs' TPMs without starting a VM for each.

``make [UUID VM]...``: new TPMs of labels named as the VMs; prints their user ids.
``roll UUID``: how often it says that it was powered on, before and after its state is replaced by
an old copy. ``launch kill|break STEP CONFIG``: a launch that is killed, or breaks off, after that
step; prints that it came there, or why not. ``seat UUID VM``: the user id that a new TPM gets; it
is removed again. ``hold UUID``: a TPM that is served until it is told to end; prints its process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from shype.cli.agent import place
from shype.host.agent import Agent
from shype.host.launch import Step, launch
from shype.host.trust import KEYS, load_trusted
from shype.host.vtpm import commands, swtpm
from shype.host.vtpm.places import Owner, TpmPlaces
from shype.policy.names import LabelName

STATE = Path("/var/lib/shype")
PLACES = TpmPlaces(STATE)
_READ_CLOCK = struct.pack(">HII", 0x8001, 10, 0x181)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def known(uuid: str) -> Owner:
    owner = PLACES.get(uuid)
    assert owner is not None
    return owner


def make(*words: str) -> None:
    for uuid, vm in zip(words[::2], words[1::2], strict=True):
        owner = PLACES.new(vm, uuid, LabelName(vm))
        served = swtpm.start(PLACES, owner)
        with swtpm.asked(served) as tpm:
            PLACES.change(owner, ek=commands.identity(commands.ek_public(tpm)))
        served.end()
        say(owner.user)


def resets(uuid: str) -> tuple[int, str]:
    """TPMS_CLOCK_INFO.resetCount, which only grows in one TPM's life; and the identity."""
    served = swtpm.start(PLACES, known(uuid))
    with swtpm.asked(served) as tpm:
        tpm.sendall(_READ_CLOCK)
        answer = tpm.recv(4096)
        ek = commands.identity(commands.ek_public(tpm))
    served.end()
    return struct.unpack_from(">I", answer, 26)[0], ek


def roll(uuid: str) -> None:
    kept = PLACES.state(uuid)
    with tempfile.TemporaryDirectory() as other:
        subprocess.run(["cp", "-a", kept, f"{other}/old"], check=True)
        before = [resets(uuid)[0] for _ in range(2)]
        shutil.rmtree(kept)
        subprocess.run(["cp", "-a", f"{other}/old", kept], check=True)
    after, ek = resets(uuid)
    say(before[-1], after, ek == known(uuid).ek)


def launched(how: str, step: str, config: str) -> None:
    def observe(now: Step) -> None:
        if now == step:
            say(step)
            sys.stdout.flush()
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

    bundle = load_trusted(Path("/etc/shype/policy.shype"), KEYS)
    state, driver = place(argparse.Namespace(model_file=None, state=STATE))  # with its manager
    with contextlib.suppress(KeyboardInterrupt):
        done = launch(Agent(bundle, driver(bundle), state), Path(config), observer=observe)
        say(done.decision.id)


def seat(uuid: str, vm: str) -> None:
    say(PLACES.new(vm, uuid, LabelName(vm)).user)
    PLACES.remove(uuid)


def hold(uuid: str) -> None:
    owner = known(uuid)
    served = swtpm.start(PLACES, owner)
    with swtpm.asked(served):
        served.leave()
    say(swtpm.holder(PLACES, owner))


COMMANDS: dict[str, Callable[..., None]] = {
    "make": make, "roll": roll, "launch": launched, "seat": seat, "hold": hold}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])

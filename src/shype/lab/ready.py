"""A host that is up, as a snapshot, into which any policy is then loaded.

A boot takes as long as ten commands. What follows it is the same for every policy: dom0, and an
interpreter that has imported shype. The hypervisor takes a policy that is loaded as it takes the
one of its boot, but for the names of the file and that it counts one load more. What is about the
boot itself has to boot; so has a policy under which dom0 has another context, with levels in it.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from shype.base.errors import ShypeError
from shype.base.files import write_atomic
from shype.compile.flask.build import compile_cil, make
from shype.compile.flask.encoding import DOM0_TYPE, sid_type
from shype.lab import paths, recipe, snapshot
from shype.lab.channel import Channel
from shype.lab.qemu import Machine
from shype.policy.loader import load as load_policy

#: Where the payload has the policy that is to be loaded.
PLACE = "/run/shype-lab/policy.bin"
#: What is booted, with the right to load another one.
_POLICY = """\
shype: 1
policy: {name: ready, version: "1.0"}
coalitions: [none]
labels: {dom0: {coalitions: all}}
host: {dom0: dom0}
"""
#: dom0's context, which it was given when it was built and keeps.
CONTEXT = f"u:r:{DOM0_TYPE}:s0"
#: Run before the snapshot, whatever comes of it: what most tests use is then in dom0's memory.
#: A host that goes on from there is new, so shype keeps its state elsewhere, and that goes.
_SCRATCH = "/run/before"
FIRST = (("xl", "list", "-Z"), ("shype", "status", "--state", _SCRATCH), ("rm", "-rf", _SCRATCH),
         ("xenstore-ls", "-f"), ("flask-get-bool", "none"), ("setpriv", "--version"),
         ("losetup", "-a"), ("ip", "link"))
_MAY_LOAD = f"(allow {DOM0_TYPE} {sid_type('security')} (security (load_policy)))\n"


class NotLoaded(ShypeError):
    """The hypervisor does not take the policy (``lab.not-loaded``)."""


@lru_cache(maxsize=1)
def module() -> bytes:
    """The policy that is booted, compiled. Raises as `shype.compile.flask.build.make`."""
    text = paths.home() / "ready.yaml"  # its place is part of what is compiled
    write_atomic(text, _POLICY.encode())
    contents = make(load_policy(text).policy, target=recipe.TARGET, validate=False)[1]
    with tempfile.TemporaryDirectory(prefix="shype-ready-") as name:
        source, binary = Path(name) / "ready.cil", Path(name) / "ready.bin"
        source.write_bytes(contents.files["policy.cil"] + _MAY_LOAD.encode())
        compile_cil(source, binary)
        return binary.read_bytes()


def place(machine: Machine, payload: bytes) -> Path:
    """Where the snapshot of the ready machine is or would be; ``payload``: digest of its shype."""
    return snapshot.place(machine).with_name(
        f"{snapshot.key(machine)}-ready-{payload.decode()[:12]}")


def load(channel: Channel) -> None:
    """Load the policy at `PLACE`. Raises `NotLoaded`."""
    done = channel.run(["xl", "loadpolicy", PLACE], timeout=60)
    if done.code != 0:
        raise NotLoaded("lab.not-loaded", f"the policy cannot be loaded: {done.err.strip()}",
                        "is it made for this Xen?")
    channel.run(["rm", PLACE])

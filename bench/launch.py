"""`python -m bench.launch`: what an attested label adds to the launch of its VMs.

A real launch on a host that counts instructions (QEMU's -icount: a nanosecond is one), and the
gate alone, many times over, with a fresh result in place. The goal: less than 2 % of a launch.
"""

from __future__ import annotations

import argparse
import base64
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from shype.cli import output
from shype.compile.flask.build import build
from shype.host import attest_result
from shype.host.attest_result import AttestedPolicy, Result, Verdict
from shype.lab.guests import config
from shype.lab.host import Lab
from shype.policy.ed25519 import PrivateKey
from shype.policy.loader import load
from shype.policy.manifest import load_bundle

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "banks.yaml"
ROUNDS = 50
CONFIG = "/etc/xen/vms/a-db.cfg"
#: In dom0: takes the result, and then asks the gate, all by the agent's own code.
GATE = f"""
import argparse, time
from pathlib import Path
from shype.cli import agent
from shype.host.agent import Agent
from shype.host.attestation import standing
from shype.host.attestation.gate import refusal
from shype.host.trust import load_trusted
parser = argparse.ArgumentParser()
agent.add_options(parser)
args = parser.parse_args([])
state, driver = agent.place(args)
bundle = load_trusted(args.bundle, args.keys)
found = Agent(bundle, driver(bundle), state)
standing.keep(found, Path("/run/result").read_bytes())
assert refusal(found, "bank-a-db") is None
began = time.monotonic_ns()
for _ in range({ROUNDS}):
    assert refusal(found, "bank-a-db") is None
print((time.monotonic_ns() - began) / {ROUNDS})
"""


def policy(key: PrivateKey) -> str:
    """examples/banks.yaml, where one label is attested."""
    line = key.public.pem().decode().splitlines()[1]
    text = EXAMPLE.read_text().replace("bank-a-db:   {", "bank-a-db:   {attested: true, ")
    return f"{text}attestation: {{verifiers: {{ops: {line}}}, fresh: 1 hour, lost: keep}}\n"


def result(bundle: Path, key: PrivateKey, ak: bytes) -> bytes:
    """What the verifier says of the host: trusted. Who that is plays no part here."""
    found, now = load_bundle(bundle), int(time.time())
    about = AttestedPolicy(found.policy.name, found.policy.version, found.manifest.digest)
    return attest_result.dumps(Result(
        "host", ak, Verdict.TRUSTED, (), about, 1, 0, "00" * 20, now - 5, now + 3600,
        key.public.id), key)


def measure(place: Path) -> tuple[float, float]:
    """Instructions (millions) of a launch of the attested label, and of its gate alone."""
    key, ak = PrivateKey.generate(), b"\x00\x23" + bytes(96)
    (place / "policy.yaml").write_text(policy(key))
    build(load(place / "policy.yaml").policy, target="xen-4.17", out=place / "bundle")
    enrolled = json.dumps({"public": base64.b64encode(ak).decode(), "private": ""})
    files: dict[str, bytes | str] = {
        CONFIG: config("a-db", type="pv"), "/run/gate.py": GATE, "/run/enrolled": enrolled}
    with Lab.up(bundle=place / "bundle", files=files, snapshot=False, icount=True) as lab:
        def must(*words: str) -> str:
            done = lab.run(list(words), 600)
            if done.code != 0:
                raise AssertionError(f"{words}: {done.out}{done.err}")
            return done.out

        state = "/var/lib/shype/attest"
        must("sh", "-c", f"mkdir -p -m 700 {state} && cp /run/enrolled {state}/ak.json")
        lab.put("/run/result", result(place / "bundle", key, ak))
        gate = float(must("env", "PYTHONPATH=/opt/shype", "python3", "/run/gate.py"))
        # The launch of another label, by a host that is not enrolled: the key is in no TPM.
        must("rm", f"{state}/ak.json")
        lab.put("/run/plain.cfg", config("a-desk", type="pv"))
        took = must("sh", "-c", "a=$(date +%s%N); shype run /run/plain.cfg >/dev/null && "
                    "echo $(($(date +%s%N) - a))")
        return float(took) / 1e6, gate / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.launch", description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        launch, gate = measure(Path(name))
    if args.json:
        output.print_json({"launch": launch, "gate": gate, "share": gate / launch})
        return 0
    print(f"{platform.machine()}, one virtual processor, instructions of dom0 and Xen\n")
    output.table("a launch, and what `attested: true` adds to it", ["", "million"], [
        ["shype run, a PV guest", f"{launch:,.0f}"], ["the gate, a fresh result", f"{gate:,.1f}"],
        ["share", f"{100 * gate / launch:.2f} %"]])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

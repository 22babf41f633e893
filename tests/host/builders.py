"""A policy with walls that overlap, its compiled bundle, and agents on the model."""

from __future__ import annotations

from pathlib import Path

from shype.base import canonical
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.policy.bundle import policy_to_json
from shype.policy.loader import load
from shype.policy.manifest import (
    Booleans,
    Bundle,
    Dom0Entry,
    LabelEntry,
    Manifest,
    PolicyRef,
    digest_boolean,
    digest_line,
    load_bundle,
    policy_digest,
)
from shype.policy.model import Policy, Updates

BANKS = """\
shype: 1
policy: {name: banks, version: "1.0"}
coalitions: [bank-a, bank-b, market]
walls: {banks: [bank-a, bank-b]}
labels:
  manager:     {coalitions: all}
  bank-a-db:   {coalitions: [bank-a], wall: [bank-a]}
  bank-a-desk: {coalitions: [bank-a, market], wall: [bank-a]}
  bank-b-db:   {coalitions: [bank-b], wall: [bank-b]}
  bank-b-desk: {coalitions: [bank-b, market], wall: [bank-b]}
  market-data: {coalitions: [market]}
host: {dom0: manager}
vms: {a-db: bank-a-db, a-desk: bank-a-desk, b-db: bank-b-db, b-desk: bank-b-desk,
      market: market-data}
"""


def policy(directory: Path, text: str = BANKS) -> Policy:
    """The policy of ``text``, with spans in ``policy.yaml``."""
    file = directory / "policy.yaml"
    file.write_text(text)
    return load(file).policy


def context(type_: str) -> str:
    """The security context of a FLASK type."""
    return f"u:r:{type_}:s0"


def bundle(directory: Path, text: str = BANKS) -> Bundle:
    """A bundle directory as the compiler writes it, but for the FLASK policy itself, which
    the model does not read; loaded through the product's own check."""
    made = policy(directory, text)
    names = [label.name for label in made.guests]
    types = {name: f"l_{name.replace('-', '_')}_t" for name in names}
    policy_json = canonical.dumps(policy_to_json(made))
    cil = b"(handleunknown deny)\n"
    digest = policy_digest(policy_json, "xen-4.17", cil)
    content = {
        "policy.json": policy_json, "policy.cil": cil + digest_line(digest), "policy.bin": b"bin",
    }
    manifest = Manifest(
        target="xen-4.17", digest=digest,
        policy=PolicyRef(made.name, made.version, made.source),
        files={name: canonical.digest(data) for name, data in content.items()},
        labels={n: LabelEntry(types[n], context(types[n]), i) for i, n in enumerate(names)},
        dom0=Dom0Entry(made.host.dom0, "dom0_t", context("dom0_t")),
        booleans=Booleans(
            "win_en", tuple(f"win_b{i}" for i in range(max(1, (len(names) - 1).bit_length()))),
            {m: f"run_{m.replace('-', '_')}" for m in sorted(made.members)},
            digest_boolean(digest),
            tuple(f"vec_b{i}" for i in range(max(1, (len(made.vectors) - 1).bit_length())))
            if made.vectors else (),
            "load_open" if made.host.updates is Updates.LIVE else None,
        ),
        retired={name: f"l_{name.replace('-', '_')}_t" for name in made.retired},
        validation=None,
    )
    target = directory / "bundle"
    target.mkdir(exist_ok=True)
    for name, data in content.items():
        (target / name).write_bytes(data)
    (target / "manifest.json").write_bytes(canonical.dumps(manifest.to_json()))
    return load_bundle(target)


def config(directory: Path, name: str, extra: str = "") -> Path:
    """A VM configuration."""
    file = directory / f"{name}.cfg"
    file.write_text(f'name = "{name}"\nmemory = 128\nkernel = "/boot/vmlinuz"\n{extra}\n')
    return file


def host(directory: Path, text: str = BANKS, *, build_seconds: float = 0) -> Agent:
    """An agent on a model that persists in ``directory``."""
    made = bundle(directory, text)
    model = ModelHypervisor(made, directory / "model.json", build_seconds)
    return Agent(made, model, directory / "state")


def model(agent: Agent) -> ModelHypervisor:
    """The model that ``agent`` runs on."""
    assert isinstance(agent.hypervisor, ModelHypervisor)
    return agent.hypervisor

"""Computes reference values from what they are about: bundles, boots, agents, golden evidence.

No value is ever typed by hand (a value with a typing error would be looked for on every host).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass

from shype.attest import boot_reference
from shype.attest.event_log import SIZE
from shype.attest.evidence import Evidence
from shype.attest.host_events import Kind
from shype.attest.reference import ALWAYS, ANY, Boot, References, Rule, Window
from shype.base import canonical
from shype.base.errors import BadInput
from shype.host.attest_result import AttestedPolicy, Verdict
from shype.policy import grammar
from shype.policy.manifest import Bundle

#: Registers of the firmware that machines of one kind share: its code, option ROMs, keys. The
#: others (1, 5, 6) hold what differs from machine to machine, such as the boot order.
FIRMWARE = (0, 2, 3, 7)


@dataclass(frozen=True, slots=True)
class PolicyWindow:
    """A policy that hosts may have in ``window``; ``rollback``: after a newer one, too."""

    bundle: Bundle
    window: Window = ALWAYS
    rollback: bool = False


def build(
    name: str, *, policies: Iterable[PolicyWindow], boots: Iterable[Boot],
    firmware: Iterable[Boot], agents: Iterable[str], maintenance: Iterable[Window] = (),
) -> References:
    """The document ``name``: hosts with one of ``boots`` on one of ``firmware``, running an agent
    with one of the digests ``agents`` and any of ``policies``; in the windows ``maintenance`` they
    may be permissive. Its serial grows with time.

    Raises BadInput: ``reference.name``; ``reference.no-bundle`` for boots of a policy that is none
    of ``policies``, as after a new build of it: no host that boots so would ever be trusted.
    """
    policies, boots = tuple(policies), tuple(boots)
    if not grammar.is_name(name):
        raise BadInput(
            "reference.name", f"{name!r} cannot name reference values",
            "use lower-case letters, digits and single hyphens, such as xen-hosts; the file is "
            "then NAME.ref",
        )
    signed = {policy.bundle.manifest.digest for policy in policies}
    for boot in boots:
        if boot.policy is not None and boot.policy.bundle not in signed:
            raise BadInput(
                "reference.no-bundle", f"there are boots of {boot.policy.name} "
                f"{boot.policy.version} ({boot.policy.bundle[:16]}), and no bundle with that "
                "digest: hosts that boot so would not be trusted",
                "give that very bundle with --bundle, or compute the boots anew from the ones that "
                "you sign: shype attest reference",
            )
    rules = [Rule(Kind.ENFORCEMENT, {"mode": "enforcing"})]
    for agent in agents:
        rules.append(Rule(Kind.AGENT, {"agent": agent}))
    for policy in policies:
        rules += policy_rules(policy)
    rules += [Rule(Kind.ENFORCEMENT, {"mode": "permissive"}, Verdict.MAINTENANCE, window)
              for window in maintenance]
    once = [rule for number, rule in enumerate(rules) if rule not in rules[:number]]
    return References(
        name, time.time_ns() // 1000, tuple(firmware), tuple(boots), tuple(once))


def unbooted(references: References) -> tuple[tuple[str, str], ...]:
    """Name and version of each policy that may be loaded and that no boot is of: it may come by an
    update, and its host fails at the next reboot."""
    booted = {boot.policy.bundle for boot in references.boots if boot.policy is not None}
    return tuple(
        (rule.values["name"], rule.values["version"]) for rule in references.rules
        if rule.kind is Kind.POLICY and rule.values["bundle"] not in booted)


def policy_rules(policy: PolicyWindow) -> list[Rule]:
    """What a host with this policy may measure: loading it, vectors, VMs of its labels, TPMs."""
    manifest = policy.bundle.manifest
    load = Rule(Kind.POLICY, {
        "name": manifest.policy.name, "version": manifest.policy.version,
        "bundle": manifest.digest, "module": manifest.files["policy.bin"],
    }, window=policy.window, rollback=policy.rollback)
    # Which image a label may boot is the policy's own matter, and the agent enforces it.
    launches = [Rule(Kind.LAUNCH, {"label": label, "image": ANY}) for label in manifest.labels]
    vectors = [Rule(Kind.VECTOR, {"vector": vector}) for vector in policy.bundle.policy.vectors]
    tpms = [Rule(Kind.TPM, {"vm": ANY, "uuid": ANY, "label": name, "ek": ANY})
            for name, label in policy.bundle.policy.labels.items() if label.vtpm]
    return [load, *launches, *tpms, *vectors]


def observed(what: str, golden: Evidence, pcrs: Iterable[int]) -> Boot:
    """The registers ``pcrs`` as a host shows them whose evidence has been found genuine.

    For what cannot be computed from files: firmware. Raises BadInput (``reference.observed``).
    """
    missing = sorted(set(pcrs) - golden.pcrs.keys())
    if missing:
        raise BadInput(
            "reference.observed", f"the evidence says nothing of the registers {missing}",
            "challenge the host over them: shype attest challenge NAME --observe",
        )
    return Boot(what, {pcr: golden.pcrs[pcr] for pcr in pcrs})


def read_boots(data: bytes, name: str, window: Window = ALWAYS) -> tuple[Boot, ...]:
    """The boots that `shype attest reference` has computed. Raises BadInput
    (``reference.corrupt``)."""
    return tuple(
        Boot(
            f"{of.policy} {of.version}, {boot.kind}" + (f" ({boot.other})" if boot.other else ""),
            {pcr: bytes.fromhex(value) for pcr, value in boot.pcrs.items()},
            AttestedPolicy(of.policy, of.version, of.bundle), window=window,
        )
        for of in boot_reference.loads(data, name) for boot in of.boots)


def firmware_out(boot: Boot) -> bytes:
    """An observed firmware as a file, for who signs reference values."""
    return canonical.dumps({
        "firmware": boot.what, "pcrs": {str(pcr): value.hex() for pcr, value in boot.pcrs.items()}})


def read_firmware(data: bytes, name: str) -> Boot:
    """The inverse of `firmware_out`. Raises BadInput (``reference.no-firmware``)."""
    try:
        value = json.loads(data)
        boot = Boot(value["firmware"], {
            int(pcr): bytes.fromhex(found) for pcr, found in value["pcrs"].items()})
        if firmware_out(boot) != data or any(len(found) != SIZE for found in boot.pcrs.values()):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadInput("reference.no-firmware", f"{name} is no firmware that was observed",
                       "`shype attest observe` on the verifier writes it") from error
    return boot

"""The scenario on the in-process model: the same launch code, but nothing is enforced.

For machines on which the lab cannot run.  Channels are decided by the security server,
so they agree with the policy by construction; the launch window, the wall and root's
attempts behind shype's back do go through the agent's real code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from shype.base import canonical
from shype.compile.flask import encoding
from shype.demo.scenario import Outcome, Pair, with_rule
from shype.host.agent import Agent
from shype.host.denials import denials
from shype.host.drivers.model import ModelHypervisor
from shype.host.hypervisor import CreateFailed
from shype.host.launch import launch
from shype.host.stop import stop
from shype.lab.probe import SHARING, Way
from shype.policy.bundle import policy_to_json
from shype.policy.manifest import Bundle, Manifest, PolicyRef
from shype.policy.model import Policy
from shype.policy.names import LabelName, VmId


def model_bundle(policy: Policy, directory: Path) -> Bundle:
    """How a hypervisor would know ``policy``, without compiling it: nothing will load it."""
    digest = canonical.digest(canonical.dumps(policy_to_json(policy)))
    manifest = Manifest(
        target="model", digest=digest, policy=PolicyRef(policy.name, policy.version, policy.source),
        files={}, labels=encoding.label_entries(policy), dom0=encoding.dom0_entry(policy),
        booleans=encoding.booleans(policy, digest), validation=None,
        retired=encoding.retired_types(policy),
    )
    return Bundle(policy, manifest, directory)


class ModelStage:
    """Implements `shype.demo.scenario.Stage`; ``state`` is a scratch directory."""

    def __init__(self, bundle: Bundle, state: Path) -> None:
        self._bundle = bundle
        self._state = state
        self._model = ModelHypervisor(bundle, state / "model.json")
        self._agent = Agent(bundle, self._model, state)

    def launch(self, vm: VmId) -> Outcome:
        """See the protocol."""
        config = self._state / f"{vm}.cfg"
        config.write_text(f'name = "{vm}"\n')
        outcome = launch(self._agent, config)
        result = "permitted" if outcome.domid is not None else "denied"
        by = "model" if outcome.domid is not None else str(outcome.source)
        decision = outcome.decision
        words = with_rule(decision.sentence, decision.rules[:1])
        return Outcome(result, by, words, decision.id)

    def launch_behind(self, tries: Sequence[tuple[VmId, LabelName | None]]) -> list[Outcome]:
        """See the protocol."""
        return [self._create(vm, label) for vm, label in tries]

    def _create(self, vm: VmId, label: LabelName | None) -> Outcome:
        context = None if label is None else self._bundle.manifest.labels[label].context
        try:
            self._model.create(vm, context)
        except CreateFailed:
            last = denials(self._agent)[-1]
            if last.decision is None:
                return Outcome("denied", "model", last.denial.raw)
            words = with_rule(last.decision.sentence, last.decision.rules[:1])
            return Outcome("denied", "model", words, last.decision.id)
        return Outcome("permitted", "model", "the model let it start")

    def probe(self, vms: Sequence[VmId]) -> Mapping[Pair, Mapping[Way, Outcome]]:
        """See the protocol."""
        return {(a, b): self._reach(a, b) for a in vms for b in vms if a != b}

    def _reach(self, source: VmId, target: VmId) -> Mapping[Way, Outcome]:
        domids = {domain.name: domain.domid for domain in self._model.domains()}
        outcomes: dict[Way, Outcome] = {}
        for way in SHARING:
            who, whom = (target, source) if way.pulled else (source, target)
            decision = self._model.attempt(domids[who], domids[whom], way.operation)
            result = "permitted" if decision.permitted else "denied"
            words = with_rule(decision.sentence, decision.rules[:1])
            outcomes[way] = Outcome(result, "model", words, decision.id)
        return outcomes

    def stop(self, vm: VmId) -> None:
        """See the protocol."""
        stop(self._agent, vm, force=True, timeout=0)

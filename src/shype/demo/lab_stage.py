"""The scenario on the lab's hypervisor: real guests, started through shype in dom0."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from shype.base.errors import Unavailable
from shype.demo.scenario import STRAY, Outcome, Pair, with_rule
from shype.host.denials import UNLABELLED_TYPE
from shype.lab import guests, probe
from shype.lab.host import Lab
from shype.lab.probe import Result, Way
from shype.policy.manifest import Bundle
from shype.policy.model import Policy
from shype.policy.names import LabelName, VmId

#: The words and the rule of a denial by the hypervisor, as `shype denials` explains it.
Refusal: TypeAlias = tuple[str, str]

#: FLASK's class for each way between two guests.
CLASSES = {
    Way.EVENT: "event", Way.ARGO: "argo", Way.GRANT_MAP_RO: "grant", Way.GRANT_MAP_RW: "grant",
    Way.GRANT_COPY_FROM: "grant", Way.GRANT_COPY_TO: "grant",
}
CONFIGS = "/etc/xen/vms"
#: Seconds for one command in dom0 under emulation on a busy machine.
LIMIT = 180


def configurations(policy: Policy) -> dict[str, str]:
    """xl configurations of all VMs of the scenario, by path in dom0."""
    names = [*policy.assignments, STRAY]
    return {f"{CONFIGS}/{vm}.cfg": guests.config(vm) for vm in names}


class LabStage:
    """Implements `shype.demo.scenario.Stage` on a running lab."""

    def __init__(self, bundle: Bundle, lab: Lab) -> None:
        self._bundle = bundle
        self._lab = lab

    def launch(self, vm: VmId) -> Outcome:
        """See the protocol."""
        code, answer = self._shype("run", f"{CONFIGS}/{vm}.cfg")
        if code not in (0, 1):
            return Outcome("error", "agent", f"{answer['message']} [{answer['error']}]")
        decision = answer["decision"]
        assert isinstance(decision, dict)
        words = _explained(decision)
        if code == 0:
            return Outcome("permitted", "hypervisor", words, str(decision["id"]))
        return Outcome("denied", str(answer["source"]), words, str(decision["id"]))

    def launch_behind(self, tries: Sequence[tuple[VmId, LabelName | None]]) -> list[Outcome]:
        """See the protocol."""
        failures: list[str | None] = []
        for number, (vm, label) in enumerate(tries):
            context = None if label is None else self._bundle.manifest.labels[label].context
            name = f"behind{number}-{vm}"
            self._lab.put(f"/run/{name}.cfg", guests.config(name, seclabel=context))
            done = self._lab.run(["xl", "create", f"/run/{name}.cfg"], LIMIT)
            failures.append(None if done.code == 0 else done.err.strip()[-300:])
            if done.code == 0:
                self._lab.run(["xl", "destroy", name], LIMIT)
        refusals = self._refused_creations()
        return [
            self._behind(label, failure, refusals)
            for (_, label), failure in zip(tries, failures, strict=True)
        ]

    def _behind(
        self, label: LabelName | None, failure: str | None, refusals: Mapping[str, Refusal]
    ) -> Outcome:
        """Denied only if the hypervisor's own denial for that very context is there."""
        if failure is None:
            return Outcome("permitted", "hypervisor", "Xen created it")
        kind = UNLABELLED_TYPE if label is None else self._bundle.manifest.labels[label].type
        if kind in refusals:
            return Outcome("denied", "hypervisor", *refusals[kind])
        return Outcome("error", "xl", failure)

    def probe(self, vms: Sequence[VmId]) -> Mapping[Pair, Mapping[Way, Outcome]]:
        """See the protocol."""
        probe.wait_for(self._lab.run, vms)
        attempts = probe.probe_matrix(self._lab.run, vms, probe.SHARING)
        refusals = refused_channels(self._denials())
        found: dict[Pair, dict[Way, Outcome]] = {}
        for tried in attempts:
            pair = (VmId(tried.source), VmId(tried.target))
            labels = frozenset(self._bundle.policy.assignments[vm].label for vm in pair)
            refused = (labels, CLASSES[tried.mechanism])
            why = refusals.get(refused, ("", "")) if tried.result is Result.DENIED else ("", "")
            outcome = Outcome(tried.result.value, "hypervisor", *why)
            found.setdefault(pair, {})[tried.mechanism] = outcome
        return found

    def stop(self, vm: VmId) -> None:
        """See the protocol."""
        code, answer = self._shype("stop", vm, "--force")
        if code != 0:
            raise Unavailable(str(answer["error"]), str(answer["message"]), str(answer["fix"]))

    def _shype(self, *words: str) -> tuple[int, dict[str, object]]:
        done = self._lab.run(["shype", *words, "--json"], LIMIT)
        try:
            value = json.loads(done.out)
        except ValueError as error:
            text = (done.err or done.out).strip()[-600:]
            raise Unavailable("demo.answer", f"shype in dom0 said no JSON: {text}") from error
        assert isinstance(value, dict)
        return done.code, value

    def _refused_creations(self) -> dict[str, Refusal]:
        """FLASK type -> why, for each creation that the hypervisor's console shows as denied."""
        return {
            str(item["target"]["context"]).split(":")[2]: _refusal(item)
            for item in self._denials()
            if item["class"] == "domain" and "create" in item["permissions"]
        }

    def _denials(self) -> list[dict[str, Any]]:
        code, answer = self._shype("denials")
        if code != 0:
            raise Unavailable(str(answer["error"]), str(answer["message"]))
        found = answer["denials"]
        assert isinstance(found, list)
        return found


def refused_channels(
    found: Sequence[Mapping[str, Any]]
) -> dict[tuple[frozenset[LabelName], str], Refusal]:
    """Two labels and a class -> why the hypervisor refused a channel, by its own lines.

    ``found``: what `shype denials --json` lists. Labels are without order: who is named first
    in a line depends on who maps and who grants. So where levels or a guard refuse one
    direction by one rule and the other by another, no rule is named.
    """
    refusals: dict[tuple[frozenset[LabelName], str], Refusal] = {}
    for item in found:
        key = frozenset((item["source"]["label"], item["target"]["label"])), str(item["class"])
        words, rule = _refusal(item)
        first = refusals.setdefault(key, (words, rule))
        if first[1] != rule:
            refusals[key] = ("", "")
    return refusals


def _refusal(denial: Mapping[str, object]) -> Refusal:
    decision = denial["decision"]
    if isinstance(decision, dict):
        return _explained(decision), str(decision["id"])
    return str(denial["raw"]), ""


def _explained(decision: Mapping[str, object]) -> str:
    rules = decision["rules"]
    assert isinstance(rules, list)
    return with_rule(str(decision["sentence"]), rules[:1])

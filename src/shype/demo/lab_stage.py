"""The scenario on the lab's hypervisor: real guests, started through shype in dom0."""

from __future__ import annotations

import json
from collections.abc import Mapping

from shype.base.errors import Unavailable
from shype.demo.scenario import STRAY, Outcome
from shype.lab import guests, probe
from shype.lab.host import Lab
from shype.lab.probe import Way
from shype.policy.manifest import Bundle
from shype.policy.model import Policy
from shype.policy.names import LabelName, VmId

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
        self._seen = 0

    def launch(self, vm: VmId) -> Outcome:
        """See the protocol."""
        code, answer = self._shype("run", f"{CONFIGS}/{vm}.cfg")
        if code not in (0, 1):
            return Outcome("error", "agent", f"{answer['message']} [{answer['error']}]")
        decision = answer["decision"]
        assert isinstance(decision, dict)
        words = str(decision["sentence"])
        if code == 0:
            return Outcome("permitted", "hypervisor", words)
        return Outcome("denied", str(answer["source"]), words)

    def launch_behind(self, vm: VmId, label: LabelName | None) -> Outcome:
        """See the protocol."""
        context = None if label is None else self._bundle.manifest.labels[label].context
        path = f"/run/behind-{vm}.cfg"
        self._lab.put(path, guests.config(f"behind-{vm}", seclabel=context))
        self._new_denials()
        done = self._lab.run(["xl", "create", path], LIMIT)
        if done.code == 0:
            self._lab.run(["xl", "destroy", f"behind-{vm}"], LIMIT)
            return Outcome("permitted", "hypervisor", "Xen created it")
        for denial in self._new_denials():
            if denial["class"] == "domain" and "create" in _strings(denial["permissions"]):
                return Outcome("denied", "hypervisor", _words(denial))
        return Outcome("error", "xl", done.err.strip()[-300:])

    def probe(self, source: VmId, target: VmId) -> Mapping[Way, Outcome]:
        """See the protocol."""
        probe.wait_for(self._lab.run, [source, target])
        tried = probe.probe_pair(self._lab.run, source, target, probe.SHARING)
        return {a.mechanism: Outcome(a.result.value, "hypervisor", "") for a in tried}

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

    def _new_denials(self) -> list[dict[str, object]]:
        """What the hypervisor denied since the last call, explained by the agent in dom0."""
        code, answer = self._shype("denials")
        if code != 0:
            raise Unavailable(str(answer["error"]), str(answer["message"]))
        found = answer["denials"]
        assert isinstance(found, list)
        times = sum(int(item["times"]) for item in found)
        fresh, self._seen = times - self._seen, times
        return list(reversed(found))[: max(fresh, 0)]


def _words(denial: Mapping[str, object]) -> str:
    decision = denial["decision"]
    return str(decision["sentence"]) if isinstance(decision, dict) else str(denial["raw"])


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []

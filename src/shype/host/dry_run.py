"""What would happen if a VM were started: every decision about it, none carried out.

After `xm dry-run` of sHype, which asked about labels and disks only; this asks
about authorization, the wall, networks and devices too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shype.base.errors import BadInput
from shype.decision.decision import Decision
from shype.decision.frames import Frames
from shype.decision.resources import Access
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.host.drivers.xen import config_file
from shype.host.hypervisor import VmConfig
from shype.host.labeling import Labelling, label_for
from shype.policy.manifest import Manifest
from shype.policy.model import ResourceKind


@dataclass(frozen=True, slots=True)
class Question:
    """One decision: ``about`` is ``label``, ``launch``, or a resource as ``disk /dev/x (read)``."""

    about: str
    decision: Decision

    def to_json(self) -> dict[str, object]:
        """The shape in ``shype dry-run --json``."""
        return {"about": self.about, **self.decision.to_json()}


@dataclass(frozen=True, slots=True)
class DryRun:
    """All that was asked. ``label`` is None if the VM gets none, and then nothing else is asked."""

    vm: str
    labelling: Labelling
    questions: tuple[Question, ...]

    @property
    def passed(self) -> bool:
        """Whether the VM would start and have all that its configuration names."""
        return all(question.decision.permitted for question in self.questions)


def dry_run(
    server: SecurityServer, text: str, running: Sequence[Running], manifest: Manifest | None = None
) -> DryRun:
    """Decide about the VM of the configuration ``text`` beside the domains ``running``.

    Raises BadInput: ``config.syntax``, ``config.value`` or ``config.invalid`` for
    a configuration that is not understood, ``label.unknown``, ``label.ambiguous``,
    ``resource.name``; and UnknownRunning as `SecurityServer.launch`.
    """
    config = config_file.parse(text)
    vm = _vm(config)
    labelling = label_for(vm, server.policy, manifest)
    if labelling.label is None:
        assert labelling.refusal is not None
        return DryRun(vm.name, labelling, (Question("label", labelling.refusal),))
    asked = [Question("launch", server.launch(labelling.label, running))]
    for use in config_file.uses(config):
        access = Access.READ_WRITE if use.write else Access.READ
        if use.kind is ResourceKind.NETWORK:
            decision = Frames(server, use.name).joins(labelling.label)
        else:
            decision = server.use(labelling.label, use.kind, use.name, access)
        asked.append(Question(f"{use.kind} {use.name} ({access})", decision))
    return DryRun(vm.name, labelling, tuple(asked))


def _vm(config: dict[str, config_file.Value]) -> VmConfig:
    name = config_file.word(config, "name")
    if name is None:
        raise BadInput("config.invalid", "the configuration gives the VM no name", 'name = "vm"')
    seclabel = config_file.word(config, "seclabel")
    first = config_file.word(config, "init_seclabel")
    if seclabel is None:
        seclabel, first = first, None  # as xl: one label alone is the VM's
    return VmConfig(
        name, config_file.word(config, "uuid") or "", seclabel, first,
        config_file.word(config, "device_model_stubdomain_seclabel"),
    )

"""A policy of shype as XML of Xen's ACM, in its last schema.

What ACM cannot say becomes a finding.  A finding is *lossy* if ACM would then
permit more than the policy; everything else that is lost makes it permit less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from shype.base.errors import BadInput
from shype.policy.acm.findings import Id, error, warning
from shype.policy.acm.model import UNLABELED
from shype.policy.acm.names import assign
from shype.policy.acm.structure import NAMESPACE
from shype.policy.findings import show
from shype.policy.mechanism import Mechanism
from shype.policy.model import Label, Policy, Resource, ResourceKind, ResourceLabel
from shype.policy.names import UNLABELED as UNLABELED_LABEL
from shype.policy.names import UNLABELED_RESOURCE, CoalitionName
from shype.policy.source import Finding, Span

#: What a common type opens in ACM: two by the hypervisor, two by its tools.
_ACM_OPENS = frozenset({
    Mechanism.EVENT, Mechanism.GRANT, Mechanism.DISK, Mechanism.NETWORK,
})


@dataclass(frozen=True, slots=True)
class Exported:
    """The XML, and what it does not say; ``lossy`` are those by which ACM would permit more."""

    text: str
    findings: tuple[Finding, ...]
    lossy: tuple[Finding, ...]


def export(policy: Policy, *, lossy: bool = False) -> Exported:
    """``policy`` as XML.

    Raises BadInput ``acm.lossy`` if ACM would permit more than the policy and
    ``lossy`` is false, ``acm.version`` for a version that ACM cannot hold.
    """
    if any(len(number) > 8 for number in policy.version.split(".")):
        raise BadInput(
            "acm.version", f"ACM's versions have at most eight digits: {policy.version}",
            "choose a lower version",
        )
    made = _Export(policy)
    text = made.text()
    more = tuple(made.lossy)
    if more and not lossy:
        first = more[0]
        others = f" (and {len(more) - 1} more)" if len(more) > 1 else ""
        raise BadInput(
            "acm.lossy", f"ACM would permit more than the policy: {first.span}: {first.message}"
            f"{others}", f"{first.fix}; or export with --lossy, knowing what is lost",
        )
    findings = tuple(sorted((*made.findings, *more), key=lambda f: (f.span, f.id)))
    return Exported(text, findings, more)


class _Export:
    """Judges and writes, section by section."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.findings: list[Finding] = []
        self.lossy: list[Finding] = []
        self._closed = frozenset(
            name for name, coalition in policy.coalitions.items()
            if not coalition.mechanisms & _ACM_OPENS
        )
        self._order = {name: index for index, name in enumerate(policy.coalitions)}
        self._labels = [
            label for name, label in policy.labels.items() if name not in policy.guards
        ]
        own = assign(
            [f"{policy.host.dom0}", "inaccessible", *(f"{n} alone" for n in policy.labels)],
            taken=[*policy.coalitions, *policy.members],
        )
        self._dom0_type = own[policy.host.dom0]
        self._nobody = own["inaccessible"]
        self._alone = {name: own[f"{name} alone"] for name in policy.labels}
        self._types: dict[str, None] = dict.fromkeys(
            name for name in policy.coalitions if name not in self._closed
        )

    def _lost(self, id: Id, span: Span, message: str, fix: str, *, more: bool = False) -> None:
        if more:
            self.lossy.append(error(id, span, message, fix))
        else:
            self.findings.append(warning(id, span, message, fix))

    def text(self) -> str:
        """The document."""
        self._judge()
        subjects = self._subjects()
        objects = self._objects()
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f"<SecurityPolicyDefinition xmlns={quoteattr(NAMESPACE)}>",
            *self._header(),
            "  <SimpleTypeEnforcement>", *_types("SimpleTypeEnforcementTypes", [*self._types], 4),
            "  </SimpleTypeEnforcement>", *self._chinese_wall(),
            "  <SecurityLabelTemplate>", *subjects, *objects, "  </SecurityLabelTemplate>",
            "</SecurityPolicyDefinition>",
        ]
        return "\n".join(lines) + "\n"

    # -- what ACM cannot say ------------------------------------------------------------------

    def _judge(self) -> None:
        policy = self._policy
        for lattice, name in ((policy.levels, "levels"), (policy.integrity, "integrity")):
            if lattice is not None:
                self._lost(
                    Id.EXPORT_LEVELS, lattice.span, f"ACM has no {name}: labels with a common "
                    "type would share both ways", f"export a policy without `{name}`", more=True,
                )
        for guard in policy.guards.values():
            self._lost(
                Id.EXPORT_GUARD, guard.span, f"ACM has no guards; {show(guard.name)} is left out, "
                "and its VMs do not start", "leave such VMs to a host that shype controls",
            )
        for coalition in policy.coalitions.values():
            missing = _ACM_OPENS - coalition.mechanisms
            if missing and coalition.name not in self._closed:
                self._lost(
                    Id.EXPORT_MECHANISMS, coalition.span,
                    f"the coalition {show(coalition.name)} closes {_listed(missing)}, and a type "
                    "of ACM opens all", "open all mechanisms", more=True,
                )
            if coalition.was is not None:
                self._renamed(coalition.span, "coalitions", coalition.was)
        for wall in policy.walls.values():
            if wall.was is not None:
                self._renamed(wall.span, "walls", wall.was)
        for label in self._labels:
            missing = _ACM_OPENS - label.mechanisms
            if missing and label.coalitions - self._closed:
                self._lost(
                    Id.EXPORT_MECHANISMS, label.span,
                    f"the label {show(label.name)} switches {_listed(missing)} off, and ACM "
                    "cannot", "switch all mechanisms on", more=True,
                )
        for tomb in policy.retired.values():
            self._lost(
                Id.EXPORT_RETIRED, tomb.span, f"ACM has no retired labels; {show(tomb.name)} is "
                "left out", "stop the VMs that carry it",
            )
        for assignment in policy.assignments.values():
            name = self._spelled(assignment.label)
            self._lost(
                Id.EXPORT_ASSIGNMENT, assignment.span,
                f"ACM's XML does not say that the VM {show(assignment.vm)} has the label "
                f"{show(name)}", "write in its configuration: "
                f"access_control = ['policy={policy.name},label={name}']",
            )
        for resource in policy.resources:
            self._entry(resource)

    def _renamed(self, span: Span, what: str, was: str) -> None:
        self._lost(
            Id.EXPORT_RENAME, span, f"ACM renames no {what}; that this was {show(was)} is left out",
            "nothing: it decides nothing",
        )

    def _entry(self, resource: Resource) -> None:
        label = resource.label.name
        fix = "leave such resources to a host that shype controls"
        if label is not None and resource.kind is ResourceKind.DISK:
            fix = f"run on the host: xm addlabel {self._spelled(label)} res phy:{resource.pattern}"
        self._lost(
            Id.EXPORT_RESOURCE, resource.span,
            f"ACM's XML does not say which resources have a label; {resource.kind} "
            f"{show(resource.pattern)} is left out", fix,
        )

    # -- sections -----------------------------------------------------------------------------

    def _header(self) -> list[str]:
        policy = self._policy
        lines = ["  <PolicyHeader>", f"    <PolicyName>{escape(policy.name)}</PolicyName>",
                 f"    <Version>{policy.version}</Version>"]
        if policy.replaces is not None:
            lines += [
                "    <FromPolicy>", f"      <PolicyName>{policy.was or policy.name}</PolicyName>",
                f"      <Version>{policy.replaces}</Version>", "    </FromPolicy>",
            ]
        return [*lines, "  </PolicyHeader>"]

    def _chinese_wall(self) -> list[str]:
        declared = dict.fromkeys(
            member for wall in self._policy.walls.values() for member in sorted(wall.members)
        )
        lines = ['  <ChineseWall priority="PrimaryPolicyComponent">',
                 *_types("ChineseWallTypes", [*declared, self._dom0_type], 4)]
        if self._policy.walls:
            lines.append("    <ConflictSets>")
            for wall in self._policy.walls.values():
                lines.append(f"      <Conflict name={quoteattr(wall.name)}>")
                lines += [f"        <Type>{escape(m)}</Type>" for m in sorted(wall.members)]
                lines.append("      </Conflict>")
            lines.append("    </ConflictSets>")
        return [*lines, "  </ChineseWall>"]

    def _subjects(self) -> list[str]:
        dom0 = self._policy.host.dom0
        lines = [f"    <SubjectLabels bootstrap={quoteattr(self._spelled(dom0))}>"]
        for label in self._labels:
            walls = [self._dom0_type] if label.name == dom0 else [*sorted(label.members)]
            lines += ["      <VirtualMachineLabel>", self._name(label.name, label.was)]
            lines += _types("SimpleTypeEnforcementTypes", self._row(label), 8)
            lines += _types("ChineseWallTypes", walls, 8)
            lines.append("      </VirtualMachineLabel>")
        return [*lines, "    </SubjectLabels>"]

    def _row(self, label: Label) -> list[str]:
        """A label's types, in the policy's order.

        A closed coalition that dom0 lacks keeps the label from starting: so does a type that
        only this label has.  A label without types does not start either.
        """
        policy = self._policy
        host = policy.labels[policy.host.dom0]
        shared = label.coalitions - self._closed
        row: list[str] = [*sorted(shared, key=self._order.__getitem__)]
        if label.name == host.name:
            return row
        barred = (label.coalitions & self._closed) - host.coalitions
        if row and barred:
            row.append(self._alone[label.name])
            self._types[row[-1]] = None
        if not row and not barred:
            self._lost(
                Id.EXPORT_NO_COALITION, label.span,
                f"the label {show(label.name)} has no coalition that ACM can say: dom0 shares no "
                "type with it, so that ACM does not start its VMs", "give it a coalition of its "
                "own, if two VMs of this label may share",
            )
        return row

    def _objects(self) -> list[str]:
        lines = []
        for label in self._policy.resource_labels.values():
            name = label.name
            assert name is not None, "only entries of `resources` have labels without a name"
            if name == UNLABELED_RESOURCE and not self._unlabeled(label):
                continue
            lines += ["      <ResourceLabel>", self._name(name, label.was)]
            lines += _types("SimpleTypeEnforcementTypes", [self._type(label)], 8)
            lines.append("      </ResourceLabel>")
        return ["    <ObjectLabels>", *lines, "    </ObjectLabels>"] if lines else []

    def _type(self, label: ResourceLabel) -> str:
        """The one type that ACM's schema allows a resource."""
        types = self._usable(label)
        lost = label.coalitions & self._closed
        if lost and not label.inaccessible:
            self._lost(
                Id.EXPORT_RESOURCE, label.span,
                f"the resource label {show(str(label.name))} has {_listed(lost)}, which opens "
                "nothing between VMs; ACM has no such type, and whoever is in it loses the "
                "resource", "give the label a coalition that opens mechanisms",
            )
        if not types:
            self._types[self._nobody] = None
            return self._nobody
        if len(types) > 1 and label.name != UNLABELED_RESOURCE:  # of that one it is said already
            self._lost(
                Id.EXPORT_RESOURCE, label.span,
                f"the resource label {show(str(label.name))} has {len(types)} coalitions, and in "
                f"ACM one: it gets {show(types[0])}", "split it into one label for each coalition",
            )
        return types[0]

    def _usable(self, label: ResourceLabel) -> list[CoalitionName]:
        if label.inaccessible:
            return []
        return sorted(label.coalitions - self._closed, key=self._order.__getitem__)

    def _unlabeled(self, label: ResourceLabel) -> bool:
        """Judge the label of resources without one: ACM takes the VM label's row for it.

        Returns whether it is written; if not, nobody may use such resources.
        """
        types = self._usable(label)
        vms = self._policy.labels.get(UNLABELED_LABEL)
        row = frozenset(self._row_of(vms)) if vms is not None else frozenset[str]()
        if not types:
            return False
        if frozenset(types) != row or len(types) > 1:
            more = not row <= frozenset(types)
            self._lost(
                Id.EXPORT_UNLABELED, label.span,
                "resources without a label get in ACM what VMs without a label have, "
                f"{_listed(row) if row else 'nothing'}, and here {_listed(types)}",
                "give `unlabeled` the same coalition in both sections, and one only", more=more,
            )
        return True

    def _row_of(self, label: Label) -> list[str]:
        return [n for n in label.coalitions if n not in self._closed]

    def _spelled(self, name: str) -> str:
        return UNLABELED if name == UNLABELED_LABEL else name

    def _name(self, name: str, was: str | None) -> str:
        before = f" from={quoteattr(self._spelled(was))}" if was is not None else ""
        return f"        <Name{before}>{escape(self._spelled(name))}</Name>"


def _types(tag: str, names: Sequence[str], indent: int) -> list[str]:
    """A list of types; nothing for none, as the schema wants at least one."""
    if not names:
        return []
    blank = " " * indent
    inner = [f"{blank}  <Type>{escape(name)}</Type>" for name in names]
    return [f"{blank}<{tag}>", *inner, f"{blank}</{tag}>"]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(str, names)))


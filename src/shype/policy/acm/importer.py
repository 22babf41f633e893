"""An ACM policy in shype's language, such that it decides the same.

Where the language cannot say the same, the new policy denies more, never less,
and a finding names the case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shype.base.errors import Internal
from shype.policy import loader
from shype.policy.acm import header, reader, writer, xml
from shype.policy.acm.findings import Id, warning
from shype.policy.acm.meaning import Meaning, understand
from shype.policy.acm.model import UNLABELED, AcmPolicy, Name
from shype.policy.acm.names import assign, fold
from shype.policy.acm.renames import renames
from shype.policy.acm.sketch import Line, Sketch
from shype.policy.acm.starting import Starting
from shype.policy.findings import show
from shype.policy.model import Policy
from shype.policy.names import UNLABELED as UNLABELED_LABEL
from shype.policy.reading import shown
from shype.policy.source import Finding

_NEVER = "never-starts"
_EVERYONE = "everyone"


@dataclass(frozen=True, slots=True)
class Imported:
    """The new policy's text, its model, what was found in the old one, and who is called what."""

    text: str
    policy: Policy
    findings: tuple[Finding, ...]
    sketch: Sketch
    generation: str


def import_files(paths: Sequence[Path]) -> Imported:
    """Import the files of one ACM policy. Raises AcmUnreadable (exit code 2)."""
    return import_documents([(xml.read(path), shown(path)) for path in paths])


def import_documents(documents: Sequence[tuple[bytes, str]]) -> Imported:
    """As `import_files`, for contents with the names that findings shall show.

    Raises AcmUnreadable for anything that is not such a policy.
    """
    policy, about_structure = reader.read(documents)
    meaning, about_meaning = understand(policy)
    case = _Import(policy, meaning, len(documents))
    sketch = case.sketch()
    findings = tuple(sorted(
        (*about_structure, *about_meaning, *case.findings),
        key=lambda f: ([name for _, name in documents].index(f.span.file), f.span, f.id),
    ))
    files = [file for _, file in documents]
    text = writer.text(sketch, findings, files, policy.generation)
    read, problems = loader.check_text(text, "imported policy")
    if read is None:
        raise Internal(
            "acm.import-invalid",
            f"the imported policy is not valid, which is a defect of shype: {problems[0]}",
            "please report it, with the file",
        )
    return Imported(text, read, findings, sketch, policy.generation)


class _Import:
    """Gives every old name a new one and every rule its place."""

    def __init__(self, policy: AcmPolicy, meaning: Meaning, files: int) -> None:
        self._policy = policy
        self._files = files
        self._meaning = meaning
        self.findings: list[Finding] = []
        self._order = {name.text: index for index, name in enumerate(meaning.ste)}
        self._wall_order = {name.text: index for index, name in enumerate(meaning.chwall)}
        self._starting = Starting(meaning)
        self.findings += self._starting.findings
        self._coalitions = self._assign("STE type", meaning.ste, taken=("all",))
        self._labels = self._assign(
            "VM label", [s.name for s in meaning.subjects], {UNLABELED: UNLABELED_LABEL}
        )
        self._resources = self._assign(
            "resource label", [o.name for o in meaning.objects], {UNLABELED: UNLABELED_LABEL}
        )
        self._members = self._assign(
            "CHWALL type", [n for n in meaning.chwall if n.text in self._starting.excluding]
        )
        merged = assign(self._starting.merged_names, taken=self._members.values())
        self._merged = {members: merged[name] for members, name in self._starting.merged.items()}
        self._walls = self._conflict_names()
        taken = set(self._coalitions.values())
        self._never = next(iter(assign([_NEVER], taken=taken).values()))
        self._everyone = next(iter(assign([_EVERYONE], taken=taken).values()))

    def _assign(
        self, kind: str, names: Sequence[Name], fixed: dict[str, str] | None = None,
        taken: Sequence[str] = (),
    ) -> dict[str, str]:
        reserved = set((fixed or {}).values()) | set(taken)
        new = assign([name.text for name in names], fixed, taken)
        holders = {has: old for old, has in new.items()}
        for name in names:
            wanted = (fixed or {}).get(name.text) or fold(name.text)
            if new[name.text] != wanted:
                other = holders.get(wanted)
                why = f"`{wanted}` is a reserved word"
                if wanted not in reserved and other is not None:
                    why = f"{show(other)} has that name"
                self.findings.append(warning(
                    Id.NAME_COLLISION, name.span,
                    f"the {kind} {show(name.text)} becomes `{new[name.text]}` and not `{wanted}`, "
                    f"as {why}", "use the new name, or give it another one in the old file",
                ))
        return new

    def _conflict_names(self) -> list[tuple[str, str]]:
        """(old, new) of each conflict set; sets of one name are told apart by ``#2``."""
        count: dict[str, int] = {}
        keys, keyed = [], []
        for conflict in self._meaning.conflicts:
            text = conflict.name.text
            count[text] = count.get(text, 0) + 1
            keys.append(text if count[text] == 1 else f"{text}#{count[text]}")
            keyed.append(Name(keys[-1], conflict.name.span))
        new = self._assign("conflict set", keyed)
        said = {f.span for f in self.findings if f.id == Id.NAME_COLLISION}
        for key, conflict in zip(keys, self._meaning.conflicts, strict=True):
            if key != conflict.name.text and conflict.name.span not in said:
                self.findings.append(warning(
                    Id.NAME_COLLISION, conflict.name.span,
                    f"there is another conflict set {show(conflict.name.text)}; this one becomes "
                    f"`{new[key]}`", "use the new name",
                ))
        return [(key, new[key]) for key in keys]

    # -- sections -----------------------------------------------------------------------------

    def sketch(self) -> Sketch:
        """The whole policy."""
        head = header.read(self._policy)
        self.findings += head.findings
        dom0, extra = self._dom0()
        labels = (*extra, *self._label_lines())
        resources = self._resource_lines()
        used = {name for line in labels for name in line.coalitions}
        return Sketch(
            head.name, head.note, head.version, head.replaces, head.was,
            self._coalition_lines(used), self._wall_lines(), labels, resources, dom0,
            {
                "labels": self._labels, "resource-labels": self._resources,
                "coalitions": self._coalitions, "members": self._members,
                "walls": dict(self._walls),
            },
            tuple(
                name.text for name in self._meaning.chwall
                if name.text not in self._starting.excluding
            ),
        )

    def _from(self, name: Name) -> str:
        """The comment of an entry: the old name and its place."""
        file = name.span.file.replace("\\", "/").rpartition("/")[2]
        where = f"{file}:" if self._files > 1 else "line "
        return f"{name.text} ({where}{name.span.line})"

    def _coalition_lines(self, used: set[str]) -> tuple[Line, ...]:
        lines = [
            Line(self._coalitions[name.text], self._from(name)) for name in self._meaning.ste
        ]
        if self._everyone in used and self._meaning.open_sharing:
            lines.append(Line(self._everyone, "the policy had no STE: everybody shared"))
        if self._never in used or not lines:
            lines.append(Line(
                self._never, "opens nothing, and dom0 is not in it: keeps labels from starting",
                closed=True,
            ))
        return tuple(lines)

    def _wall_lines(self) -> tuple[Line, ...]:
        merged_by: dict[str, dict[str, None]] = {}
        for members, name in self._merged.items():
            for member in members:
                merged_by.setdefault(member, {})[name] = None
        lines = []
        for conflict, (_, new) in zip(self._meaning.conflicts, self._walls, strict=True):
            own = sorted(conflict.members, key=self._wall_order.__getitem__)
            merged = dict.fromkeys(name for t in own for name in merged_by.get(t, ()))
            lines.append(Line(
                new, self._from(conflict.name),
                members=(*(self._members[name] for name in own), *merged),
            ))
        return tuple(lines)

    def _label_lines(self) -> list[Line]:
        dom0, everybody = self._meaning.dom0, self._meaning.open_sharing
        was, findings = renames(
            "label", [(s.name, s.was) for s in self._meaning.subjects], self._labels
        )
        self.findings += findings
        lines = []
        for subject in self._meaning.subjects:
            name = subject.name.text
            is_dom0 = dom0 is not None and dom0.name.text == name and name != UNLABELED
            coalitions = [self._everyone] if everybody else self._shares(subject.ste)
            if not is_dom0 and name in self._starting.never:
                coalitions.append(self._never)
            lines.append(Line(
                self._labels[name], self._from(subject.name), tuple(coalitions),
                () if is_dom0 else self._wall_members(subject.chwall), was.get(name),
                everything=is_dom0 and self._all(subject.ste),
            ))
        return lines

    def _shares(self, ste: frozenset[str]) -> list[str]:
        """The coalitions of a row, in the policy's order."""
        return [self._coalitions[t] for t in sorted(ste, key=self._order.__getitem__)]

    def _all(self, ste: frozenset[str]) -> bool:
        """Whether dom0's row of these types is every coalition of the new policy."""
        own = self._meaning.open_sharing and not self._meaning.ste
        return not self._starting.never and (own or len(ste) == len(self._meaning.ste) > 0)

    def _wall_members(self, chwall: frozenset[str]) -> tuple[str, ...]:
        plain, merged = self._starting.members(chwall)
        own = [self._members[t] for t in sorted(plain, key=self._wall_order.__getitem__)]
        return (*own, self._merged[merged]) if merged else tuple(own)

    def _dom0(self) -> tuple[str, list[Line]]:
        """dom0's label, and a line for it if the old policy has none that can be."""
        found = self._meaning.dom0
        if found is not None and found.name.text != UNLABELED:
            return self._labels[found.name.text], []
        new = next(iter(assign(["dom0"], taken=self._labels.values()).values()))
        if found is None:
            coalitions = (self._everyone,) if self._meaning.open_sharing else ()
            return new, [Line(new, "the policy had no bootstrap label", coalitions)]
        self.findings.append(warning(
            Id.BOOTSTRAP_UNLABELED, found.name.span,
            f"dom0's label was {show(UNLABELED)}, which VMs without a label got too; dom0 gets a "
            f"label of its own, `{new}`, with the same types", "give dom0 a label of its own",
        ))
        shares = [self._everyone] if self._meaning.open_sharing else self._shares(found.ste)
        return new, [Line(new, f"as {UNLABELED}, which dom0 had", tuple(shares))]

    def _resource_lines(self) -> tuple[Line, ...]:
        was, findings = renames(
            "resource label", [(o.name, o.was) for o in self._meaning.objects], self._resources
        )
        self.findings += findings
        row = next(
            (s.ste for s in self._meaning.subjects if s.name.text == UNLABELED), frozenset[str]()
        )
        lines = []
        for thing in self._meaning.objects:
            types = thing.ste
            if thing.name.text == UNLABELED and types != row:
                self.findings.append(warning(
                    Id.UNLABELED_RESOURCE, thing.name.span,
                    f"the resource label {show(UNLABELED)} and the VM label of that name have "
                    "different types, and ACM took the VM label's for both; resources without a "
                    "label get the types that both have", "give both the same types",
                ))
                types &= row
            coalitions = [self._everyone] if self._meaning.open_sharing else self._shares(types)
            lines.append(Line(
                self._resources[thing.name.text], self._from(thing.name), tuple(coalitions),
                was=was.get(thing.name.text),
            ))
        return tuple(lines)

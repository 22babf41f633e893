"""ACM policies as XML, written for tests: by hand from tables, and at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from hypothesis import strategies as st

from tests.policy.acm.module import Acm

NAMESPACE = "http://www.ibm.com"
UNLABELED = "__UNLABELED__"


@dataclass(frozen=True)
class Table:
    """A policy as a table: what its XML shall say."""

    dom0: str | None
    labels: Mapping[str, tuple[Sequence[str], Sequence[str]]]  # name -> STE, CHWALL
    ste: Sequence[str] | None
    chwall: Sequence[str] | None
    sets: Sequence[tuple[str, Sequence[str]]] = ()
    resources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    name: str = "example.test"
    version: str | None = "1.0"
    before: tuple[str, str] | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)  # new -> old

    def acm(self) -> Acm:
        """The matrices that follow, if every type is declared."""
        assert self.dom0 is not None
        return Acm(
            self.dom0, {name: set(ste) for name, (ste, _) in self.labels.items()},
            {name: set(wall) for name, (_, wall) in self.labels.items()},
            {name: set(types) for name, types in self.resources.items()},
            [set(members) for _, members in self.sets],
        )

    def xml(self) -> bytes:
        """One document, as from 2006 on."""
        return self._document(self._policy(), self._template())

    def two_files(self) -> tuple[bytes, bytes]:
        """The policy and the label template, as in 2005."""
        template = (
            f'<?xml version="1.0"?>\n<SecurityLabelTemplate xmlns="{NAMESPACE}">\n'
            "<LabelHeader><Name>t</Name><Date>2005-08-10</Date></LabelHeader>\n"
            f"{self._template()}\n</SecurityLabelTemplate>\n"
        )
        return self._document(self._policy("Name"), None), template.encode()

    def _document(self, policy: str, template: str | None) -> bytes:
        labels = "" if template is None else (
            f"<SecurityLabelTemplate>\n{template}\n</SecurityLabelTemplate>\n"
        )
        return (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<SecurityPolicyDefinition '
            f'xmlns="{NAMESPACE}">\n{policy}{labels}</SecurityPolicyDefinition>\n'
        ).encode()

    def _policy(self, tag: str = "PolicyName") -> str:
        version = f"<Version>{escape(self.version)}</Version>" if self.version else ""
        before = "" if self.before is None else (
            f"<FromPolicy><PolicyName>{escape(self.before[0])}</PolicyName>"
            f"<Version>{self.before[1]}</Version></FromPolicy>"
        )
        text = f"<PolicyHeader><{tag}>{escape(self.name)}</{tag}>{version}{before}</PolicyHeader>\n"
        if self.ste is not None:
            text += f"<SimpleTypeEnforcement>{_ste(self.ste)}</SimpleTypeEnforcement>\n"
        if self.chwall is not None:
            sets = "".join(
                f"<Conflict name={quoteattr(name)}>{_types(members)}</Conflict>\n"
                for name, members in self.sets
            )
            text += f"<ChineseWall>{_wall(self.chwall)}" + (
                f"<ConflictSets>{sets}</ConflictSets>" if sets else "") + "</ChineseWall>\n"
        return text

    def _template(self) -> str:
        bootstrap = "" if self.dom0 is None else f" bootstrap={quoteattr(self.dom0)}"
        text = f"<SubjectLabels{bootstrap}>\n"
        for name, (ste, wall) in self.labels.items():
            was = f" from={quoteattr(self.renamed[name])}" if name in self.renamed else ""
            text += f"<VirtualMachineLabel><Name{was}>{escape(name)}</Name>\n"
            text += (_ste(ste) if ste else "") + (_wall(wall) if wall else "")
            text += "</VirtualMachineLabel>\n"
        text += "</SubjectLabels>\n"
        if self.resources:
            labels = "".join(
                f"<ResourceLabel><Name>{escape(name)}</Name>{_ste(types)}</ResourceLabel>\n"
                for name, types in self.resources.items()
            )
            text += f"<ObjectLabels>\n{labels}</ObjectLabels>\n"
        return text


def _types(names: Sequence[str]) -> str:
    return "".join(f"<Type>{escape(name)}</Type>" for name in names)


def _ste(names: Sequence[str]) -> str:
    return f"<SimpleTypeEnforcementTypes>{_types(names)}</SimpleTypeEnforcementTypes>\n"


def _wall(names: Sequence[str]) -> str:
    return f"<ChineseWallTypes>{_types(names)}</ChineseWallTypes>\n"


_AWKWARD = (
    UNLABELED, "SystemManagement", "A-Bank", "A-Bank.Market Analysis", "a-bank", "A_Bank", "all",
    "unlabeled", "never-starts", "everyone", "dom0", "no", "7", "(hda)", "Bücher", "部", "x" * 70,
    "X" * 70, "a<b&c", "'\"", "#", "a: b", "- a", "\u2028line", "a]]b", "on",
)


def _names(low: int, high: int) -> st.SearchStrategy[list[str]]:
    plain = st.text("abAB-_. 1", min_size=1, max_size=5).map(str.strip).filter(bool)
    return st.lists(
        st.one_of(plain, st.sampled_from(_AWKWARD).map(str.strip)), min_size=low, max_size=high,
        unique=True,
    )


@st.composite
def tables(draw: st.DrawFn, *, versioned: bool = True) -> Table:
    """A policy that ACM's tools accepted: every type declared, a bootstrap label, no duplicates.

    Labels may lack types, exceed dom0's, be in conflict with themselves or with dom0; conflict
    sets may overlap, have one member, or each other's names.
    """
    ste, chwall = draw(_names(1, 5)), draw(_names(1, 6))
    sets: list[tuple[str, Sequence[str]]] = [
        (drawn[0], draw(_some(chwall, 1))) for drawn in draw(st.lists(_names(1, 1), max_size=4))
    ]
    names = draw(_names(1, 6))
    labels = {name: (draw(_some(ste)), draw(_some(chwall))) for name in names}
    dom0 = names[0]
    if draw(st.booleans()):  # as nearly all real ones: dom0 has all STE types and excludes nobody
        members = {t for _, inner in sets for t in inner}
        labels[dom0] = (ste, [t for t in labels[dom0][1] if t not in members])
    resources = {
        name: [draw(st.sampled_from(ste))] for name in draw(_names(0, 4)) if name != UNLABELED
    }
    return Table(
        dom0, labels, ste, chwall, sets, resources,
        name=draw(_names(1, 1))[0].replace(":", ""),
        version=f"{draw(st.integers(0, 20))}.{draw(st.integers(0, 20))}" if versioned else None,
    )


def _some(names: Sequence[str], low: int = 0) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=low, max_size=3, unique=True)

"""One good ACM policy, and for each finding a way to spoil it."""

from __future__ import annotations

from dataclasses import dataclass

GOOD = """\
<?xml version="1.0" encoding="UTF-8"?>
<SecurityPolicyDefinition xmlns="http://www.ibm.com">
<PolicyHeader>
<PolicyName>shop</PolicyName>
<Date>today</Date>
<Version>1.1</Version>
<FromPolicy><PolicyName>shop</PolicyName><Version>1.0</Version></FromPolicy>
</PolicyHeader>
<SimpleTypeEnforcement>
<SimpleTypeEnforcementTypes><Type>Front</Type><Type>Back</Type><Type>__UNLABELED__</Type></SimpleTypeEnforcementTypes>
</SimpleTypeEnforcement>
<ChineseWall priority="PrimaryPolicyComponent">
<ChineseWallTypes><Type>Red</Type><Type>Blue</Type><Type>Host</Type></ChineseWallTypes>
<ConflictSets>
<Conflict name="Rivals"><Type>Red</Type><Type>Blue</Type></Conflict>
</ConflictSets>
</ChineseWall>
<SecurityLabelTemplate>
<SubjectLabels bootstrap="Boss">
<VirtualMachineLabel>
<Name>Boss</Name>
<SimpleTypeEnforcementTypes><Type>Front</Type><Type>Back</Type><Type>__UNLABELED__</Type></SimpleTypeEnforcementTypes>
<ChineseWallTypes><Type>Host</Type></ChineseWallTypes>
</VirtualMachineLabel>
<VirtualMachineLabel>
<Name from="Old Web">Web</Name>
<SimpleTypeEnforcementTypes><Type>Front</Type></SimpleTypeEnforcementTypes>
<ChineseWallTypes><Type>Red</Type></ChineseWallTypes>
</VirtualMachineLabel>
<VirtualMachineLabel>
<Name>Data</Name>
<SimpleTypeEnforcementTypes><Type>Back</Type></SimpleTypeEnforcementTypes>
<ChineseWallTypes><Type>Blue</Type></ChineseWallTypes>
</VirtualMachineLabel>
<VirtualMachineLabel>
<Name>__UNLABELED__</Name>
<SimpleTypeEnforcementTypes><Type>__UNLABELED__</Type></SimpleTypeEnforcementTypes>
</VirtualMachineLabel>
</SubjectLabels>
<ObjectLabels>
<ResourceLabel>
<Name>Disk (hda)</Name>
<SimpleTypeEnforcementTypes><Type>Back</Type></SimpleTypeEnforcementTypes>
</ResourceLabel>
<ResourceLabel>
<Name>__UNLABELED__</Name>
<SimpleTypeEnforcementTypes><Type>__UNLABELED__</Type></SimpleTypeEnforcementTypes>
</ResourceLabel>
</ObjectLabels>
</SecurityLabelTemplate>
</SecurityPolicyDefinition>
"""


@dataclass(frozen=True)
class Spoiled:
    """Replace ``old`` by ``new``: then ``id`` is found at ``line``, and it says ``says``.

    ``also``: other findings that follow.
    """

    id: str
    old: str
    new: str
    line: int
    says: str
    also: tuple[str, ...] = ()
    column: int = 1

    @property
    def text(self) -> str:
        assert self.old in GOOD, self.old
        return GOOD.replace(self.old, self.new, 1)


_STE = GOOD[GOOD.index("<SimpleTypeEnforcement>") : GOOD.index("<ChineseWall p")]
_WALL = GOOD[GOOD.index("<ChineseWall p") : GOOD.index("<SecurityLabelTemplate>")]
_WEB = "<Name from=\"Old Web\">Web</Name>"
_FRONT = "<SimpleTypeEnforcementTypes><Type>Front</Type></SimpleTypeEnforcementTypes>\n"
_BACK = "<SimpleTypeEnforcementTypes><Type>Back</Type></SimpleTypeEnforcementTypes>"
_RED = "<ChineseWallTypes><Type>Red</Type></ChineseWallTypes>"
_BLUE = "<ChineseWallTypes><Type>Blue</Type></ChineseWallTypes>"
_DISK = "<Name>Disk (hda)</Name>\n<SimpleTypeEnforcementTypes><Type>Back</Type>"

CASES = [
    Spoiled("acm.namespace", ' xmlns="http://www.ibm.com"', "", 2, "the namespace is none"),
    Spoiled("acm.namespace", "http://www.ibm.com", "urn:other", 2, "is `urn:other` and not"),
    Spoiled("acm.unknown-element", "<Date>today</Date>", "<Data>x</Data>", 5,
            "`Data` has no meaning in `PolicyHeader`"),
    Spoiled("acm.unknown-element", "<Date>", '<Date xmlns="urn:other">', 5, "`Date`"),
    Spoiled("acm.unknown-element", "<Type>Red<", "<Type>Red<b/><", 13,
            "`b` has no meaning in `Type`", column=28),
    Spoiled("acm.unknown-attribute", "<PolicyHeader>", '<PolicyHeader id="7">', 3, "`id`"),
    Spoiled("acm.stray-text", "<PolicyHeader>", "<PolicyHeader>hello", 3, "`hello`"),
    Spoiled("acm.order", "<Date>today</Date>\n<Version>1.1</Version>",
            "<Version>1.1</Version>\n<Date>today</Date>", 6, "`Date` stands after `Version`"),
    Spoiled("acm.repeated", _RED, f"{_RED}\n<ChineseWallTypes><Type>Blue</Type></ChineseWallTypes>",
            29, "a second time; the first counts"),
    Spoiled("acm.missing", f"{_BACK}\n</ResourceLabel>", "</ResourceLabel>", 41,
            "`ResourceLabel` has no `SimpleTypeEnforcementTypes`"),
    Spoiled("acm.priority", "PrimaryPolicyComponent", "Second", 12, "is `Second`"),
    Spoiled("acm.priority", "<SimpleTypeEnforcement>",
            '<SimpleTypeEnforcement priority="PrimaryPolicyComponent">', 12, "both components"),
    Spoiled("acm.no-version", "<Version>1.1</Version>\n", "", 2, "no version; it becomes 0.1"),
    Spoiled("acm.bad-version", ">1.1<", ">one<", 6, "`one` is no version"),
    Spoiled("acm.bad-version", ">1.1<", ">1x1<", 6, "read as 1.1"),
    Spoiled("acm.bad-version", ">1.1<", ">1.123456789<", 6, "is no version"),
    Spoiled("acm.no-name", "<PolicyName>shop</PolicyName>\n<Date>", "<Date>", 2, "`imported`"),
    Spoiled("acm.no-name", ">Web<", "> <", 26, "a label has no name"),
    Spoiled("acm.colon", ">Web<", ">a:b<", 26, "has a colon"),
    Spoiled("acm.colon", ">shop<", ">a:b<", 4, "has a colon"),
    Spoiled("acm.from-version", ">1.0<", ">1.1<", 7, "not lower than its own",
            column=42),
    Spoiled("acm.from-name", "Old Web", "Data", 26, "`Data` is still a label"),
    Spoiled("acm.from-name", "<Name>Data", '<Name from="Old Web">Data', 31, "`Web` says the same"),
    Spoiled("acm.no-ste", _STE, "", 2, "no SimpleTypeEnforcement"),
    Spoiled("acm.no-chwall", _WALL, "", 2, "no ChineseWall"),
    Spoiled("acm.duplicate-type", "<Type>Red</Type>", "<Type>Red</Type><Type>Red</Type>", 13,
            "a second time (first in line 13)", column=35),
    Spoiled("acm.duplicate-type", _RED, _RED.replace("</C", "<Type>Red</Type></C"), 28,
            "the type `Red` twice", column=35),
    Spoiled("acm.undeclared-type", _FRONT, _FRONT.replace("</S", "<Type>Fron</Type></S"), 27,
            "the STE type `Fron`", column=47),
    Spoiled("acm.undeclared-type", _RED, _RED.replace("</C", "<Type>Re</Type></C"), 28,
            "the CHWALL type `Re`", column=35),
    Spoiled("acm.no-types", _FRONT, "", 26, "has no STE types"),
    Spoiled("acm.resource-types", _DISK, _DISK + "<Type>Front</Type>", 42, "has 2 types"),
    Spoiled("acm.duplicate-label", "<Name>Data", "<Name>Web", 31,
            "gets the STE types that both give it, and the Chinese Wall types of either",
            ("acm.no-types", "acm.self-conflict")),
    Spoiled("acm.duplicate-label", "<ResourceLabel>\n<Name>__UN",
            f"<ResourceLabel>\n<Name>Disk (hda)</Name>\n{_BACK}\n</ResourceLabel>\n"
            "<ResourceLabel>\n<Name>__UN", 46,
            "(first in line 42), alike"),
    Spoiled("acm.conflict-unnamed", ' name="Rivals"', "", 15, "becomes `conflict 1`"),
    Spoiled("acm.conflict-member", "<Type>Blue</Type></Conflict>",
            "<Type>Blue</Type><Type>Green</Type></Conflict>", 15, "`Green` in the conflict set "
            "`Rivals` is not declared, so no label has it", column=58),
    Spoiled("acm.conflict-member", "<Type>Blue</Type></Conflict>",
            "<Type>Blue</Type><Type>Red</Type></Conflict>", 15, "stands in it twice", column=58),
    Spoiled("acm.conflict-member", "<Type>Blue</Type><Type>Host</Type></ChineseWallTypes>",
            "<Type>Host</Type></ChineseWallTypes>", 15,
            "is not declared, and a label has it; it counts", column=41),
    Spoiled("acm.conflict-small", "<Type>Blue</Type></Conflict>", "</Conflict>", 15,
            "has one member"),
    Spoiled("acm.self-conflict", _RED, _RED.replace("</C", "<Type>Blue</Type></C"), 26,
            "`Blue` and `Red`, which exclude each other (conflict set `Rivals`)"),
    Spoiled("acm.no-bootstrap", ' bootstrap="Boss"', "", 2, "there is no bootstrap label"),
    Spoiled("acm.no-bootstrap", 'bootstrap="Boss"', 'bootstrap="Bos"', 19, "`Bos` is not defined"),
    Spoiled("acm.bootstrap-unlabeled", 'bootstrap="Boss"', 'bootstrap="__UNLABELED__"', 36,
            "a label of its own, `dom0`", ("acm.not-authorized",)),
    Spoiled("acm.not-authorized", "<Type>Back</Type><Type>__UNLABELED__</Type></Simple"
            "TypeEnforcementTypes>\n<ChineseWallTypes>", "<Type>__UNLABELED__</Type></Simple"
            "TypeEnforcementTypes>\n<ChineseWallTypes>", 31, "lacks the type `Back`"),
    Spoiled("acm.dom0-wall", "<Type>Host</Type></ChineseWallTypes>\n</Virt",
            "<Type>Red</Type></ChineseWallTypes>\n</Virt", 31, "can never start"),
    Spoiled("acm.unlabeled-resource", "<Type>__UNLABELED__</Type></SimpleTypeEnforcementTypes>\n"
            "</ResourceLabel>", "<Type>Back</Type></SimpleTypeEnforcementTypes>\n</ResourceLabel>",
            46, "have different types"),
    Spoiled("acm.name-collision", ">Data<", ">web<", 26, "becomes `web-2` and not `web`, as `web`"),
    Spoiled("acm.name-collision", ">Data<", ">unlabeled<", 31, "is a reserved word"),
    Spoiled("acm.name-collision", "</ConflictSets>", '<Conflict name="Rivals"><Type>Host</Type>'
            "<Type>Red</Type></Conflict>\n</ConflictSets>", 16,
            "another conflict set `Rivals`; this one becomes `rivals-2`", ("acm.dom0-wall",)),
]

"""Traces of starts and stops as the ACM's documents and tests have them, on imported policies."""

from __future__ import annotations

from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.policy.acm.importer import import_documents
from shype.policy.names import LabelName
from tests.policy.acm.documents import UNLABELED, Table
from tests.policy.acm.module import Machine

DOM0, MARKET = "SystemManagement", "A-Bank.MarketAnalysis"
UNDERWRITING = "A-Bank.SecurityUnderwriting"
_WORK = ["A-Bank", MARKET, UNDERWRITING, "AutoCorp", "B-Bank", UNLABELED]

#: Departments of a bank, kept apart; the bank, its rival and what is not labelled, too.
BANKS = Table(
    DOM0,
    {
        DOM0: ([DOM0, *_WORK], [DOM0]),
        "A-Bank": (["A-Bank"], ["A-Bank"]),
        MARKET: ([MARKET], ["A-Bank", MARKET]),
        UNDERWRITING: ([UNDERWRITING], ["A-Bank", UNDERWRITING]),
        "AutoCorp": (["AutoCorp"], ["AutoCorp"]),
        "B-Bank": (["B-Bank"], ["B-Bank"]),
        UNLABELED: ([UNLABELED], [UNLABELED]),
    },
    [DOM0, *_WORK], [DOM0, *_WORK],
    [("RER", [MARKET, UNDERWRITING, UNLABELED]), ("RER", ["A-Bank", "B-Bank", UNLABELED])],
    {"A-Bank": ["A-Bank"]}, name="mytest",
)
COLOURS = Table(
    DOM0,
    {
        DOM0: ([DOM0, "blue", "green", "red"], [DOM0]),
        **{colour: ([colour], [colour]) for colour in ("blue", "green", "red")},
    },
    [DOM0, "blue", "green", "red"], [DOM0, "blue", "green", "red"], [("RER1", ["blue", "red"])],
    name="xm-test",
)
#: A label that holds two types of one conflict set.
BOTH = Table(
    DOM0,
    {
        DOM0: (["m", "x"], [DOM0]), "AB": (["x"], ["A", "B"]),
        **{letter.lower(): (["x"], [letter]) for letter in "ABC"},
    },
    ["m", "x"], [DOM0, "A", "B", "C"], [("three", ["A", "B", "C"])],
)


class Both:
    """The ACM and the imported policy, side by side."""

    def __init__(self, table: Table) -> None:
        self.machine = Machine(table.acm())
        self.done = import_documents([(table.xml(), "p.xml")])
        self.server = SecurityServer(self.done.policy)
        self.running: list[str] = []

    def start(self, name: str) -> tuple[bool, bool]:
        """(ACM's answer, ours); it runs if the ACM permits."""
        new = self.done.sketch.mapping["labels"]
        running = [
            Running(number, f"vm{number}", LabelName(new[label]))
            for number, label in enumerate(self.running, 1)
        ]
        ours = self.server.launch(LabelName(new[name]), running).permitted
        theirs = self.machine.start(name)
        if theirs:
            self.running.append(name)
        return theirs, ours

    def stop(self, name: str) -> None:
        self.machine.stop(name)
        self.running.remove(name)


YES, NO = (True, True), (False, False)


def test_departments_and_rivals() -> None:
    host = Both(BANKS)
    assert {f.id for f in host.done.findings} == {"acm.name-collision"}
    assert host.machine.running == {DOM0: 1}
    assert host.start(MARKET) == YES
    assert host.machine.aggregate == {UNDERWRITING: 1, "B-Bank": 1, UNLABELED: 2}
    assert host.start(UNDERWRITING) == NO
    assert host.start("A-Bank") == YES
    assert host.machine.aggregate == {UNDERWRITING: 1, "B-Bank": 2, UNLABELED: 3}
    assert host.start("B-Bank") == NO
    assert host.start(UNLABELED) == NO
    assert host.start("AutoCorp") == YES
    host.stop(MARKET)
    assert host.machine.aggregate == {"B-Bank": 1, UNLABELED: 1}
    assert host.start(UNDERWRITING) == YES
    assert host.machine.aggregate == {MARKET: 1, "B-Bank": 2, UNLABELED: 3}
    host.stop("A-Bank")
    host.stop(UNDERWRITING)
    assert host.machine.aggregate == {}
    assert host.start("B-Bank") == YES
    assert host.machine.aggregate == {"A-Bank": 1, UNLABELED: 1}
    assert host.start(MARKET) == NO


def test_two_sets_of_one_name_are_two_walls() -> None:
    done = Both(BANKS).done
    assert list(done.policy.walls) == ["rer", "rer-2"]
    assert done.sketch.mapping["walls"] == {"RER": "rer", "RER#2": "rer-2"}


def test_colours() -> None:
    host = Both(COLOURS)
    assert host.done.findings == ()
    assert host.start("green") == YES
    assert host.start("blue") == YES
    assert host.machine.aggregate == {"red": 1}
    assert host.start("red") == NO
    host.stop("blue")
    assert host.start("red") == YES
    assert host.start("blue") == NO
    assert host.start("red") == YES
    assert host.machine.aggregate == {"blue": 2}


def test_a_label_in_conflict_with_itself_excludes_in_both_orders() -> None:
    """The ACM decided by the order of starts; ours denies wherever one order was denied."""
    host = Both(BOTH)
    assert [f.id for f in host.done.findings] == ["acm.self-conflict"]
    assert host.start("AB") == YES
    assert host.start("AB") == YES  # its own kind was never excluded
    host.stop("AB")
    assert host.start("a") == (True, False)
    assert host.start("AB") == NO
    assert host.start("b") == NO
    assert host.start("c") == NO
    host = Both(BOTH)
    assert host.start("a") == YES
    assert host.start("AB") == NO

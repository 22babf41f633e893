"""The questions of a test file, in words: a table of forms, and the parser that it drives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shype.analysis.suites.ids import SuiteId
from shype.analysis.suites.questions import (
    Arrive,
    Beside,
    Flows,
    Operate,
    Question,
    Start,
    UseResource,
)
from shype.decision.operation import Operation
from shype.decision.resources import Access
from shype.policy.findings import show
from shype.policy.mechanism import SWITCHABLE, Mechanism
from shype.policy.model import ResourceKind
from shype.policy.names import LabelName
from shype.policy.resources import canonical_name
from shype.policy.suggest import Suggester

#: Longest question, in characters.
LENGTH_LIMIT = 2_000


@dataclass(frozen=True, slots=True)
class Form:
    """One form of question: how it is written, what it asks, an example with its answer."""

    usage: str
    meaning: str
    example: str


FORMS = (
    Form(
        "may A -> B",
        "May information of a VM labelled A arrive at one labelled B, directly, by any mechanism? "
        "By event channel, grant and Argo only if no wall keeps the two from running at the same "
        "time.",
        "may surgery -> laboratory: yes",
    ),
    Form(
        "may A -> B via MECHANISM",
        "The same, by one mechanism: event, grant, argo, disk or network. By grant: B maps or "
        "copies from A, or A maps or copies to B, whichever the policy permits.",
        "may laboratory -> trial-portal via grant: no",
    ),
    Form(
        "may A -> B via OPERATION",
        "May A, who acts, do OPERATION to B? What the security server answers, and `shype decide` "
        "shows. Information moves as the operation moves it: with grant.map_read from B to A.",
        "may surgery -> laboratory via grant.map_read: yes",
    ),
    Form(
        "may A use KIND NAME [to read|to write]",
        "May a VM labelled A use a resource? Without `to`: read and write it. KIND is disk, "
        "network, pci, irq, ioport or memory. `to write` alone is blind: nothing comes back.",
        "may statistics use disk /dev/vg0/study-1 to read: yes",
    ),
    Form(
        "may A start [while B, C run]",
        "May a VM labelled A start while VMs with these labels run: may dom0 run it, is it no "
        "guard that has expired, does no wall forbid it? Without `while`: on an empty host. A "
        "label twice is two VMs. If B and C cannot run together, the test fails.",
        "may surgery start while maternity, laboratory run: yes",
    ),
    Form(
        "may A run beside B",
        "May VMs labelled A and B run on this host at the same time: may dom0 run both, and does "
        "no wall separate them?",
        "may surgery run beside maternity: yes",
    ),
    Form(
        "flows A -> B",
        "Does information of A get to B in the end, through other VMs, guards, disks, networks "
        "and driver domains, in whatever states of the host? The one question with a third "
        "answer, `only through G` (or `only through G, H`): there is a way, and none that avoids "
        "G (and H).",
        "flows surgery -> trial-portal: only through anonymiser",
    ),
)

_ARROW = re.compile(r"may\s+(?P<a>[^\s>]+?)\s*->\s*(?P<b>\S+)(?:\s+via\s+(?P<via>\S+))?")
_USE = re.compile(
    r"""may\s+(?P<a>\S+)\s+use\s+(?P<kind>\S+)\s+
    (?:"(?P<quoted>[^"]*)"|(?P<name>.+?))
    (?:\s+to\s+(?P<access>read|write|read-write|read\s+and\s+write))?""",
    re.VERBOSE | re.DOTALL,
)
_START = re.compile(r"may\s+(?P<a>\S+)\s+start(?:\s+while\s+(?P<state>.+?)\s+runs?)?", re.DOTALL)
_FLOWS = re.compile(r"flows\s+(?P<a>[^\s>]+?)\s*->\s*(?P<b>\S+)")
_BESIDE = re.compile(r"may\s+(?P<a>\S+)\s+run\s+beside\s+(?P<b>\S+)")
#: The other order of words, which many would try.
_VERB_FIRST = re.compile(r"may\s+(start|run|use)\s+(\S+)(\s+.*)?", re.DOTALL)
#: What ``via`` can name: how information moves, or exactly one operation.
MECHANISMS = {str(m): m for m in Mechanism if m in SWITCHABLE}
OPERATIONS = {str(op): op for op in Operation}


class NotUnderstood(Exception):
    """A sentence that asks nothing; says why, and what to write."""

    def __init__(self, id: SuiteId, message: str, fix: str) -> None:
        super().__init__(message)
        self.id = id
        self.message = message
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Sentence:
    """A question whose labels are still words: names, patterns, ``dom0``, ``vm:NAME``.

    ``question`` takes a label for each of ``words``, in this order.
    ``resource`` is what it asks about, if that is one; ``flows``: whether it
    is about a flow, which may be expected `through` some labels only.
    """

    words: tuple[str, ...]
    question: Callable[[Sequence[LabelName]], Question]
    resource: tuple[ResourceKind, str] | None = None
    flows: bool = False


def parse(text: str, suggest: Suggester) -> Sentence:
    """The question that ``text`` asks. Raises `NotUnderstood`."""
    asked = text.strip()
    if len(asked) > LENGTH_LIMIT:
        raise _unclear(asked, f"write at most {LENGTH_LIMIT} characters")
    if found := _ARROW.fullmatch(asked):
        return arrow(found["a"], found["b"], found["via"], suggest)
    if found := _BESIDE.fullmatch(asked):
        return Sentence((found["a"], found["b"]), lambda of: Beside(of[0], of[1]))
    if found := _FLOWS.fullmatch(asked):
        return Sentence(
            (found["a"], found["b"]), lambda of: Flows(of[0], of[1], tuple(of[2:])), flows=True,
        )
    if found := _START.fullmatch(asked):
        running = names(found["state"] or "")
        if "" in running:
            raise _unclear(asked, "write one label between two commas")
        return Sentence((found["a"], *running), lambda of: Start(of[0], tuple(of[1:])))
    if found := _USE.fullmatch(asked):
        return _use(found, suggest)
    raise _unclear(asked, _hint(asked))


def arrow(a: str, b: str, via: str | None, suggest: Suggester) -> Sentence:
    """``may A -> B via VIA``. Raises `NotUnderstood` (``test.means``)."""
    if via is None or via in MECHANISMS:
        mechanism = MECHANISMS[via] if via else None
        return Sentence((a, b), lambda of: Arrive(of[0], of[1], mechanism))
    if via in OPERATIONS:
        operation = OPERATIONS[via]
        return Sentence((a, b), lambda of: Operate(of[0], of[1], operation))
    known = [*MECHANISMS, *OPERATIONS]
    raise NotUnderstood(
        SuiteId.MEANS, f"{show(via)} is no mechanism and no operation",
        suggest.fix(via, known, f"write one of {', '.join(known)}"),
    )


def _use(found: re.Match[str], suggest: Suggester) -> Sentence:
    kinds = {str(kind): kind for kind in ResourceKind}
    if found["kind"] not in kinds:
        raise NotUnderstood(
            SuiteId.RESOURCE, f"{show(found['kind'])} is no kind of resource",
            suggest.fix(found["kind"], kinds, f"write one of {', '.join(kinds)}"),
        )
    kind, given = kinds[found["kind"]], found["quoted"] or found["name"] or ""
    try:
        name = canonical_name(kind, given)
    except ValueError as problem:
        raise NotUnderstood(
            SuiteId.RESOURCE, f"{show(given)} is not the name of a {kind}: {problem}",
            "write one resource as in the policy, and no pattern; "
            'a name with ` to ` in it needs quotes: "..."',
        ) from None
    word = " ".join((found["access"] or "read-write").split())
    access = Access(word.replace(" and ", "-"))
    return Sentence(
        (found["a"],), lambda of: UseResource(of[0], kind, name, access), (kind, name),
    )


def names(text: str) -> list[str]:
    """The names of a list with commas, ``and`` or ``or``, with or without brackets around it."""
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    return [name.strip() for name in re.split(r",|\s+(?:and|or)\s+", inner)] if inner else []


def _unclear(text: str, fix: str) -> NotUnderstood:
    return NotUnderstood(SuiteId.QUESTION, f"{show(text)} is no question", fix)


def _hint(text: str) -> str:
    if found := _VERB_FIRST.fullmatch(text):
        return f"who comes first: `may {found[2]} {found[1]}{found[3] or ''}`"
    if re.match(r"may\s+\S+\s*->\s*\S+\s+\S", text):
        return "after `may A -> B` can only stand `via` and one word"
    if text.startswith("flows"):
        return "write `flows A -> B`, and nothing after B"
    if "->" in text and not text.startswith("may"):
        return "begin with `may` or `flows`: `may A -> B`"
    return "write one of: " + "; ".join(form.usage for form in FORMS)

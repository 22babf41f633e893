"""The binary, read back by SETools, permits exactly what the reference model permits.

The security server has no part in this: compiler and model are compared
directly, by an evaluation of the hypervisor's checks that knows neither.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from shype.compile.flask import build, cil, encoding, reader, tables
from shype.policy.model import Policy
from tests.decision import reference_model as model
from tests.decision.examples import read
from tests.decision.small_policies import small_policies, world_of
from tests.decision.test_guards import TEXT as GUARDED

from .binary_access import Hypervisor, subject

XEN = tables.load("xen-4.17")

#: What the hypervisor decides, all but disks, networks and XenStore.
OPERATIONS = [
    *(name for name, (mechanism, _, _) in model.OPERATIONS.items()
      if mechanism not in ("disk", "network", "xenstore")),
    *model.POWER,
]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=small_policies())
def test_random_policies(policy: Policy, tmp_path: Path) -> None:
    assert not disagreements(policy, cil.generate(policy, XEN), tmp_path)


def disagreements(policy: Policy, text: str, folder: Path) -> list[tuple[object, ...]]:
    """Where the binary made from ``text`` and the reference model of ``policy`` differ."""
    (folder / "p.cil").write_text(text)
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    hypervisor, world = Hypervisor(reader.read(folder / "p.bin")), world_of(policy)
    contexts = {
        policy.host.dom0: encoding.dom0_entry(policy).context,
        **{name: entry.context for name, entry in encoding.label_entries(policy).items()},
        # What a tombstone's level was, nobody knows any more.
        **{name: f"u:r:{encoding.type_of(name)}:s0" for name in policy.retired},
    }
    who = {str(name): subject(context) for name, context in contexts.items()}
    wrong: list[tuple[object, ...]] = [
        (s, operation, o, reasons)
        for s, o in itertools.product(who, repeat=2)
        if not s == o == world.dom0  # on itself it has more than operations
        for operation in OPERATIONS
        for reasons in [model.may_do(world, s, o, operation)]
        if hypervisor.does(operation, who[s], who[o]) is not (reasons <= model.PERMISSIONS)
    ]
    # dom0 creates whom it may run, and only through a window.
    for label in [*world.labels, *world.retired]:
        rule = who[world.dom0].type, who[label].type, "domain", "create"
        may = model.may_launch(world, label, []) <= model.PERMISSIONS
        if (rule in hypervisor.conditional) is not may or hypervisor.has_rule(*rule):
            wrong.append((world.dom0, "create", label))
    return wrong


CLINIC = read(GUARDED.replace("  office: {}", "  office: {write-up: true}"))
TEXT = cil.generate(CLINIC, XEN)

#: What goes wrong in the compiler, and an operation that it lets through or stops.
MUTATIONS = {
    "reading up": ("(map_read)) (or (or (dom l1 l2)", "(map_read)) (or (or (domby l1 l2)",
                   ("nurse", "grant.map_read", "chief")),
    "writing down by a mapping": ("(or (or (eq l1 l2)", "(or (or (dom l1 l2)",
                                  ("chief", "grant.map_write", "nurse")),
    "writing up in every coalition": ("(eq t1 ste_office) (eq t2 ste_office)",
                                      "(eq t1 ste_ward) (eq t2 ste_ward)",
                                      ("nurse", "argo.send", "chief")),
    "rings for other levels": ("(dom l1 l2)) (eq l1 l2))", "(domby l1 l2)) (eq l1 l2))",
                               ("clerk", "argo.send", "boss")),
    "a constraint lost": ("(mlsconstrain (event (bind))", ";", ("nurse", "event.send", "chief")),
    "a label too many exempt": ("set mlsexempt (", "set mlsexempt (l_chief_t ",
                                ("chief", "grant.copy_to", "nurse")),
    "a guard talks back": ("(allow l_release_t mutech_t (event (create)))",
                           "(allow l_release_t mutech_t (event (create send)))",
                           ("release", "event.send", "nurse")),
    "a guard in its coalition": ("set ste_office (", "set ste_office (l_release_t ",
                                 ("clerk", "argo.send", "release")),
    "a mechanism open": ("set event_ward (", "set event_ward (l_silent_t ",
                         ("silent", "event.send", "nurse")),
    "no level at all": ("(mlsconstrain", ";", ("probe", "grant.copy_to", "nurse")),
}


def test_the_clinic(tmp_path: Path) -> None:
    assert not disagreements(CLINIC, TEXT, tmp_path)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_compiler_is_found_out(name: str, tmp_path: Path) -> None:
    old, new, question = MUTATIONS[name]
    assert old in TEXT, f"the compiler no longer writes {old}"
    found = disagreements(CLINIC, TEXT.replace(old, new), tmp_path)
    assert question in [entry[:3] for entry in found]

"""The reader of binary policies, and what it computes, against SETools and the reference model."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from shype.base.errors import BadInput
from shype.compile.flask import build, cil, encoding, reader, tables
from shype.host.verify.access import Answers
from shype.host.verify.binary import Binary, read
from shype.host.verify.oracle import Compiled, Verdicts
from shype.host.verify.table import OPERATIONS
from shype.policy.model import Policy
from tests.compile.binary_access import Hypervisor, subject
from tests.compile.policies import LEVELED
from tests.compile.test_reference_model import CLINIC
from tests.decision import reference_model as model
from tests.decision.small_policies import small_policies, world_of

XEN = tables.load("xen-4.17")
CONDITION = """\
(boolean one false)(boolean two false)
(booleanif (and one (not two)) (true (allow dom0_t self_t (grant (transfer))))
  (false (allow dom0_t self_t (grant (query)))))
(booleanif (xor one two) (true (allow dom0_t self_t (argo (send)))))
(booleanif (eq one two) (true (allow dom0_t self_t (argo (enable)))))
(booleanif (or one (neq one two)) (true (allow dom0_t self_t (hvm (dm)))))
"""


def compiled(policy: Policy, folder: Path, more: str = "") -> bytes:
    (folder / "p.cil").write_text(cil.generate(policy, XEN) + more)
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    return (folder / "p.bin").read_bytes()


def contexts(policy: Policy) -> dict[str, str]:
    entries = encoding.label_entries(policy)
    return {**{str(name): entry.context for name, entry in entries.items()},
            str(policy.host.dom0): encoding.dom0_entry(policy).context}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Binary, Path]:
    folder = tmp_path_factory.mktemp("clinic")
    return read(compiled(CLINIC, folder)), folder / "p.bin"


def test_every_vector_is_the_one_that_setools_gives(clinic: tuple[Binary, Path]) -> None:
    binary, path = clinic
    theirs, mine = Hypervisor(reader.read(path)), Answers(binary, {})
    checked = denied = 0
    for source, target in itertools.product(contexts(CLINIC).values(), repeat=2):
        s, t = subject(source), subject(target)
        for cls, entry in binary.classes.items():
            has = entry.names(mine.allowed(source, target, cls))
            for word in entry.permissions:
                assert (word in has) is theirs.has_perm(s, t, cls, word), (source, target, word)
                checked += 1
                denied += word not in has and theirs.has_rule(s.type, t.type, cls, word)
        end = theirs.end(s, t)
        user, role, type_, level = mine.created(source, target, "event").split(":", 3)
        assert (user, role, type_) == ("u", end.role, end.type)
        assert subject(f"u:r:x:{level}").low == end.low
    assert checked > 10_000
    assert denied > 10, "constraints play a part"


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=small_policies())
def test_random_policies_permit_what_the_reference_model_permits(
    policy: Policy, tmp_path: Path
) -> None:
    binary, world = read(compiled(policy, tmp_path)), world_of(policy)
    verdicts = Verdicts(Compiled(Answers(binary, {})), binary)
    labels = {name: text for name, text in contexts(policy).items() if name != world.dom0}
    for (s, one), (o, other) in itertools.product(labels.items(), repeat=2):
        for operation in OPERATIONS:
            may = model.may_do(world, s, o, operation.value) <= model.PERMISSIONS
            assert verdicts.permits(one, other, operation) is may, (s, o, operation)


@pytest.mark.parametrize(("one", "two", "grant", "argo", "hvm"), [
    (False, False, {"query"}, {"enable"}, set()),
    (True, False, {"transfer"}, {"send"}, {"dm"}),
    (False, True, {"query"}, {"send"}, {"dm"}),
    (True, True, {"query"}, {"enable"}, {"dm"}),
])
def test_conditions(
    one: bool, two: bool, grant: set[str], argo: set[str], hvm: set[str], tmp_path: Path
) -> None:
    binary = read(compiled(LEVELED, tmp_path, CONDITION))
    answers = Answers(binary, {"one": one, "two": two})
    dom0 = encoding.dom0_entry(LEVELED).context
    for cls, wanted in (("grant", grant), ("argo", argo), ("hvm", hvm)):
        got = binary.classes[cls].names(answers.allowed(dom0, "u:r:self_t:s0", cls))
        assert got == wanted


def test_a_domain_as_it_sees_itself(clinic: tuple[Binary, Path]) -> None:
    answers = Answers(clinic[0], {})
    for name, text in contexts(CLINIC).items():
        made = answers.created(text, text, "domain")
        level = text.split(":", 3)[3]
        assert made == (text if name == CLINIC.host.dom0 else f"u:r:self_t:{level}")


def test_contexts_are_written_as_the_hypervisor_writes_them(clinic: tuple[Binary, Path]) -> None:
    answers = Answers(clinic[0], {})
    for text in contexts(CLINIC).values():
        assert answers.written(text) == text


@pytest.mark.parametrize("text", [
    "u:r:nothing_t:s0", "x:r:dom0_t:s0", "u:x:dom0_t:s0", "u:r:dom0_t:s99", "u:r:dom0_t:s0:c99",
    "u:r:dom0_t", "", "u:r:dom0_t:s0:d1",
])
def test_a_context_that_the_policy_does_not_have(clinic: tuple[Binary, Path], text: str) -> None:
    with pytest.raises(BadInput) as caught:
        Answers(clinic[0], {}).allowed(text, "u:r:dom0_t:s0", "grant")
    assert caught.value.id == "context.unknown"


def test_a_file_that_is_cut_or_longer_is_refused(clinic: tuple[Binary, Path]) -> None:
    data = clinic[1].read_bytes()
    for cut in [*range(0, len(data), max(len(data) // 60, 1)), len(data) - 1]:
        with pytest.raises(BadInput) as caught:
            read(data[:cut])
        assert caught.value.id == "bundle.unreadable"
    with pytest.raises(BadInput, match="follows"):
        read(data + b"\0")


@pytest.mark.parametrize(("more", "what"), [
    ("(typepermissive dom0_t)", "permissive"),
    ("(typebounds dom0_t self_t)", "bounds"),
    ("(rangetransition dom0_t self_t domain ((s0)(s0)))", "range transitions"),
    ("(typemember dom0_t self_t domain self_t)", "kind"),
])
def test_what_shype_does_not_write_is_refused(more: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=what):
        read(compiled(LEVELED, tmp_path, more))

"""Object managers: a class of their own, the right to ask, and validation of both."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from shype.compile.flask import cil, objects, tables, verify
from shype.compile.flask.build import build
from shype.compile.flask.encoding import label_entries
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.host.verify.access import Answers
from shype.host.verify.binary import read
from shype.policy.loader import load
from shype.policy.model import Policy
from tests.compile.policies import BANKS
from tests.compile.test_validation import DIGEST, compiled
from tests.policy.good_policies import RICH

XEN = tables.load("xen-4.17")
STORAGE = Path(__file__).parents[2] / "examples/storage/policy.yaml"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(STORAGE).policy


def test_the_loaded_class_is_the_one_that_the_client_asks_about(
    policy: Policy, tmp_path: Path
) -> None:
    build(policy, target="xen-4.17", out=tmp_path / "b")
    binary = read((tmp_path / "b/policy.bin").read_bytes())
    found = binary.classes["shype"]
    assert (found.value, found.permissions) == (14, ("read", "write"))
    assert all(len(tables.load(target).classes) == 13 for target in tables.shipped())


def test_whoever_may_read_a_disk_may_read_an_object(tmp_path: Path) -> None:
    (tmp_path / "rich.yaml").write_text(RICH)
    policy = load(tmp_path / "rich.yaml").policy
    build(policy, target="xen-4.17", out=tmp_path / "b")
    binary = read((tmp_path / "b/policy.bin").read_bytes())
    answers = Answers(binary, dict.fromkeys(binary.booleans, False))
    contexts = {name: entry.context for name, entry in label_entries(policy).items()}
    server, seen = SecurityServer(policy), set[frozenset[str]]()
    for subject, s in contexts.items():
        for target, t in contexts.items():
            names = binary.classes["shype"].names(answers.allowed(s, t, "shype"))
            assert names == {
                word for word, operation in (("read", Operation.DISK_READ),
                                             ("write", Operation.DISK_WRITE))
                if server.permits(subject, target, operation)
            }
            seen.add(names)
    assert len(seen) > 1
    dom0 = answers.allowed("u:r:dom0_t:s0", contexts[policy.guests[0].name], "shype")
    assert dom0 == 0


def test_without_object_managers_nothing_has_changed() -> None:
    text = cil.generate(BANKS, XEN)
    assert "shype (" not in text
    assert objects.with_class(BANKS, XEN) is XEN


@pytest.mark.parametrize(("old", "new", "report"), [
    ("", "(allow l_red_app_t l_blue_app_t (shype (read)))", r"red-app -> blue-app.*shype . read"),
    ("", "(allow dom0_t l_blue_app_t (shype (write)))", r"manager -> blue-app.*shype . write"),
    ("", "(allow l_red_app_t security_t (security (compute_av)))", r"red-app.*compute_av"),
    ("", "(allow l_storage_t security_t (security (setbool)))", r"storage.*setbool"),
    (" (shype (write))", " (shype (read))", r"shype . write"),
    ("(check_context compute_av)", "(compute_av)", r"storage.*check_context"),
])
def test_validation_catches(
    policy: Policy, old: str, new: str, report: str, tmp_path: Path
) -> None:
    text = cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n"
    assert old in text
    text = text.replace(old, new) if old else text + new + "\n"
    with pytest.raises(verify.Disagreement) as caught:
        verify.verify(policy, XEN, compiled(text, tmp_path), DIGEST)
    assert any(re.search(report, str(one)) for one in caught.value.mismatches), (
        caught.value.mismatches)


def test_validation_catches_a_class_that_nobody_asks_about(policy: Policy, tmp_path: Path) -> None:
    text = cil.generate(policy, XEN) + f"(boolean policy_{DIGEST} false)\n"
    nobody = replace(policy, labels={
        name: replace(label, object_manager=False) for name, label in policy.labels.items()})
    with pytest.raises(verify.Disagreement, match="classes"):
        verify.verify(nobody, XEN, compiled(text, tmp_path), DIGEST)

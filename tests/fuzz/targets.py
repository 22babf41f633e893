"""One function per reader: any bytes in, our own errors or something consistent out.

A reader that refuses raises BadInput.  What it accepts must also work: be
decided by, written and read back the same.  Everything else that is raised is
a defect.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from shype.analysis.assertions.prove import prove
from shype.analysis.flows.graph import FlowGraph
from shype.analysis.suites import junit
from shype.analysis.suites.reading import Reader
from shype.analysis.suites.running import run
from shype.base import canonical
from shype.base.errors import BadInput
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy import contents, envelope, loader, reading
from shype.policy.acm import exporter, importer
from shype.policy.assertions import Assertion, LevelsKept
from shype.policy.bundle import policy_from_json, policy_to_json
from shype.policy.manifest import Manifest, assemble
from shype.policy.model import Policy
from shype.policy.source import Finding
from tests.analysis.suites.given import Given
from tests.policy.good_policies import GOOD

#: Seeds, and every input that once was a defect, by target.
CORPUS = Path(__file__).with_name("corpus")
#: Between the documents of an ACM policy: no XML has this byte.
SEPARATOR = b"\0"
TODAY = date(2030, 1, 1)


def policy(data: bytes) -> None:
    """The language: a text, to findings or to a policy."""
    text = reading.decode(data, "fuzz.yaml")
    if isinstance(text, Finding):
        return
    found, findings = loader.check_text(text, "fuzz.yaml", TODAY)
    assert found is not None or findings, "refused without a reason"
    for finding in findings:
        assert finding.fix, finding
        assert str(finding.span), finding
    if found is not None:
        _works(found)
    if b"shype-assert" in data:
        assertions, findings = loader.check_assertions_text(text, "fuzz.yaml", _good())
        assert assertions is not None or findings, "refused without a reason"
        _proves(_good(), assertions or ())


def acm(data: bytes) -> None:
    """sHype's XML: one or two documents, to a policy of ours, and out again."""
    files = data.split(SEPARATOR)[:3]
    try:
        made = importer.import_documents([(part, f"{i}.xml") for i, part in enumerate(files)])
    except BadInput:
        return
    _works(made.policy)
    with suppress(BadInput):
        again = exporter.export(made.policy, lossy=True).text
        importer.import_documents([(again.encode(), "again.xml")])


def bundle(data: bytes) -> None:
    """A bundle's file, or its payload, or the manifest or policy inside, as JSON."""
    payload = data
    if data.startswith(b'{"payload":'):
        try:
            payload = envelope.loads(data).payload
        except BadInput:
            return
    with suppress(BadInput):
        assemble(contents.unpack(payload), Path("fuzz"))
    try:
        value = contents.parse(payload, "the payload")
    except BadInput:
        return
    with suppress(BadInput, ValueError, RecursionError):
        # The same in canonical form, without which nothing further is looked at.
        payload = canonical.dumps(value)
        assemble(contents.unpack(payload), Path("fuzz"))
    inner = value if isinstance(value, dict) else {}
    for part in (value, inner.get("manifest")):
        with suppress(BadInput):
            manifest = Manifest.from_json(part)
            assert Manifest.from_json(json.loads(canonical.dumps(manifest.to_json()))) == manifest
    for part in (value, inner.get("policy")):
        with suppress(BadInput):
            _works(policy_from_json(part))


def suite(data: bytes) -> None:
    """A test file, to findings or to tests that have answers."""
    text = reading.decode(data, "fuzz.test.yaml")
    if isinstance(text, Finding):
        return
    reader = Reader(TODAY, _tested())
    tests = reader.read_text(text, "fuzz.test.yaml", Path())
    for finding in reader.findings:
        assert finding.fix, finding
    if not reader.findings:
        outcomes = list(run(tests[:50]))
        assert all(outcome.answer.word for outcome in outcomes)
        ElementTree.fromstring(junit.report(outcomes))


@cache
def _good() -> Policy:
    """The policy that every test file, and every file of assertions, is about."""
    found, findings = loader.check_text(GOOD, "p.yaml", TODAY)
    assert found is not None, findings
    return found


@cache
def _tested() -> Given:
    """The same for test files."""
    return Given(_good())


def _proves(policy: Policy, assertions: Sequence[Assertion]) -> None:
    """What was accepted has a verdict, with a path if it is violated."""
    server = SecurityServer(policy, today=TODAY)
    if len(policy.labels) > 50 or not assertions:
        return
    for result in prove(server, FlowGraph(server), assertions[:20], shown=1):
        alone = isinstance(result.assertion, LevelsKept)  # the only label of a policy
        assert result.about > 0 or alone, "about nothing"
        assert result.holds == (not result.violations)
        assert result.holds or result.finding() is not None


def _works(policy: Policy) -> None:
    """What was accepted can be decided by, and written and read back unchanged."""
    again = policy_from_json(json.loads(canonical.dumps(policy_to_json(policy))))
    assert again == replace(policy, assertions=()), "not the same after JSON"
    _proves(policy, policy.assertions)
    server = SecurityServer(policy, today=TODAY)
    labels = [*policy.labels, *policy.retired][:6]
    for subject in labels:
        server.launch(subject, [])
        for object in labels:
            for operation in (Operation.MAP_READ, Operation.COPY_TO, Operation.EVENT_SEND):
                decision = server.decide(subject, object, operation)
                assert decision.sentence.isprintable(), decision.sentence
                assert decision.rules


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "policy": policy, "acm": acm, "bundle": bundle, "suite": suite,
}


def corpus(target: str) -> list[Path]:
    """The seeds of a target, in a fixed order."""
    return sorted(path for path in (CORPUS / target).iterdir() if path.is_file())


def amplified(data: bytes, begin: int, end: int, size: int, *, numbered: bool = False) -> bytes:
    """``data`` with the part from ``begin`` to ``end`` repeated until it has ``size`` bytes.

    Finds what takes long only for much of it. ``numbered``: the first word of
    each repetition gets a number of its own, for many names instead of one.
    """
    part = data[begin:end]
    times = max(1, (size - len(data)) // max(1, len(part) + 4 * numbered))
    if not numbered:
        return data[:begin] + part * times + data[end:]
    parts = (re.sub(rb"[a-z][\w-]*", rb"\g<0>%d" % i, part, count=1) for i in range(times))
    return data[:begin] + b"".join(parts) + data[end:]

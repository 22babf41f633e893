"""The four sides of a policy in the lab: as written, compiled, loaded, and tried by guests."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.compile.flask import reader, tables, verify
from shype.decision.security_server import SecurityServer
from shype.host.verify import binary, compare
from shype.host.verify.compare import Report
from shype.host.verify.table import Answer, Difference, Question, Side
from shype.lab import handover
from shype.lab.host import Lab
from shype.lab.tried import Progress, try_all
from shype.policy import signed
from shype.policy.contents import Contents
from shype.policy.ed25519 import PrivateKey
from shype.policy.manifest import Bundle
from shype.policy.model import Policy
from shype.policy.names import LabelName

#: Where dom0 gets a bundle that is not the one it was started with.
_PLACE = "/run/verify.shype"
#: Seconds that dom0 may take for its questions.
_ASKING = 600.0


def source_and_binary(bundle: Bundle, contents: Contents) -> Report:
    """The policy as written against the binary: by SETools in full, and per operation.

    Raises Unavailable (``validate.no-reader``), Internal (``validate.unreadable``),
    BadInput (``target.unknown``, ``bundle.unreadable``).
    """
    policy, manifest, data = bundle.policy, bundle.manifest, contents.files["policy.bin"]
    found: tuple[Difference, ...] = ()
    with tempfile.TemporaryDirectory(prefix="shype-verify-") as work:
        file = Path(work) / "policy.bin"
        file.write_bytes(data)
        table = tables.load(manifest.target)
        try:
            checks = verify.verify(policy, table, reader.read(file), manifest.digest).checks
        except verify.Disagreement as error:
            checks = len(error.mismatches)
            found = tuple(_difference(policy, mismatch) for mismatch in error.mismatches)
    rows = compare.compiled(
        SecurityServer(policy, today=date.today()), manifest, binary.read(data))
    return Report(rows, found, {(Side.SOURCE, Side.BINARY): checks}, {})


def _difference(policy: Policy, mismatch: verify.Mismatch) -> Difference:
    places = [
        str(label.span) for name, label in policy.labels.items()
        if name in (mismatch.subject, mismatch.target)
    ]
    return Difference(
        mismatch.subject, mismatch.target, mismatch.mechanism,
        {Side.SOURCE: mismatch.policy, Side.BINARY: mismatch.binary}, tuple(places),
    )


def loaded(lab: Lab, contents: Contents | None) -> Report:
    """What `shype verify` in the lab's dom0 finds, by its own bundle or by ``contents``.

    Raises Unavailable (``lab.verify``, ...), BadInput: as dom0 has it.
    """
    place = handover.POLICY
    if contents is not None:
        place = _PLACE
        key = PrivateKey.from_pem(lab.key.read_bytes(), str(lab.key))
        lab.put(place, signed.seal(contents, [key]))
    done = lab.run(["shype", "verify", "--json", "--every", "--bundle", place], _ASKING)
    try:
        value = json.loads(done.out)
    except ValueError as error:
        raise Unavailable(
            "lab.verify", f"dom0 gave no answer: {(done.err or done.out).strip()[-600:]}",
        ) from error
    if "error" in value:
        kind: type[ShypeError] = BadInput if done.code == BadInput.exit_code else Unavailable
        raise kind(str(value["error"]), f"dom0 says: {value['message']}", str(value.get("fix", "")))
    try:
        return Report.from_json(value)
    except (KeyError, ValueError, TypeError) as error:
        raise Unavailable("lab.verify", f"dom0 gave another answer than expected: {error!r}"
                          ) from error


def all_four(
    lab: Lab, given: tuple[Bundle, Contents] | None, *, twins: Collection[LabelName] | None = (),
    keep: bool = False, progress: Progress = lambda _: None,
) -> Report:
    """Source, binary, loaded policy and guests of a running lab.

    The policy is that of ``given``, or of dom0's own bundle; ``twins`` and
    ``keep`` as in `tried.try_all`, None: twins of all labels.  Raises what
    `source_and_binary`, `loaded` and `tried.try_all` raise, and BadInput
    (``lab.no-policy``) for a lab that enforces none.
    """
    if not lab.record.policy:
        raise BadInput(
            "lab.no-policy", f"the lab {lab.name} enforces no policy",
            "start it with one: shype lab up POLICY",
        )
    bundle, contents = given or handover.fetched(lab)
    progress("reading the binary")
    first = source_and_binary(bundle, contents)
    progress("asking the hypervisor")
    second = loaded(lab, None if given is None else contents)
    server = SecurityServer(bundle.policy, today=date.today())
    chosen = list(bundle.manifest.labels) if twins is None else twins
    guests = try_all(lab, server, bundle.manifest, twins=chosen, keep=keep, progress=progress)
    report = merged(first, second, guests.answers)
    wrong = {row.question for row in report.rows
             if any(row.differs(side, Side.GUESTS) for side in Side if side is not Side.GUESTS)}
    evidence = tuple(
        attempt.to_json() for question, attempt in guests.attempts if question in wrong)
    return replace(report, evidence=evidence, differences=report.differences + tuple(
        Difference(label, "", "start a guest", {Side.SOURCE: "permit", Side.GUESTS: why},
                   (str(bundle.policy.labels[label].span),))
        for label, why in guests.failed.items()))


def merged(first: Report, second: Report, guests: Mapping[Question, Answer]) -> Report:
    """All differences of both, and each question with all its answers."""
    asked = {row.question: row for row in second.rows}
    rows = []
    for row in first.rows:
        answers = {**row.answers}
        if row.question in asked:
            answers[Side.LOADED] = asked[row.question].of(Side.LOADED)
        if row.question in guests:
            answers[Side.GUESTS] = guests[row.question]
        rows.append(replace(row, answers=answers))
    return Report(
        tuple(rows), first.differences + second.differences, {**first.finer, **second.finer},
        second.booleans,
    )

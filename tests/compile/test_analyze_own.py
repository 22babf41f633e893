"""What `analyze` finds in shype's own binaries is what the security server permits."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.cli.explain import read_policy
from shype.compile.flask import build, cil, encoding, tables
from shype.compile.flask.analyze import flows, policy_file
from shype.decision.operation import Operation
from shype.decision.security_server import SecurityServer
from shype.policy.model import Policy
from shype.policy.names import LabelName

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
_WIDTH = {"event": "signal", "grant": "bulk", "argo": "bulk"}


def permitted(server: SecurityServer, mechanism: str, x: LabelName, y: LabelName) -> bool:
    """Whether information of a VM labelled ``x`` can arrive at one labelled ``y``."""
    questions = {
        "event": [(x, y, Operation.EVENT_SEND)],
        "argo": [(x, y, Operation.ARGO_SEND)],
        "grant": [(y, x, Operation.MAP_READ), (x, y, Operation.MAP_WRITE),
                  (y, x, Operation.COPY_FROM), (x, y, Operation.COPY_TO)],
    }[mechanism]
    return any(server.decide(*question).permitted for question in questions)


def analysed(policy: Policy, folder: Path) -> flows.Flows:
    (folder / "p.cil").write_text(cil.generate(policy, tables.load("xen-4.17")))
    build.compile_cil(folder / "p.cil", folder / "p.bin")
    return flows.analyse(policy_file.read(folder / "p.bin"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_binary_has_exactly_the_flows_that_the_server_permits(
    path: Path, tmp_path: Path
) -> None:
    policy = read_policy(path)
    server, found = SecurityServer(policy), analysed(policy, tmp_path)
    labels = [label.name for label in encoding.managed(policy)]
    index = {label: found.names.index[encoding.type_of(label)] for label in labels}
    for mechanism, width in _WIDTH.items():
        rows = found.union(
            lambda kind, m=mechanism, w=width:  # type: ignore[misc]
            kind.mechanism == m and kind.bandwidth == w
        )
        got = {(x, y) for x in labels for y in labels if rows[index[x]] >> index[y] & 1}
        wanted = {(x, y) for x in labels for y in labels if permitted(server, mechanism, x, y)}
        assert got >= wanted
        if not policy.levels and not policy.integrity:
            assert got == wanted
    rest = found.union(lambda kind: kind.mechanism not in _WIDTH)
    between = {(x, y) for x in labels for y in labels if rest[index[x]] >> index[y] & 1}
    assert not between  # nothing but the three mechanisms


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_with_levels_what_is_not_sure_is_said_to_be(path: Path, tmp_path: Path) -> None:
    policy = read_policy(path)
    server, found = SecurityServer(policy), analysed(policy, tmp_path)
    labels = [label.name for label in encoding.managed(policy)]
    index = {label: found.names.index[encoding.type_of(label)] for label in labels}
    for x in labels:
        for y in labels:
            for kind in found.kinds(index[x], index[y]):
                if not permitted(server, kind.mechanism, x, y):
                    assert found.doubt(kind, index[x], index[y]).constraint

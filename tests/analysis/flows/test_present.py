"""The graph of what runs: only the VMs, disks and bridges that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shype.analysis.flows.graph import FlowGraph
from shype.analysis.flows.present import present
from shype.analysis.flows.vertex import Layer
from shype.analysis.state import from_json
from shype.base.errors import BadInput
from shype.decision.security_server import SecurityServer
from shype.policy.loader import load

POLICY = """\
shype: 1
policy: {name: p, version: "1.0"}
coalitions: {storage: {mechanisms: [disk]}, lan: {mechanisms: [network]}, team: {mechanisms: [grant]}}
labels:
  manager: {coalitions: all}
  a: {coalitions: [storage, lan]}
  b: {coalitions: [storage, lan]}
  c: {coalitions: [team, lan]}
resources:
  - {disk: "/dev/vg/*", coalitions: [storage]}
  - {network: "br*", coalitions: [lan]}
host: {dom0: manager}
"""  # noqa: E501


def graph(tmp_path: Path, *domains: dict[str, object]) -> FlowGraph:
    path = tmp_path / "p.yaml"
    path.write_text(POLICY)
    server = SecurityServer(load(path).policy)
    numbered = [{"domid": n, "vm": f"vm{n}", **d} for n, d in enumerate(domains, 1)]
    state = from_json({"domains": numbered})
    return FlowGraph(server, present=present(server.policy, state))


def uses(*each: tuple[str, str] | tuple[str, str, str]) -> list[dict[str, str]]:
    return [dict(zip(("kind", "name", "access"), use, strict=False)) for use in each]


def flows(made: FlowGraph, layer: Layer = Layer.DRIVER) -> set[tuple[str, str]]:
    names = [name for name in made.of if name != "manager"]
    return {
        (x, y) for x in names for y in names if made.reach(layer)[made.of[x]] >> made.of[y] & 1
    }


def test_who_does_not_run_is_not_there(tmp_path: Path) -> None:
    made = graph(tmp_path, {"label": "a", "resources": []}, {"label": "c", "resources": []})
    assert {*made.of} == {"manager", "a", "c"}
    assert flows(made) == set(), "one VM of each, and nobody has a bridge"
    idle: dict[str, object] = {"label": "c", "resources": []}
    twice = graph(tmp_path, idle, idle)
    assert flows(twice) == {("c", "c")}


def test_a_disk_in_common(tmp_path: Path) -> None:
    made = graph(
        tmp_path,
        {"label": "a", "resources": uses(("disk", "/dev/vg/x"))},
        {"label": "b", "resources": uses(("disk", "/dev/vg/x", "read"))},
    )
    assert flows(made, Layer.DIRECT) == set()
    assert ("a", "b") in flows(made)
    assert ("disk:/dev/vg/x", "b") in flows(made)
    assert {("b", "a"), ("b", "disk:/dev/vg/x")} & flows(made) == set(), "b only reads it"


def test_two_disks_that_one_pattern_labels_are_two(tmp_path: Path) -> None:
    made = graph(
        tmp_path,
        {"label": "a", "resources": uses(("disk", "/dev/vg/x"))},
        {"label": "b", "resources": uses(("disk", "/dev/vg/y"))},
    )
    assert {("a", "b"), ("b", "a")} & flows(made) == set()


def test_what_is_not_known_may_be_everything(tmp_path: Path) -> None:
    made = graph(tmp_path, {"label": "a"}, {"label": "b", "resources": uses(("disk", "/dev/vg/y"))})
    assert {("a", "b"), ("b", "a")} <= flows(made)
    assert "network:br*" in made.of
    assert ("a", "network:br*") in flows(made)
    assert made.by_mechanism["network"][made.of["b"]] >> made.of["network:br*"] & 1 == 0


def test_one_vm_of_a_label_with_unknown_uses_makes_the_label_s_unknown(tmp_path: Path) -> None:
    made = graph(
        tmp_path, {"label": "a", "resources": []}, {"label": "a"}, {"label": "b", "resources": []},
    )
    assert made.present is not None
    assert made.present.uses["a"] is None  # type: ignore[index]
    assert [d.vm for d in made.present.domains["a"]] == ["vm1", "vm2"]  # type: ignore[index]


def test_hosts(tmp_path: Path) -> None:
    """Grants stay on a host; a disk of one name is the same on both."""
    path = tmp_path / "p.yaml"
    path.write_text(POLICY.replace("  c: {", "  d: {coalitions: [team, storage]}\n  c: {"))
    server = SecurityServer(load(path).policy)

    def state(*labels: str, disk: str | None = None) -> object:
        used = uses(("disk", disk)) if disk else []
        return {"domains": [{"domid": n, "vm": f"vm{n}", "label": label, "resources": used}
                            for n, label in enumerate(labels, 1)]}

    def made(*states: object, layer: Layer = Layer.DIRECT) -> set[tuple[str, str]]:
        graph = FlowGraph(
            server, present=present(server.policy, *map(from_json, states)))
        return {pair for pair in flows(graph, layer) if ":" not in "".join(pair)}

    assert made(state("c", "d")) == {("c", "d"), ("d", "c")}
    assert made(state("c"), state("d")) == set()
    assert made(state("c"), state("c")) == set()
    assert made(state("c", "c"), state("d")) == {("c", "c")}
    assert made(state("c", "d"), state("d")) == {("c", "d"), ("d", "c")}
    both = state("a", disk="/dev/vg/x"), state("d", disk="/dev/vg/x")
    assert {("a", "d"), ("d", "a")} <= made(*both, layer=Layer.DRIVER)


def test_a_strange_label_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"vm1 .*\[flow.state\]"):
        graph(tmp_path, {"label": "gone"})
    with pytest.raises(BadInput, match=r"flow\.state"):
        graph(tmp_path, {"context": "system_u:system_r:x_t"})

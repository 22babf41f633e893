"""What the manager opens, and what it says no to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.base.errors import Unavailable
from shype.host.drivers.xen.listing import Listed
from shype.host.manager.authority import MAX_LINE, OPEN, Authority
from shype.host.manager.succession import Succession
from shype.host.update.staged import Staged
from shype.policy.manifest import BOOT_MANAGER, Bundle
from shype.policy.names import LabelName
from tests.host.builders import bundle, context
from tests.signing import TRUSTED

POLICY = """\
shype: 1
policy: {name: managed, version: "1.0"}
coalitions: [red, blue]
walls: {sides: [left, right]}
labels:
  boss: {coalitions: all}
  keeper: {locked: true}
  vault: {coalitions: [red], wall: [left], locked: true}
  plain: {coalitions: [red]}
  rival: {coalitions: [blue], wall: [right]}
host: {dom0: boss, manager: keeper}
"""
MANAGER = Listed(1, context("l_keeper_t"), False)
VAULT = Listed(2, context("l_vault_t"), False)


@dataclass
class Xen:
    """Booleans and domains."""

    values: dict[str, bool]
    domains: list[Listed] = field(default_factory=lambda: [
        Listed(0, context("dom0_t"), False), MANAGER])
    commits: list[Mapping[str, bool]] = field(default_factory=list)

    def boolean(self, name: str) -> bool | None:
        return self.values.get(name)

    def set_booleans(self, values: Mapping[str, bool]) -> None:
        assert values.keys() <= self.values.keys()
        self.commits.append(values)
        self.values.update(values)

    def listed(self) -> Sequence[Listed]:
        return self.domains

    def target(self) -> str:
        return "xen-4.17"

    def load(self, policy: bytes) -> None:
        raise AssertionError("nobody asked for it")

    def print_grants(self) -> None:
        raise AssertionError("nobody asked for it")


@dataclass
class World:
    made: Bundle
    xen: Xen
    authority: Authority
    now: float = 0.0

    def ask(self, label: str | None, **more: bool) -> dict[str, Any]:
        window = self.made.manifest.window_values(LabelName(label) if label else None)
        return self.say({"id": "1", "op": "set", "values": {**window, **more}})

    def say(self, request: object) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.authority.handle(json.dumps(request).encode()))
        return answer

    @property
    def open(self) -> bool:
        return self.xen.values["win_en"]


def begun(made: Bundle) -> Succession:
    return Succession(Staged(made, b"bin", b""), TRUSTED, {})


def world(directory: Path) -> World:
    made = bundle(directory, POLICY)
    names = made.manifest.booleans
    known = (names.enable, *names.bits, *names.running.values(), names.digest)
    values = dict.fromkeys(known, False)
    xen = Xen({**values, BOOT_MANAGER: True})
    here = World(made, xen, Authority(begun(made), xen, clock=lambda: here.now))
    here.authority.begin()
    return here


def test_it_takes_the_right_to_build_a_manager_away_first(tmp_path: Path) -> None:
    xen = world(tmp_path).xen
    assert xen.commits[0] == {BOOT_MANAGER: False}
    assert not xen.values["win_en"]


def test_it_does_not_begin_with_another_policy_loaded(tmp_path: Path) -> None:
    made = bundle(tmp_path, POLICY)
    xen = Xen({BOOT_MANAGER: True})
    with pytest.raises(Unavailable, match=r"host\.wrong-policy"):
        Authority(begun(made), xen).begin()
    assert xen.values[BOOT_MANAGER]


def test_a_window_opens_and_closes_and_the_wall_follows_who_runs(tmp_path: Path) -> None:
    here = world(tmp_path)
    assert here.ask("vault")["set"]["run_left"]
    assert here.open
    here.xen.domains.append(VAULT)
    here.ask(None)
    assert (here.open, here.xen.values["run_left"]) == (False, True)
    assert here.ask(None, run_left=False)["set"]["run_left"], "what dom0 says of it does not count"
    here.xen.domains.remove(VAULT)
    assert not here.ask(None, run_left=True)["set"]["run_left"]


@pytest.mark.parametrize(("label", "there", "id_"), [
    ("rival", VAULT, "wall.conflict"), ("vault", VAULT, "label.locked"),
    ("keeper", None, "auth.reserved"),
    ("plain", Listed(9, "u:r:somebody_t:s0", False), "wall.unknown-running"),
])
def test_what_the_policy_refuses_stays_closed(
    tmp_path: Path, label: str, there: Listed | None, id_: str
) -> None:
    here = world(tmp_path)
    here.xen.domains += [there] if there else []
    assert here.ask(label)["error"] == id_
    assert not here.open


def test_one_window_at_a_time(tmp_path: Path) -> None:
    here = world(tmp_path)
    here.ask("plain")
    assert here.ask("plain")["error"] == here.ask("vault")["error"] == "manager.busy"
    assert "set" in here.ask(None)
    assert "set" in here.ask("vault")


def test_it_closes_by_itself(tmp_path: Path) -> None:
    here = world(tmp_path)
    here.ask("plain")
    here.now = OPEN - 1
    assert here.authority.tick() == 1
    assert here.open
    here.now = OPEN
    assert here.authority.tick() is None
    assert not here.open


def test_another_policy_stops_it(tmp_path: Path) -> None:
    here = world(tmp_path)
    del here.xen.values[here.made.manifest.booleans.digest]
    assert here.ask("plain")["error"] == "host.wrong-policy"
    assert not here.open


@pytest.mark.parametrize("values", [
    None, {}, {"win_en": True}, {"boot_manager": True}, {"win_en": 1, "win_b0": 0, "win_b1": 0},
    {"win_en": True, "win_b0": False, "win_b1": False, "policy": True},
])
def test_bad_values(tmp_path: Path, values: object) -> None:
    here = world(tmp_path)
    assert here.say({"op": "set", "values": values})["error"] == "manager.request"
    assert not here.open


@settings(deadline=None)  # each example makes a host
@given(st.binary(max_size=200) | st.sampled_from(
    [b"[" * 100_000, b"{}", b"null", b'{"op": ["set"]}', b" " * (MAX_LINE + 1),
     b'{"op": "load"}', b'{"op": "part", "at": 0, "data": ""}', b'{"op": "print"}']))
def test_nonsense_is_answered_and_changes_nothing(line: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        here = world(Path(place))
        before = dict(here.xen.values)
        answer = json.loads(here.authority.handle(line))
        assert answer["error"] == "manager.request"
        assert here.xen.values == before


def test_status(tmp_path: Path) -> None:
    here = world(tmp_path)
    answer = here.say({"id": "x", "op": "status"})
    assert (answer["id"], answer["open"], answer["domains"]) == ("x", False, 2)
    assert answer["digest"] == here.made.manifest.digest

"""Which policy the manager loads when dom0 sends one, and which way back there is."""

from __future__ import annotations

import base64
import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shype.base.errors import BadInput, Unavailable
from shype.host.drivers.xen.listing import Listed
from shype.host.manager.incoming import MAX_PACKED, MAX_SEALED, pack
from shype.host.manager.serve import succession
from shype.host.manager.succession import TRIAL
from shype.policy import signed
from tests.host.builders import context
from tests.host.manager.sovereign import (
    NEW,
    OLD,
    World,
    parts,
    sealed,
    staged,
    with_binary,
    with_rule,
    world,
)
from tests.host.manager.test_authority import POLICY as STILL
from tests.signing import STRANGER, keys


@pytest.fixture
def here() -> World:
    return world()


def test_a_signed_successor_is_loaded_and_stays_once_it_is_confirmed(here: World) -> None:
    here.xen.domains.append(Listed(2, context("l_plain_t"), False))
    said = here.send(sealed(NEW), part=1000)
    assert said["before"] is not None, said
    assert here.version == "1.1"
    assert here.xen.domains[2].context == context("l_simple_t")
    assert here.window("simple")["error"] == "manager.busy", "nothing starts under one on trial"
    assert here.say("confirm", digest=said["digest"])["before"] is None
    assert here.say("confirm", digest=said["digest"])["version"] == "1.1", "twice is as once"
    assert here.say("back")["error"] == "manager.trial-over"
    here.now = 2 * TRIAL
    assert here.authority.tick() is None
    assert here.version == "1.1"
    assert "set" in here.window("simple")


def test_the_wall_follows_into_the_new_policy(here: World) -> None:
    here.xen.domains.append(Listed(2, context("l_vault_t"), False))
    here.window(None)
    new = NEW.replace("[left, right]", "[port, right]").replace("[left]", "[port]")
    assert "error" not in here.send(sealed(new))
    assert here.xen.values["run_port"]


@pytest.mark.parametrize("how", ["asked", "time"])
def test_the_way_back_is_to_the_policy_before_with_its_labels(here: World, how: str) -> None:
    here.xen.domains.append(Listed(2, context("l_plain_t"), False))
    here.send(sealed(NEW))
    if how == "asked":
        assert here.say("back")["version"] == "1.0"
    else:
        here.now = TRIAL - 1
        assert here.authority.tick() == 1
        assert here.version == "1.1"
        here.now = TRIAL
        here.authority.tick()
    assert here.version == "1.0"
    assert here.xen.domains[2].context == context("l_plain_t")
    assert "set" in here.window("plain")
    assert here.say("confirm", digest=staged(sealed(NEW)).bundle.manifest.digest)["error"] == (
        "manager.trial-over")
    here.window(None)
    assert here.send(sealed(NEW))["version"] == "1.1", "it may be tried again"


def test_a_way_back_that_fails_is_tried_again(here: World) -> None:
    here.send(sealed(NEW))
    here.xen.fails, here.now = True, TRIAL
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"host\.load"):
            here.authority.tick()
    here.xen.fails = False
    here.authority.tick()
    assert here.version == "1.0"


THIRD = NEW.replace('"1.1", from: "1.0"', '"1.2", from: "1.1"').replace("was: plain, ", "")
REFUSED: Mapping[str, tuple[Callable[[], bytes], str, int]] = {
    "by a stranger": (lambda: sealed(NEW, STRANGER), "bundle.unknown-key", 2),
    "by nobody": (lambda: signed.seal(parts(NEW), []), "bundle.unsigned", 2),
    "altered": (lambda: sealed(NEW).replace(b"eyJ", b"eyK", 1), "bundle.altered", 2),
    "no bundle": (lambda: b"{}", "bundle.corrupt", 2),
    "the same again": (lambda: sealed(OLD), "apply.same", 2),
    "older": (lambda: sealed(OLD.replace('"1.0"', '"0.9"')), "bundle.older", 2),
    "the version again": (lambda: sealed(OLD.replace("[red, blue]", "[red, blue, green]")),
                          "bundle.version-reused", 2),
    "for another hypervisor": (lambda: sealed(NEW, target="xen-4.19"), "bundle.wrong-target", 2),
    "of another name": (lambda: sealed(NEW.replace("name: managed", "name: other")),
                        "apply.another", 2),
    "not live": (lambda: sealed(NEW.replace(", updates: live", "")), "apply.not-live", 2),
    "without a manager": (lambda: sealed(NEW.replace("manager: keeper, ", "")), "apply.manager", 2),
    "with another manager": (
        lambda: sealed(NEW.replace("manager: keeper", "manager: second").replace(
            "  keeper:", "  second: {locked: true}\n  keeper:")), "apply.manager", 2),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_changes_nothing(here: World, name: str) -> None:
    make, id_, code = REFUSED[name]
    said = here.send(make())
    assert (said.get("error"), said.get("exit")) == (id_, code), said
    assert here.version == "1.0"
    assert here.say("load")["error"] == "manager.request", "it has to be sent again"


def test_what_was_in_force_is_refused_for_ever(here: World) -> None:
    for text in (NEW, THIRD):
        said = here.send(sealed(text))
        here.say("confirm", digest=said["digest"])
    assert here.send(sealed(NEW))["error"] == here.send(sealed(OLD))["error"] == "bundle.older"
    assert here.version == "1.2"


def test_a_policy_that_was_renamed_goes_on(here: World) -> None:
    new = NEW.replace("name: managed", "name: kept, was: managed")
    assert here.send(sealed(new))["policy"] == "kept"


def test_one_trial_at_a_time_and_none_with_a_window_open(here: World) -> None:
    here.window("plain")
    assert here.send(sealed(NEW))["error"] == "manager.busy"
    here.window(None)
    here.send(sealed(NEW))
    assert here.send(sealed(THIRD))["error"] == "manager.busy"
    assert here.say("back")["version"] == "1.0"


@pytest.mark.parametrize(("there", "new"), [
    ("l_plain_t", NEW.replace("was: plain, ", "")),
    ("l_plain_t", NEW.replace("  simple: {was: plain, coalitions: [red]}\n", "")),
    ("l_nobody_t", NEW), ("unlabeled_t", NEW),
])
def test_nobody_who_runs_loses_its_label(here: World, there: str, new: str) -> None:
    here.xen.domains.append(Listed(2, context(there), False))
    assert here.send(sealed(new))["error"] == "apply.label-lost"
    assert here.version == "1.0"


def test_a_label_that_is_retired_is_none_that_is_lost(here: World) -> None:
    here.xen.domains.append(Listed(2, context("l_plain_t"), False))
    gone = NEW.replace("  simple: {was: plain, coalitions: [red]}\n", "").replace(
        "host: {", "retired: [plain]\nhost: {")
    assert here.send(sealed(gone))["version"] == "1.1"
    assert here.say("back")["version"] == "1.0"


def test_levels_stay_with_who_has_them() -> None:
    levels = OLD.replace("labels:\n", "levels: {order: [low, high]}\nlabels:\n")
    for name in ("vault", "rival", "plain", "keeper"):
        levels = levels.replace(f"  {name}: {{", f"  {name}: {{level: low, ")
    here = world(levels)
    assert here.send(sealed(levels.replace('"1.0"', '"1.1"').replace(
        "plain: {level: low", "plain: {level: high")))["version"] == "1.1"
    here = world(levels)
    here.xen.domains.append(Listed(2, context("l_plain_t"), False))
    new = levels.replace('"1.0"', '"1.1"')
    assert here.send(sealed(new.replace("plain: {level: low", "plain: {level: high")))[
        "error"] == "apply.label-lost"
    assert here.send(sealed(new.replace("[low, high]", "[low, middle, high]")))[
        "error"] == "apply.label-lost", "dom0's own range"
    assert here.send(sealed(new.replace("keeper: {level: low", "keeper: {level: high")))[
        "error"] == "apply.manager"


@pytest.mark.parametrize("rule", [
    "(allow dom0_t security_t (security (load_policy)))",
    "(booleanif win_en (true (allow dom0_t security_t (security (setbool)))))",
    "(allow dom0_t security_t (security (setenforce)))",
    "(allow l_keeper_t security_t (security (setenforce)))",
])
def test_a_binary_that_gives_its_rights_away_is_not_loaded(
    here: World, rule: str, tmp_path: Path
) -> None:
    assert here.send(with_rule(NEW, rule, tmp_path))["error"] == "apply.rights"
    assert here.version == "1.0"


@pytest.mark.parametrize(("binary", "id_"), [
    (lambda: parts(OLD).files["policy.bin"], "bundle.not-it"),
    (lambda: parts(NEW).files["policy.bin"][:-40], "bundle.unreadable"),
    (lambda: parts(NEW.replace("manager: keeper, ", "")).files["policy.bin"], "bundle.not-it"),
])
def test_another_binary_than_the_manifests_is_not_loaded(
    here: World, binary: Callable[[], bytes], id_: str
) -> None:
    assert here.send(with_binary(parts(NEW), binary()))["error"] == id_
    assert here.version == "1.0"


def test_what_the_hypervisor_refuses_is_a_failure_and_no_refusal(here: World) -> None:
    here.xen.fails = True
    said = here.send(sealed(NEW))
    assert (said["error"], said["exit"]) == ("host.load", 3)
    assert here.version == "1.0"


@pytest.mark.parametrize(("how", "id_"), [
    ({"keep": 1000}, "manager.transfer"), ({"digest": "0" * 64}, "manager.transfer"),
    ({"digest": "\ud800"}, "manager.transfer"),
])
def test_what_does_not_arrive_whole_is_told_apart(
    here: World, how: dict[str, Any], id_: str
) -> None:
    said = here.send(sealed(NEW), **how)
    assert (said["error"], said["exit"]) == (id_, 3)
    assert here.version == "1.0"


def test_parts_come_in_order_and_a_new_offer_begins_again(here: World) -> None:
    data = base64.b64encode(b"x" * 10).decode()
    assert here.say("part", at=0, data=data)["error"] == "manager.request"
    assert here.say("offer", size=15, digest="d")["at"] == 0
    assert here.say("part", at=0, data=data)["at"] == 10
    for at, piece in ((0, data), (10, data), (10, ""), (10, "?"), (10, 7), (True, data)):
        assert here.say("part", at=at, data=piece)["error"] == "manager.transfer"
    assert here.say("offer", size=0, digest="d")["error"] == "manager.transfer"
    assert here.say("load")["error"] == "manager.request"
    assert here.send(sealed(NEW))["version"] == "1.1"


def test_sizes_are_bounded_before_and_after_unpacking(here: World) -> None:
    said = here.say("offer", size=MAX_PACKED + 1, digest="d")
    assert (said["error"], said["exit"]) == ("manager.too-large", 3)
    assert here.send(bytes(MAX_SEALED + 1))["error"] == "manager.too-large"
    with pytest.raises(Unavailable, match=r"manager\.too-large"):
        pack(bytes(MAX_SEALED + 1))
    assert here.version == "1.0"


def test_too_little_memory_is_an_answer(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(signed, "opened", no_room)
    said = here.send(sealed(NEW))
    assert (said["error"], said["exit"]) == ("manager.memory", 3)
    assert here.version == "1.0"


@settings(deadline=None, max_examples=30)
@given(at=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_no_changed_bit_gets_through(at: int, bit: int) -> None:
    here, data = world(), bytearray(sealed(NEW))
    data[at % len(data)] ^= 1 << bit
    said = here.send(bytes(data))
    assert said["error"] in {"bundle.altered", "bundle.corrupt", "bundle.unknown-key"}, said
    assert here.version == "1.0"


def test_it_has_the_grants_printed(here: World) -> None:
    assert here.say("print") == {"id": "1", "printed": True}
    assert here.xen.printed == 1
    assert here.version == "1.0"


def test_a_fault_of_its_kernel_is_an_answer(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault() -> str:
        raise OSError(errno.EINTR, "Interrupted system call")

    monkeypatch.setattr(here.xen, "target", fault)
    said = here.send(sealed(NEW))
    assert (said["error"], said["exit"]) == ("manager.fault", 3)
    assert here.version == "1.0"


def test_it_begins_with_the_hosts_bundle_unless_that_is_older_than_the_images(
    tmp_path: Path
) -> None:
    image, current, trusted = tmp_path / "image", tmp_path / "current", keys(tmp_path / "keys")
    image.write_bytes(sealed(NEW))
    assert succession(image, current, trusted).now.bundle.policy.version == "1.1"
    current.write_bytes(sealed(THIRD))
    assert succession(image, current, trusted).now.bundle.policy.version == "1.2"
    for data, id_ in ((sealed(OLD), "bundle.older"), (b"", "bundle.corrupt"),
                      (sealed(THIRD, STRANGER), "bundle.unknown-key")):
        current.write_bytes(data)
        with pytest.raises(BadInput) as caught:
            succession(image, current, trusted)
        assert caught.value.id == id_


def test_a_policy_that_is_not_live_is_never_replaced() -> None:
    here = world(STILL)
    assert here.say("print")["error"] == "manager.request"
    assert here.send(sealed(NEW))["error"] == "apply.not-live"
    assert here.say("status")["version"] == "1.0"

"""Updates on the model: what is refused, paused, destroyed, and rolled back."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.cli import apply
from shype.host import guardian
from shype.host.admission import admit
from shype.host.attestation import losses
from shype.host.control import pause, unpause
from shype.host.drivers.model_updating import REFUSED
from shype.host.hypervisor import Ending
from shype.host.launch import launch
from shype.host.status import status
from shype.host.stop import stop
from shype.host.update import health, journal
from shype.host.update.journal import UpdateJournal
from shype.host.update.update import RolledBack, Step
from shype.host.watch import watch
from tests.cli.on_model import options, run
from tests.host.attestation.attested import VERIFIER
from tests.host.builders import config, model
from tests.host.update.shop import NEW, OLD, VMS, Shop

REFUSING = NEW.replace(", revocation: pause", "")
DESTROYING = NEW.replace("pause", "destroy")


@pytest.fixture(autouse=True)
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No guardian: tests/host/update/test_killed.py has the real one."""
    monkeypatch.setattr(guardian, "post", lambda agent, *then: None)


def test_clean_update_renames_labels_and_keeps_everybody_running(tmp_path: Path) -> None:
    shop = Shop(tmp_path, REFUSING)
    steps: list[Step] = []
    made = shop.apply(steps.append)
    assert steps == [step for step in Step if step is not Step.RETURNED]
    assert shop.assert_whole() == "1.1"
    assert shop.states() == dict.fromkeys(VMS, False)
    labels = {d.name: made.after.manifest.label_of_context(d.context)
              for d in made.after.hypervisor.domains()}
    assert labels == {"Domain-0": "host", "web-1": "web", "db-1": "store", "till-1": "till"}
    assert shop.file.read_bytes() == shop.new.read_bytes()


def test_what_is_held_is_found_and_the_policys_word_is_done(tmp_path: Path) -> None:
    shop = Shop(tmp_path, REFUSING)
    shop.share("web-1", "db-1")
    made = shop.update()
    with made.before.lock.hold(5):
        done = made.apply()
    assert done.refused is not None
    assert "revocation: refuse" in done.refused
    assert done.look.mappers == {shop.domid("web-1"): "web-1"}
    assert shop.assert_whole() == "1.0"

    shop.offer(NEW)
    made = shop.update()
    with made.before.lock.hold(5):
        done = made.apply()
    assert (done.refused, done.paused, done.left) == (None, ("web-1",), ())
    assert shop.states() == {"web-1": True, "db-1": False, "till-1": False}
    assert shop.assert_whole() == "1.1"
    with pytest.raises(BadInput) as caught:
        unpause(shop.current(), "web-1")
    assert caught.value.id == "vm.revoked"
    stop(shop.current(), "web-1", force=True, timeout=0)
    assert launch(shop.current(), config(tmp_path, "web-1")).domid is not None
    pause(shop.current(), "web-1")
    unpause(shop.current(), "web-1")


def test_destroying_takes_the_mapping_with_its_domain(tmp_path: Path) -> None:
    shop = Shop(tmp_path, DESTROYING)
    shop.share("web-1", "db-1")
    made = shop.update()
    with made.before.lock.hold(5):
        done = made.apply()
    assert (done.destroyed, done.left) == (("web-1",), ())
    assert shop.states() == {"db-1": False, "till-1": False}
    assert made.after.hypervisor.mapped().found == ()
    assert shop.assert_whole() == "1.1"


def test_detach_cannot_end_a_mapping_and_says_so(tmp_path: Path) -> None:
    shop = Shop(tmp_path, NEW.replace("pause", "detach"))
    shop.share("web-1", "db-1")
    made = shop.update()
    refused = made.refusal(made.plan())
    assert refused is not None
    assert "only they can undo" in refused


def test_who_could_have_mapped_is_taken_to_have_when_xen_does_not_tell(tmp_path: Path) -> None:
    shop = Shop(tmp_path, REFUSING)
    model(shop.agent).garble()
    made = shop.update()
    found = made.plan()
    assert not found.certain
    assert found.mappers == {shop.domid("web-1"): "web-1", shop.domid("db-1"): "db-1"}
    assert made.refusal(found) is not None


def test_pages_mapped_after_the_plan_are_found_too(tmp_path: Path) -> None:
    for revocation in ("refuse", "pause"):
        place = tmp_path / revocation
        place.mkdir()
        shop = Shop(place, NEW.replace("pause", revocation))

        def late(step: Step, shop: Shop = shop) -> None:
            if step is Step.OPENED:
                shop.share("web-1", "db-1")

        if revocation == "refuse":
            with pytest.raises(RolledBack):
                shop.apply(late)
            assert shop.assert_whole() == "1.0"
            assert shop.states() == dict.fromkeys(VMS, False)
        else:
            shop.apply(late)
            assert shop.assert_whole() == "1.1"
            assert shop.states()["web-1"]


@pytest.mark.parametrize("wrong", [("the hypervisor decides otherwise",), None])
def test_a_policy_that_does_not_stand_its_test_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...] | None
) -> None:
    shop = Shop(tmp_path)
    shop.share("web-1", "db-1")
    steps: list[Step] = []

    def problems(*given: object) -> tuple[str, ...]:
        if wrong is None:
            raise Unavailable("host.flask", "no answer")
        return wrong

    monkeypatch.setattr(health, "problems", problems)
    with pytest.raises(RolledBack):
        shop.apply(steps.append)
    assert steps[-3:] == [Step.OPENED, Step.LOADED, Step.RETURNED]
    assert shop.assert_whole() == "1.0"
    assert shop.states() == dict.fromkeys(VMS, False), "who was paused goes on"
    admit(shop.current())  # the old version is not called older


def test_a_disk_that_gets_full_before_the_commit_is_no_reason_to_stay_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.share("web-1", "db-1")

    def full(step: Step) -> None:
        if step is Step.TESTED:
            monkeypatch.setattr(journal, "write_atomic", _no_room)

    with pytest.raises(RolledBack) as caught:
        shop.apply(full)
    assert "state.unwritable" in str(caught.value)
    assert shop.assert_whole() == "1.0"
    assert shop.states() == dict.fromkeys(VMS, False)


def _no_room(*given: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_binary_that_the_hypervisor_refuses_changes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.share("web-1", "db-1")
    shop.offer(NEW, REFUSED)
    with pytest.raises(Unavailable) as caught:
        shop.apply()
    assert caught.value.id == "host.load"
    assert shop.assert_whole() == "1.0"
    assert shop.states() == dict.fromkeys(VMS, False)


@pytest.mark.parametrize(("old", "new", "id"), [
    (OLD.replace(", updates: live", ""), NEW, "apply.not-live"),
    (OLD, NEW.replace(", updates: live, revocation: pause", ""), "apply.not-live"),
    (OLD, OLD.replace("1.0", "0.9"), "bundle.older"),
    (OLD, OLD.replace("[red, blue]", "[red, blue, green]"), "bundle.version-reused"),
])
def test_what_may_never_be_applied(tmp_path: Path, old: str, new: str, id: str) -> None:
    shop = Shop(tmp_path, new, old)
    admit(shop.agent)
    with pytest.raises(BadInput) as caught:
        shop.update().plan()
    assert caught.value.id == id


def test_the_same_policy_again_is_told_apart(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.new.write_bytes(shop.file.read_bytes())
    with pytest.raises(BadInput) as caught:
        shop.update().plan()
    assert caught.value.id == "apply.same"


@pytest.mark.parametrize(("old", "new"), [
    (OLD, NEW.replace(", was: db", "")),  # a label that a running VM would lose
    # a name that is given up and taken in one update: the way back would be ambiguous
    (OLD.replace("  till: {", "  store: {coalitions: [back]}\n  till: {"), NEW),
])
def test_what_is_impossible_is_refused(tmp_path: Path, old: str, new: str) -> None:
    shop = Shop(tmp_path, new, old)
    made = shop.update()
    found = made.plan()
    assert not found.possible
    assert made.refusal(found) is not None


def test_an_update_in_the_middle_is_shown_and_what_grew_since_is_not_done(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    seen: list[str] = []

    def look(step: Step) -> None:
        if step is Step.LOADED:
            found = status(shop.agent).update
            assert found is not None
            seen.append(f"{found.old} -> {found.new} {found.phase}")

    made = shop.update(look)
    with made.before.lock.hold(5):
        confirmed = made.plan()
        shop.share("web-1", "db-1")
        with pytest.raises(BadInput) as caught:
            made.apply(confirmed=confirmed)
        assert caught.value.id == "apply.changed"
        made.apply()
    assert seen == ["shop 1.0 -> shop 1.1 forward"]
    assert status(shop.current()).update is None


def test_what_starts_afterwards_is_decided_by_the_new_policy(tmp_path: Path) -> None:
    shop = Shop(tmp_path, REFUSING)
    shop.apply()
    agent = shop.current()
    assert agent.hypervisor.boolean("run_crimson")
    agent.hypervisor.destroy(shop.domid("db-1"))
    assert launch(agent, config(tmp_path, "db-1")).label == "store"


def test_a_damaged_record_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    record = UpdateJournal(shop.agent.state)
    record.path.write_bytes(b"{}")
    with pytest.raises(Unavailable) as caught:
        record.read()
    assert caught.value.id == "apply.corrupt"
    assert status(shop.agent).update is not None


def test_a_watcher_goes_on_with_the_new_policy(tmp_path: Path) -> None:
    shop = Shop(tmp_path, REFUSING)
    turns = iter(range(3))
    told: list[object] = []

    def go_on() -> bool:
        match next(turns):
            case 0:
                shop.apply()
                domid = shop.domid("db-1")
                model(shop.agent).end(domid, Ending.REBOOT)
                return True
            case 1:
                return True
        return False

    watch(shop.agent, told.append, go_on=go_on, again=shop.current)
    assert [str(getattr(one, "error", one)) for one in told] == ["None"]
    labels = {d.name: shop.current().manifest.label_of_context(d.context)
              for d in shop.agent.hypervisor.domains()}
    assert labels["db-1"] == "store"


def test_the_command_asks_and_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(tmp_path)
    shop.share("web-1", "db-1")
    words = [shop.new, "--bundle", shop.file, "--keys", tmp_path / "keys", "--state",
             shop.agent.state, "--driver", "model", "--model-file", tmp_path / "model.json"]
    assert run([apply.add], ["apply", *words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "renamed, was db" in shown
    assert "revocation: pause: web-1" in shown
    assert run([apply.add], ["apply", *words]) == 2
    assert "apply.unconfirmed" in capsys.readouterr().err
    assert shop.assert_whole() == "1.0"
    assert run([apply.add], ["apply", *words, "--yes"]) == 0
    shown = capsys.readouterr().out
    assert "shop 1.1 is in force, and the host's bundle" in shown
    assert "paused: web-1" in shown
    assert shop.assert_whole() == "1.1"
    shop.offer(OLD)
    assert run([apply.add], ["apply", *words, "--yes", "--json"]) == 2
    assert "bundle.older" in capsys.readouterr().err


def test_what_else_follows_for_vms_that_run_is_told_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = VERIFIER.public.pem().decode().splitlines()[1]
    shop = Shop(tmp_path, OLD.replace('"1.0"', '"1.1", from: "1.0"').replace(
        "till: {", "till: {attested: true, vtpm: true, ") + (
        f"attestation: {{verifiers: {{ops: {line}}}, fresh: 1 hour, lost: pause}}\n"
        "quotas: {host: {vms: 2}}\n"))
    made = shop.update()
    with made.before.lock.hold(5):
        found = made.plan()
    assert [(one.id, {vm for _, vm in one.vms}) for one in found.sequels] == [
        ("apply.untrusted", {"till-1"}), ("apply.over-quota", set(VMS)),
        ("apply.no-tpm", {"till-1"})]
    assert made.refusal(found) is None
    assert "till-1 will be paused by the next look" in found.sequels[0].sentence
    words = [str(shop.new), *options(tmp_path, shop.agent), "--dry-run"]
    assert run([apply.add], ["apply", *words]) == 0
    assert "note: the host would have 3" in capsys.readouterr().out
    assert run([apply.add], ["apply", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sequels"][0]["id"] == "apply.untrusted"
    shop.apply()
    assert [(one.vm, one.did) for one in losses.follow(shop.current())] == [("till-1", "paused")]


def test_a_clean_update_has_no_sequel(tmp_path: Path) -> None:
    made = Shop(tmp_path, REFUSING).update()
    with made.before.lock.hold(5):
        assert made.plan().sequels == ()

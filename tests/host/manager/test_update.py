"""Updates through a manager: dom0's part dies at every step, or the manager does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host import guardian
from shype.host.manager.authority import Authority
from shype.host.manager.link import FailedInManager, RefusedByManager
from shype.host.manager.succession import TRIAL
from shype.host.update import health
from shype.host.update.journal import UpdateJournal
from shype.host.update.update import RolledBack, Step, unfinished
from tests.host.manager.shop import Shop, managed
from tests.host.update import test_killed
from tests.host.update.shop import NEW, OLD, VMS

DESTROYING = NEW.replace("pause", "destroy")
#: The same process as on a host without a manager, but for its driver.
VICTIM = test_killed.VICTIM.replace(
    "from shype.host.drivers.model import ModelHypervisor\n",
    "from tests.host.manager.shop import ManagedModel\n",
).replace("lambda bundle: ModelHypervisor(bundle, place / \"model.json\")",
          "lambda bundle: ManagedModel(bundle, place)")
#: From these on the manager has been told that the policy stays.
STAYS = (Step.CONFIRMED, Step.COMMITTED, Step.REVOKED, Step.DONE)
STEPS = [step for step in Step if step not in (Step.PLANNED, Step.RETURNED)]


def kill(shop: Shop, at: Step, how: str) -> None:
    root = str(Path(__file__).parents[3])
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, str(shop.place), at, "1", how, "stands"],
        capture_output=True, timeout=60, start_new_session=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{root}/src:{root}"})
    assert victim.returncode == -signal.SIGKILL, victim.stderr.decode()


def resume(shop: Shop) -> None:
    """As every command does first."""
    with shop.agent.lock.hold(20):
        left = unfinished(shop.agent.state, shop.place / "keys", shop.driver)
        if left is not None:
            left.resume()


def said(authority: Authority) -> str:
    return authority._succession.now.bundle.policy.version


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "post", lambda agent, *then: None)


@pytest.mark.usefixtures("unguarded")
def test_it_ends_as_without_a_manager(tmp_path: Path) -> None:
    shop = Shop(tmp_path, NEW)
    shop.share("web-1", "db-1")
    with shop.running() as authority:
        shop.apply()
        assert authority._succession.trial is None
        assert (shop.assert_whole(), said(authority)) == ("1.1", "1.1")
    assert shop.states() == {"web-1": True, "db-1": False, "till-1": False}


@pytest.mark.usefixtures("unguarded")
def test_a_policy_that_does_not_stand_its_test_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path, NEW)
    shop.share("web-1", "db-1")
    monkeypatch.setattr(health, "problems", lambda *given: ("it decides otherwise",))
    with shop.running() as authority:
        with pytest.raises(RolledBack):
            shop.apply()
        assert (shop.assert_whole(), said(authority)) == ("1.0", "1.0")
    assert shop.states() == dict.fromkeys(VMS, False)


@pytest.mark.parametrize("step", STEPS)
def test_killed_the_guardian_goes_on(tmp_path: Path, step: Step) -> None:
    shop = Shop(tmp_path, DESTROYING)
    shop.share("web-1", "db-1")
    with shop.running() as authority:
        kill(shop, step, "self")
        test_killed.until_over(shop)
        loaded = step not in (Step.RECORDED, Step.PAUSED, Step.OPENED)
        version = test_killed.assert_old_or_new(shop)
        assert version == said(authority) == ("1.1" if loaded else "1.0")


@pytest.mark.parametrize("step", STEPS)
def test_killed_for_longer_than_the_trial(tmp_path: Path, step: Step) -> None:
    """Nobody goes on before the manager has gone back by itself."""
    shop = Shop(tmp_path, DESTROYING)
    shop.share("web-1", "db-1")
    with shop.running() as authority:
        kill(shop, step, "all")
        shop.now = TRIAL
        deadline = time.monotonic() + 20
        while authority._succession.trial is not None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        resume(shop)
        version = test_killed.assert_old_or_new(shop)
        assert version == said(authority) == ("1.1" if step in STAYS else "1.0")


@pytest.mark.usefixtures("unguarded")
@pytest.mark.parametrize("step", [
    Step.PAUSED, Step.OPENED, Step.LOADED, Step.TESTED, Step.COMMITTING, Step.CONFIRMED, Step.DONE])
def test_a_manager_that_is_gone_leaves_one_policy_and_no_way_in(
    tmp_path: Path, step: Step
) -> None:
    shop = Shop(tmp_path, NEW)

    def gone(now: Step) -> None:
        if now is step:
            (tmp_path / "terminal").unlink()

    with shop.running() as authority:
        if step is Step.DONE:
            shop.apply(gone)
        else:
            with pytest.raises(ShypeError, match=r"manager\.silent"):
                shop.apply(gone)
            assert UpdateJournal(shop.agent.state).unfinished
            with pytest.raises(ShypeError, match=r"manager\.silent"):
                resume(shop)
        version = said(authority)
    for name in ("load_open", "win_en"):
        assert shop.agent.hypervisor.boolean(name) is False
    known = [one.bundle for one in shop._known if one.bundle.policy.version == version]
    assert shop.agent.hypervisor.boolean(known[0].manifest.booleans.digest) is not None


@pytest.mark.usefixtures("unguarded")
def test_a_refusal_is_told_from_a_failure(tmp_path: Path) -> None:
    shop = Shop(tmp_path, NEW)
    with shop.running() as authority:
        old, new = shop._known
        made = shop.driver(old.bundle)
        with pytest.raises(RefusedByManager, match=r"apply\.same") as refused:
            made.load(old, {})
        assert refused.value.exit_code == 1
        authority._monitor.load = _fails  # type: ignore[method-assign]
        with pytest.raises(FailedInManager, match=r"host\.load") as failed:
            made.load(new, {})
        assert failed.value.exit_code == 3
        assert shop.assert_whole() == "1.0"


def _fails(policy: bytes) -> None:
    raise Unavailable("host.load", "the hypervisor does not take the policy: EINVAL")


@pytest.mark.parametrize(("new", "id_"), [
    (NEW.replace("host: {", "host: {manager: keeper, ").replace(
        "labels:\n", "labels:\n  keeper: {locked: true}\n"), "apply.manager"),
    (NEW.replace("name: shop", "name: store"), None),
])
def test_a_manager_is_not_taken_on_by_an_update(
    tmp_path: Path, new: str, id_: str | None
) -> None:
    from tests.host.update.shop import Shop as Plain

    shop = Plain(tmp_path, new)
    if id_ is None:
        shop.update().plan()
    else:
        with pytest.raises(BadInput) as caught:
            shop.update().plan()
        assert caught.value.id == id_
    assert managed(OLD) != OLD

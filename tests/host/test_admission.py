"""No bundle for another hypervisor, and no step back."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.admission import accepted, admit
from shype.host.agent import Agent
from shype.host.drivers.model import ModelHypervisor
from shype.host.versions import Accepted, advanced
from shype.policy.manifest import Bundle
from shype.policy.model import Enforcement
from tests.host.builders import BANKS, bundle, host, model


def version(agent: Agent, number: str, *, name: str = "banks", was: str | None = None,
            digest: str = "", target: str = "xen-4.17") -> Bundle:
    """The bundle of ``agent`` with another version, name or digest."""
    policy = replace(agent.policy, version=number, name=name, was=was)
    digest = digest or (number + name).encode().hex().ljust(64, "0")
    return replace(
        agent.bundle, policy=policy,
        manifest=replace(agent.manifest, digest=digest, target=target))


def record(agent: Agent) -> dict[str, Accepted]:
    return accepted(agent.state).read()


def refusal(agent: Agent) -> str:
    with pytest.raises(ShypeError) as caught:
        admit(agent)
    assert caught.value.fix
    return caught.value.id


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    return host(tmp_path_factory.mktemp("host"))


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return host(tmp_path)


def test_what_runs_is_recorded_once(agent: Agent) -> None:
    assert admit(agent) is agent
    assert record(agent) == {"banks": Accepted("1.0", {"xen-4.17": agent.manifest.digest})}
    assert accepted(agent.state).path.stat().st_mode & 0o777 == 0o600
    before = accepted(agent.state).path.stat().st_ino
    admit(agent)
    assert accepted(agent.state).path.stat().st_ino == before, "written again for nothing"


def test_another_target(agent: Agent) -> None:
    other = replace(agent, bundle=version(agent, "1.0", target="xen-4.18"))
    assert refusal(other) == "bundle.wrong-target"
    assert record(agent) == {}


def test_an_older_version(agent: Agent, tmp_path: Path) -> None:
    new = BANKS.replace('"1.0"', '"1.10"')
    (tmp_path / "new").mkdir()
    made = bundle(tmp_path / "new", new)
    admit(Agent(made, ModelHypervisor(made), agent.state))
    assert refusal(agent) == "bundle.older"
    for text in ("1.9", "0.99", "1.0"):
        assert refusal(replace(agent, bundle=version(agent, text))) == "bundle.older"
    for text in ("1.11", "2.0"):
        admit(replace(agent, bundle=version(agent, text)))


def test_the_same_version_with_another_digest(agent: Agent) -> None:
    admit(agent)
    other = replace(agent, bundle=version(agent, "1.0", digest="f" * 64))
    assert refusal(other) == "bundle.version-reused"


def test_a_hypervisor_update_needs_no_new_version(agent: Agent, tmp_path: Path) -> None:
    admit(agent)
    known = advanced(record(agent), version(agent, "1.0", target="xen-4.18", digest="f" * 64))
    assert known["banks"].digests == {
        "xen-4.17": agent.manifest.digest, "xen-4.18": "f" * 64}
    with pytest.raises(BadInput):
        advanced(known, version(agent, "1.0", target="xen-4.18", digest="e" * 64))


def test_what_was_copied_too_early_can_be_taken_back(agent: Agent) -> None:
    """The hypervisor still has the old policy: the new one counts from its boot."""
    admit(agent)
    new = replace(agent.manifest.booleans, digest="policy_" + "e" * 64)
    early = replace(agent, bundle=replace(
        version(agent, "2.0"), manifest=replace(agent.manifest, booleans=new)))
    admit(early)
    admit(agent)
    assert record(agent)["banks"].version == "1.0"


def test_without_flask_nothing_is_enforced_and_nothing_recorded(agent: Agent) -> None:
    model(agent).set_enforcement(Enforcement.NONE)
    admit(agent)
    assert record(agent) == {}


def test_other_policies_have_versions_of_their_own(agent: Agent) -> None:
    admit(replace(agent, bundle=version(agent, "7.0", name="other")))
    admit(agent)
    assert {name: item.version for name, item in record(agent).items()} == {
        "other": "7.0", "banks": "1.0"}


# -- renamed --------------------------------------------------------------------------------------


def test_a_renamed_policy_goes_on_where_the_old_one_stopped(agent: Agent) -> None:
    known = advanced({}, version(agent, "2.0"))
    for text in ("2.0", "1.9"):
        with pytest.raises(BadInput) as caught:
            advanced(known, version(agent, text, name="houses", was="banks"))
        assert caught.value.id == "bundle.older"
    known = advanced(known, version(agent, "2.1", name="houses", was="banks"))
    assert advanced(known, version(agent, "2.1", name="houses", was="banks")) == known
    for text in ("2.0", "2.1"):
        with pytest.raises(BadInput, match="was replaced") as caught:
            advanced(known, version(agent, text))
        assert caught.value.id == "bundle.older"
    back = advanced(known, version(agent, "2.2", name="banks", was="houses"))
    with pytest.raises(BadInput):
        advanced(back, version(agent, "2.1", name="houses", was="banks"))


def test_a_new_name_that_ran_before_does_not_escape_the_old_name_s_version(agent: Agent) -> None:
    known = advanced(advanced({}, version(agent, "2.0")), version(agent, "1.0", name="houses"))
    with pytest.raises(BadInput) as caught:
        advanced(known, version(agent, "1.5", name="houses", was="banks"))
    assert caught.value.id == "bundle.older"


@given(history=st.lists(st.tuples(
    st.sampled_from("abc"), st.sampled_from([None, "a", "b", "c"]), st.integers(0, 6),
), max_size=8))
def test_a_host_never_goes_back(
    shared: Agent, history: list[tuple[str, str | None, int]]
) -> None:
    """Whatever is tried: no name's version falls, and what was replaced stays refused."""
    agent = shared
    known: dict[str, Accepted] = {}
    for name, was, number in history:
        made = version(agent, f"1.{number}", name=name, was=was if was != name else None)
        try:
            after = advanced(known, made)
        except BadInput:
            continue
        for old, item in known.items():
            assert int(after[old].version[2:]) >= int(item.version[2:])
        assert advanced(after, made) == after, "accepted once, accepted until a newer one"
        for lower in range(number):
            with pytest.raises(BadInput):
                advanced(after, version(agent, f"1.{lower}", name=name))
        known = after


# -- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [
    b"", b"{", b"null", b"[]", b"\xff", b"[" * 100_000, b'{"format":2,"policies":{}}',
    b'{"format":1}', b'{"format":1,"policies":{"x":1}}', b'{"format":1,"policies":{"X Y":{}}}',
    b'{"format":1,"policies":{"x":{"version":"1","digests":{},"renamed":false}}}',
    b'{"format":1,"policies":{"x":{"version":"1.0","digests":[],"renamed":false}}}',
    b'{"format":1,"policies":{"x":{"version":"1.0","digests":{"a":1},"renamed":false}}}',
    b'{"format":1,"policies":{"x":{"version":"1.0","digests":{},"renamed":0}}}',
    b'{"format":1,"policies":{"x":{"version":"1.0"}}}', b"1" * 2_000_000,
])
def test_a_damaged_record_refuses_everything(agent: Agent, data: bytes) -> None:
    agent.state.mkdir()
    accepted(agent.state).path.write_bytes(data)
    assert refusal(agent) == "accepted.corrupt"


def test_a_fifo_in_its_place_does_not_hang(agent: Agent) -> None:
    agent.state.mkdir()
    os.mkfifo(accepted(agent.state).path)
    assert refusal(agent) == "accepted.corrupt"


def test_what_cannot_be_recorded_is_refused(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes, mode: int) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("shype.host.table.write_atomic", full)
    with pytest.raises(Unavailable) as caught:
        admit(agent)
    assert caught.value.id == "state.unwritable"


def test_reading_and_writing_are_one_step(agent: Agent) -> None:
    record = accepted(agent.state)
    with record.locked():
        worker = threading.Thread(target=admit, args=(agent,))
        worker.start()
        worker.join(0.3)
        assert worker.is_alive(), "it did not wait"
        record.write({"other": Accepted("1.0")})
    worker.join(30)
    assert sorted(record.read()) == ["banks", "other"]


def _admit(directory: Path, number: int) -> None:
    agent = host(directory / str(number))
    shared = Agent(version(agent, "1.0", name=f"p{number}"), agent.hypervisor, directory / "state")
    admit(shared)


def test_two_commands_at_once_forget_nothing(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / str(number)).mkdir()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_admit, args=(tmp_path, n)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(accepted(tmp_path / "state").read()) == [f"p{n}" for n in range(8)]
    assert json.loads((tmp_path / "state" / "accepted.json").read_bytes())["format"] == 1

"""What a verifier remembers: whole or not at all, and never more than it was shown."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
from dataclasses import replace
from pathlib import Path

import pytest

from shype.attest.registry import Host, Registry
from shype.attest.verdict import Seen
from shype.attest.verifier import Verifier
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host.attest_result import Verdict
from tests.attest.paper_tpm import PaperTpm
from tests.attest.world import VERIFIER, World, paper_machine

EK = "ab" * 32
HOST = Host("xen1", "xen-hosts", EK, None, PaperTpm().new_ak().public, ("cd" * 32,), None,
            Seen(1, 0, 5, 3, bytes(32), 2), {"banks": "1.0"}, ("00" * 32,), "trusted")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for host in (HOST, replace(HOST, seen=None, ak=None, revoked="stolen")):
        registry.put(host)
        assert Registry(tmp_path).get("xen1") == host
    assert registry.names() == ["xen1"]


def test_a_damaged_file_is_never_half_believed(tmp_path: Path) -> None:
    registry, rng = Registry(tmp_path), random.Random(4)
    registry.put(HOST)
    path = tmp_path / "hosts" / "xen1.json"
    data = path.read_bytes()
    for _ in range(400):
        at = rng.randrange(len(data))
        path.write_bytes(rng.choice((data[:at], data[:at] + b"[" + data[at:], data[at:])))
        if path.read_bytes() == data:
            continue
        with pytest.raises(Unavailable) as caught:
            registry.get("xen1")
        assert caught.value.id == "registry.corrupt"


@pytest.mark.parametrize("name", ["", "..", "../xen1", "a/b", ".hidden", "x" * 300, "a b"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    registry = Registry(tmp_path)
    with pytest.raises(BadInput) as caught:
        registry.get(name)
    assert caught.value.id == "host.unknown"
    with pytest.raises(BadInput) as caught:
        registry.admit(name, "xen-hosts", EK)
    assert caught.value.id == "registry.name"


@pytest.mark.parametrize(("name", "reference", "ek"), [
    ("xen2", "Xen", EK), ("xen2", "../x", EK), ("xen2", "xen-hosts", ""),
    ("xen2", "xen-hosts", "AB" * 32)])
def test_what_is_admitted_has_names(tmp_path: Path, name: str, reference: str, ek: str) -> None:
    with pytest.raises(BadInput) as caught:
        Registry(tmp_path).admit(name, reference, ek)
    assert caught.value.id == "registry.name"


def test_one_tpm_is_one_host(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.admit("xen1", "xen-hosts", EK)
    for name, ek in (("xen1", "cd" * 32), ("xen2", EK)):
        with pytest.raises(BadInput) as caught:
            registry.admit(name, "xen-hosts", ek)
        assert caught.value.id == "registry.exists"
    registry.forget("xen1")
    assert registry.admit("xen2", "xen-hosts", EK).state == "admitted"


def test_another_process_s_change_is_seen(tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    other = Verifier(tmp_path / "verifier", VERIFIER, clock=world.clock)
    assert other.challenge(host.attester.id)
    world.verifier.revoke("xen1", "stolen")
    assert other.appraise(host.evidence())[0].reasons[0].id == "host.revoked"
    world.verifier.forget("xen1")
    with pytest.raises(BadInput) as caught:
        other.challenge(host.attester.id)
    assert caught.value.id == "host.unknown"


def test_one_challenge_is_good_for_one_answer_even_in_a_race(tmp_path: Path) -> None:
    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    data = host.evidence()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        verdicts = pool.starmap(_appraise, [(tmp_path / "verifier", data)] * 12)
    assert sorted(verdicts).count(Verdict.TRUSTED) == 1


def _appraise(state: Path, data: bytes) -> Verdict:
    from tests.attest.world import Clock

    return Verifier(state, VERIFIER, clock=Clock()).appraise(data)[0].verdict


def test_a_verifier_that_was_killed_forgets_no_boot_and_no_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    durable: list[bool] = []
    put = Registry.put

    def watched(self: Registry, host: Host, *, durable_: list[bool] = durable,
                **more: bool) -> None:
        durable_.append(more.get("durable", True))
        put(self, host, **more)

    monkeypatch.setattr(Registry, "put", watched)
    host.attest()
    host.attest()
    assert isinstance(host.tpm, PaperTpm)
    host.tpm.reboot()
    host.boot()
    host.attest()
    assert durable == [True, False, True]


def test_who_came_and_went_is_in_the_trail(tmp_path: Path) -> None:
    from shype.host.audit.reader import records

    world = World(tmp_path / "verifier")
    host = paper_machine(world)
    for _ in range(3):
        host.attest()
    host.tpm.pcr_extend(8, bytes(32))
    host.attest()
    world.verifier.revoke("xen1", "stolen")
    world.verifier.forget("xen1")
    kept = [(body["kind"], body.get("details", {})) for body in (
        record.body for record in records(world.verifier.trail.directory))]
    assert [kind for kind, _ in kept if kind.startswith("verifier.")] == [
        "verifier.publish", "verifier.admit", "verifier.verdict", "verifier.verdict",
        "verifier.revoke", "verifier.forget"]
    assert [details.get("verdict") for kind, details in kept if kind == "verifier.verdict"] == [
        "trusted", "failed"]


@pytest.mark.parametrize("why", ["", "x" * 300, "a\nb"])
def test_a_revocation_has_a_reason(tmp_path: Path, why: str) -> None:
    world = World(tmp_path / "verifier")
    paper_machine(world)
    with pytest.raises(ShypeError) as caught:
        world.verifier.revoke("xen1", why)
    assert caught.value.id == "host.why"


def test_the_secret_is_nobody_else_s(tmp_path: Path) -> None:
    World(tmp_path / "verifier")
    secret = tmp_path / "verifier" / "secret"
    assert secret.stat().st_mode & 0o77 == 0
    assert len(secret.read_bytes()) == 32
    assert hashlib.sha256(secret.read_bytes()).digest() != hashlib.sha256(bytes(32)).digest()

"""`shype vector`: an order is signed on one machine and followed on another (a model)."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from shype.cli import vectors as cli
from shype.host.agent import Agent
from shype.policy import envelope
from shype.policy.names import VectorName
from shype.policy.vector_order import MAX_ORDER, PAYLOAD_TYPE, Order, seal
from tests.cli.on_model import Shell, options, signed_host
from tests.cli.on_model import run as run_words
from tests.host.test_vectors import PLANT
from tests.signing import AUTHOR, STRANGER


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    (tmp_path / "author.key").write_bytes(AUTHOR.pem())
    (tmp_path / "author.key").chmod(0o600)
    return signed_host(tmp_path, PLANT)


@pytest.fixture
def run(tmp_path: Path, agent: Agent) -> Shell:
    """Run a verb; on the host's, with the model of ``agent``."""
    given = options(tmp_path, agent)
    return lambda verb, *words: run_words(
        (cli.add,), ("vector", verb, *([] if verb == "order" else given), *words))


def give(run: Shell, tmp_path: Path, vector: str, *words: object) -> Path:
    """The file of an order."""
    out = tmp_path / f"{vector}.order"
    assert run("order", tmp_path / "policy.yaml", vector, "--key", tmp_path / "author.key",
               "-o", out, *words) == 0
    return out


def test_an_order_is_followed(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("show") == 0
    assert "normal       yes       desk, plc" in capsys.readouterr().out
    order = give(run, tmp_path, "maintenance")
    assert "plant 1.0 to the vector maintenance, on every host" in capsys.readouterr().out
    assert run("switch", order) == 0
    assert "maintenance is in force (before: normal)" in capsys.readouterr().out
    assert run("show", "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["in_force"], value["static"]) == ("maintenance", True)
    assert run("switch", order) == 2
    assert "[order.used]" in capsys.readouterr().err


def test_an_order_for_another_host(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = give(run, tmp_path, "maintenance", "--host", "no-such-host")
    assert run("switch", order) == 2
    assert "[order.other-host]" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "id"), [
    (("service",), "vector.unknown"), (("normal", "--host", "a b"), "order.host"),
])
def test_what_cannot_be_ordered(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], id: str
) -> None:
    assert run("order", tmp_path / "policy.yaml", *words, "--key", tmp_path / "author.key",
               "-o", tmp_path / "x") == 2
    assert f"[{id}]" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def forged(order: Path, name: str) -> bytes:
    """What ``name`` makes of an order."""
    data = order.read_bytes()
    found = envelope.loads(data, PAYLOAD_TYPE)
    match name:
        case "other signer":
            now = time.time_ns() // 1000
            return seal(Order("plant", "1.0", found_vector(found), (), now, now), [STRANGER])
        case "altered":
            payload = found.payload.replace(b"maintenance", b"nothing")
            return envelope.dumps(envelope.Envelope(payload, found.signatures), PAYLOAD_TYPE)
        case "a bundle's type":
            return envelope.dumps(found)
        case "cut":
            return data[:-3]
        case _:
            return b" " * (MAX_ORDER + 1)


def found_vector(found: envelope.Envelope) -> VectorName:
    """The vector that an order names."""
    return VectorName(json.loads(found.payload)["vector"])


@pytest.mark.parametrize(("name", "id"), [
    ("other signer", "order.unsigned"), ("altered", "order.altered"), ("cut", "order.corrupt"),
    ("a bundle's type", "order.corrupt"), ("long", "order.corrupt"),
])
def test_what_nobody_who_may_has_signed_is_not_followed(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, id: str
) -> None:
    order = give(run, tmp_path, "maintenance")
    order.write_bytes(forged(order, name))
    assert run("switch", order) == 2
    assert f"[{id}]" in capsys.readouterr().err
    assert run("show") == 0


def test_a_payload_that_is_no_order(
    run: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order = give(run, tmp_path, "maintenance")
    value = json.loads(envelope.loads(order.read_bytes(), PAYLOAD_TYPE).payload)
    for change in ({"serial": -1}, {"serial": True}, {"hosts": ["a b"]}, {"hosts": 3}, {"x": 1},
                   {"format": 2}, {"expires": 1 << 60}, {"vector": "No"}, {"policy": None}):
        payload = json.dumps({**value, **change}).encode()
        sig = AUTHOR.sign(envelope.pae(payload, PAYLOAD_TYPE))
        order.write_bytes(envelope.dumps(envelope.Envelope(
            payload, (envelope.Signature(AUTHOR.public.id, sig),)), PAYLOAD_TYPE))
        assert run("switch", order) == 2, change
        assert "[order.corrupt]" in capsys.readouterr().err

"""What the storage domain of examples/storage keeps apart, whoever decides."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from shype.host import object_manager
from shype.host.object_manager import Access, Answer, Id, Monitor, Peer

FILE = Path(__file__).parents[2] / "examples/storage/storage.py"
RED, BLUE = Peer(7, 30, "u:r:l_red_t:s0"), Peer(8, 31, "u:r:l_blue_t:s0")


class Own(Monitor):
    """Each may do what it likes with objects of its own label, and can be switched off."""

    refusal: Id | None = None
    open = False

    def decide(self, peer: Peer, context: str, access: Access) -> Answer:
        if self.refusal is not None:
            return Answer(self.refusal, "")
        return Answer(Id.PERMITTED if self.open or peer.context == context else Id.DENIED, "")


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(sys.modules, "object_manager", object_manager)
    spec = importlib.util.spec_from_file_location("storage_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "storage_example", module)
    spec.loader.exec_module(module)
    return module.Storage(Own())


def test_a_new_object_has_its_makers_label(storage: Any) -> None:
    assert storage.serve(RED, f"put plan {BLUE.context}") == "ok"
    assert storage.serve(RED, "get plan") == f"ok {BLUE.context}"
    assert storage.serve(BLUE, "get plan") == "refused object.denied"
    assert storage.serve(BLUE, "put plan x") == "ok"
    assert storage.serve(RED, "get plan") == f"ok {BLUE.context}"
    assert storage.serve(BLUE, "get plan") == "ok x"


def test_what_is_not_there_looks_like_what_is_others(storage: Any) -> None:
    storage.serve(RED, "put plan x")
    assert storage.serve(BLUE, "get plan") == storage.serve(BLUE, "get nothing")
    assert storage.serve(BLUE, "put plan y") == storage.serve(BLUE, "put nothing y")


def test_of_what_may_be_read_the_own_comes_first(storage: Any) -> None:
    storage.monitor.open = True
    storage.serve(RED, "put plan x")
    assert storage.serve(BLUE, "get plan") == "ok x"
    storage.serve(BLUE, "put plan y")
    assert storage.serve(BLUE, "get plan") == "ok y"
    assert storage.serve(RED, "get plan") == "ok x"


@pytest.mark.parametrize("refusal", [one for one in Id if one is not Id.PERMITTED])
def test_without_a_decision_nothing_is_made_or_told(storage: Any, refusal: Id) -> None:
    storage.serve(RED, "put plan x")
    storage.monitor.refusal = refusal
    shown = Id.DENIED if refusal is Id.UNKNOWN_LABEL else refusal
    assert storage.serve(RED, "get plan") == f"refused {shown}"
    assert storage.serve(RED, "put plan y") == f"refused {refusal}"
    assert storage.serve(RED, "put new y") == f"refused {refusal}"
    storage.monitor.refusal = None
    assert storage.serve(RED, "get plan") == "ok x"
    assert storage.serve(RED, "get new") == "refused object.denied"


@pytest.mark.parametrize("request_", ["", "get", "put", "get ", "drop plan", "GET plan", "\0"])
def test_other_requests_do_nothing(storage: Any, request_: str) -> None:
    assert storage.serve(RED, request_).startswith("error")
    assert storage.kept == {}

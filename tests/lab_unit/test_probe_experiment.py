"""The plan of each experiment, against guests whose hypervisor is a few lines of Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from shype.base.errors import BadInput, Unavailable
from shype.lab.dom0.console import Answer
from shype.lab.dom0.experiment import ALL_MECHANISMS, MECHANISMS, experiment


@dataclass
class World:
    """What passes between two guests; ``refuse`` are (domid, operation) that are denied."""

    refuse: set[tuple[int, str]] = field(default_factory=set)
    fail: set[tuple[int, str]] = field(default_factory=set)
    silent: set[tuple[int, str]] = field(default_factory=set)
    lossy: bool = False  # every operation says ok and nothing arrives
    calls: list[tuple[int, str]] = field(default_factory=list)
    open: dict[tuple[int, str, int], dict[str, str]] = field(default_factory=dict)
    peer_of: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    count: dict[tuple[int, int], int] = field(default_factory=dict)
    number: int = 10


@dataclass
class FakeGuest:
    domid: int
    name: str
    world: World

    def ask(self, op: str, *args: str | int) -> Answer:
        w = self.world
        w.calls.append((self.domid, op))
        if (self.domid, op) in w.silent:
            raise Unavailable("guest.silent", "nothing")
        if (self.domid, op) in w.refuse:
            return self._answer(op, "denied", {"errno": 13})
        if (self.domid, op) in w.fail:
            return self._answer(op, "error", {"errno": 22})
        if op == "argo_send" and (args[0], "ring", args[1]) not in w.open:
            return self._answer(op, "error", {"errno": 111})
        return self._answer(op, "ok", getattr(self, f"_{op}")(*args) or {})

    def _answer(self, op: str, result: str, members: Mapping[str, object]) -> Answer:
        return Answer(1, op, result, {"id": 1, "op": op, "result": result, **members})

    def _new(self, kind: str, number: int = 0) -> int:
        self.world.number += 1
        number = number or self.world.number
        self.world.open[self.domid, kind, number] = {"text": "", "written": ""}
        self.world.count[self.domid, number] = 0
        return number

    def _event_offer(self, peer: int) -> dict[str, object]:
        return {"port": self._new("port")}

    def _event_bind(self, peer: int, port: int) -> dict[str, object]:
        mine = self._new("port")
        self.world.peer_of |= {(self.domid, mine): (peer, port), (peer, port): (self.domid, mine)}
        self.world.count[self.domid, mine] = 1  # Xen raises one itself
        return {"port": mine}

    def _event_send(self, port: int) -> None:
        if not self.world.lossy:
            self.world.count[self.world.peer_of[self.domid, port]] += 1

    def _event_received(self, port: int, wait: int = 0, above: int = 0) -> dict[str, object]:
        return {"count": self.world.count[self.domid, port]}

    def _event_close(self, port: int) -> None:
        del self.world.open[self.domid, "port", port]

    def _grant_offer(self, peer: int, mode: str, text: str) -> dict[str, object]:
        gref = self._new("gref")
        self.world.open[self.domid, "gref", gref] = {"text": text, "written": ""}
        return {"gref": gref}

    def _grant_read(self, gref: int) -> dict[str, str]:
        return self.world.open[self.domid, "gref", gref]

    def _transfer(self, peer: int, gref: int, write: str | None) -> dict[str, object]:
        page = self.world.open[peer, "gref", gref]
        if write is not None and not self.world.lossy:
            page["written"] = write
        return {"text": "" if self.world.lossy else page["text"]}

    def _grant_map(self, peer: int, gref: int, mode: str, text: str | None = None
                   ) -> dict[str, object]:
        return self._transfer(peer, gref, text)

    def _grant_copy(self, peer: int, gref: int, way: str, text: str | None = None
                    ) -> dict[str, object]:
        return self._transfer(peer, gref, text)

    def _grant_close(self, gref: int) -> None:
        del self.world.open[self.domid, "gref", gref]

    def _argo_register(self, peer: int, port: int) -> None:
        self._new("ring", port)

    def _argo_send(self, peer: int, port: int, text: str) -> None:
        if not self.world.lossy:
            self.world.open[peer, "ring", port]["text"] = text

    def _argo_receive(self, port: int, wait: int) -> dict[str, object]:
        return {"text": self.world.open[self.domid, "ring", port]["text"]}

    def _argo_close(self, port: int) -> None:
        del self.world.open[self.domid, "ring", port]

    def _foreign_map(self, peer: int, gfn: int) -> None:
        return

    def _control(self, peer: int) -> None:
        return


A, B = 1, 2


def guests(world: World) -> tuple[FakeGuest, FakeGuest]:
    return FakeGuest(A, "a", world), FakeGuest(B, "b", world)


@pytest.mark.parametrize("mechanism", ALL_MECHANISMS)
def test_permitted_when_it_arrives_and_nothing_is_left_open(mechanism: str) -> None:
    world = World()
    outcome = experiment(*guests(world), mechanism)
    assert (outcome.result, outcome.source, outcome.target) == ("permitted", "a", "b")
    assert outcome.to_json()["from"] == "a"
    assert world.open == {}


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_success_without_arrival_is_an_error(mechanism: str) -> None:
    world = World(lossy=True)
    assert experiment(*guests(world), mechanism).result == "error"
    assert world.open == {}


#: Each operation that the hypervisor may refuse, and the experiment in which it counts.
REFUSALS = [
    ("grant-map-ro", B, "grant_map"), ("grant-map-rw", A, "grant_map"),
    ("grant-copy-from", B, "grant_copy"), ("grant-copy-to", A, "grant_copy"),
    ("argo", B, "argo_register"), ("argo", A, "argo_send"), ("event", A, "event_send"),
    ("foreign", A, "foreign_map"), ("control", A, "control"),
]


@pytest.mark.parametrize(("mechanism", "who", "op"), REFUSALS)
def test_denied_when_the_hypervisor_refuses(mechanism: str, who: int, op: str) -> None:
    world = World(refuse={(who, op)})
    outcome = experiment(*guests(world), mechanism)
    assert outcome.result == "denied"
    assert world.open == {}
    steps = outcome.evidence["steps"]
    assert isinstance(steps, list)
    assert any(step["op"] == op and step["result"] == "denied" for step in steps)


@pytest.mark.parametrize(("mechanism", "who", "op"), REFUSALS)
def test_other_failures_are_errors_not_denials(mechanism: str, who: int, op: str) -> None:
    world = World(fail={(who, op)})
    assert experiment(*guests(world), mechanism).result == "error"
    assert world.open == {}


@pytest.mark.parametrize("op", ["event_offer", "event_bind"])
def test_channel_is_tried_from_the_other_side_before_it_counts_as_denied(op: str) -> None:
    opener = B if op == "event_offer" else A  # who does it in the first way
    world = World(refuse={(opener, op)})
    assert experiment(*guests(world), "event").result == "permitted"
    assert world.open == {}
    world = World(refuse={(A, op), (B, op)})
    assert experiment(*guests(world), "event").result == "denied"
    assert [call for call in world.calls if call[1] == op] in ([(B, op), (A, op)],
                                                               [(A, op), (B, op)])
    assert world.open == {}


def test_event_of_the_hypervisor_itself_does_not_count() -> None:
    """When B binds, Xen raises an event on B's port before anything was sent."""
    world = World(refuse={(B, "event_offer")}, lossy=True)
    assert experiment(*guests(world), "event").result == "error"


def test_argo_sender_is_tried_even_without_a_ring() -> None:
    world = World(refuse={(B, "argo_register"), (A, "argo_send")})
    outcome = experiment(*guests(world), "argo")
    assert outcome.result == "denied"
    assert (A, "argo_send") in world.calls


def test_argo_towards_a_guest_that_cannot_have_a_ring_is_denied_only_by_the_sender_check() -> None:
    world = World(fail={(B, "argo_register")})
    assert experiment(*guests(world), "argo").result == "error"
    world = World(fail={(B, "argo_register")}, refuse={(A, "argo_send")})
    assert experiment(*guests(world), "argo").result == "denied"


def test_silent_guest_makes_an_error_with_the_reason() -> None:
    world = World(silent={(B, "grant_map")})
    outcome = experiment(*guests(world), "grant-map-ro")
    assert outcome.result == "error"
    assert outcome.evidence["error"] == {"error": "guest.silent", "message": "nothing", "fix": ""}


def test_every_attempt_has_a_token_of_its_own() -> None:
    tokens = {experiment(*guests(World()), "event").evidence["token"] for _ in range(5)}
    assert len(tokens) == 5


def test_unknown_mechanism() -> None:
    with pytest.raises(BadInput, match=r"probe\.mechanism"):
        experiment(*guests(World()), "telepathy")

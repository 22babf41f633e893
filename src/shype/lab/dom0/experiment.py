"""Whole experiments between two guests: does information of A arrive at B?

Standard library only.  ``permitted`` always means that it *did* arrive: the
text was seen, the event was counted.  ``denied`` means that the hypervisor
refused for certain; everything else is an ``error``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from shype.base.errors import BadInput, Unavailable
from shype.lab.dom0.console import Answer

_WAIT_MS = 2000  # how long an event or a message may take inside the lab
#: A guest-physical page that every Linux guest has: its kernel's code (16 MiB).
_KERNEL_GFN = 0x1000


class Prober(Protocol):
    """A guest whose probe answers (`shype.lab.dom0.guestctl.Guest`)."""

    domid: int
    name: str

    def ask(self, op: str, *args: str | int) -> Answer: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the hypervisor did with one attempt of ``source`` to reach ``target``."""

    source: str
    target: str
    mechanism: str
    result: str
    evidence: Mapping[str, object]

    def to_json(self) -> dict[str, object]:
        """Shape of an attempt in guestctl's output."""
        return {"from": self.source, "to": self.target, "mechanism": self.mechanism,
                "result": self.result, "evidence": dict(self.evidence)}


class _Stopped(Exception):  # not an error: an experiment's early end
    def __init__(self, result: str) -> None:
        super().__init__(result)
        self.result = result


@dataclass(slots=True)
class _Trial:
    """The steps of one experiment, and what has to be closed after it."""

    steps: list[dict[str, object]] = field(default_factory=list)
    open: list[tuple[Prober, str, int]] = field(default_factory=list)

    def step(self, who: Prober, op: str, *args: str | int) -> Answer:
        """Do ``op`` and note the answer."""
        answer = who.ask(op, *args)
        kept = {name: value for name, value in answer.members.items() if name != "id"}
        self.steps.append({"guest": who.name, **kept})
        return answer

    def must(self, who: Prober, op: str, *args: str | int) -> Answer:
        """Do ``op``; the experiment ends here unless it is done."""
        answer = self.step(who, op, *args)
        if not answer.ok:
            raise _Stopped("denied" if answer.denied else "error")
        return answer

    def opened(self, who: Prober, close: str, handle: int) -> int:
        """Close ``handle`` with ``close`` at the end."""
        self.open.append((who, close, handle))
        return handle

    def close(self) -> None:
        """Close in the opposite order; failures here are noted as a step."""
        for who, op, handle in reversed(self.open):
            answer = who.ask(op, handle)
            if not answer.ok:
                self.steps.append({"guest": who.name, **answer.members})
        self.open.clear()


def _arrived(seen: str, sent: str) -> str:
    return "permitted" if seen == sent else "error"


def _event_opened_by(trial: _Trial, opener: Prober, a: Prober, b: Prober) -> str:
    binder = b if opener is a else a
    port = {}
    port[opener.domid] = trial.opened(
        opener, "event_close", trial.must(opener, "event_offer", binder.domid).number("port")
    )
    port[binder.domid] = trial.opened(
        binder, "event_close",
        trial.must(binder, "event_bind", opener.domid, port[opener.domid]).number("port"),
    )
    # the hypervisor itself raises an event on the binder's port: let that come first
    wait = 200 if binder is b else 0
    before = trial.must(b, "event_received", port[b.domid], wait).number("count")
    trial.must(a, "event_send", port[a.domid])
    after = trial.must(b, "event_received", port[b.domid], _WAIT_MS, before).number("count")
    return "permitted" if after > before else "error"


def _event(trial: _Trial, a: Prober, b: Prober, _: str) -> str:
    """A sends on a channel to B, whichever of the two is allowed to open one."""
    try:
        return _event_opened_by(trial, b, a, b)
    except _Stopped as first:
        if first.result != "denied":
            raise
        trial.close()
        return _event_opened_by(trial, a, a, b)


def _offer(trial: _Trial, owner: Prober, peer: Prober, mode: str, text: str) -> int:
    gref = trial.must(owner, "grant_offer", peer.domid, mode, text).number("gref")
    return trial.opened(owner, "grant_close", gref)


def _grant_map_ro(trial: _Trial, a: Prober, b: Prober, token: str) -> str:
    """B maps a page of A and reads it."""
    gref = _offer(trial, a, b, "ro", token)
    return _arrived(trial.must(b, "grant_map", a.domid, gref, "ro").text("text"), token)


def _grant_map_rw(trial: _Trial, a: Prober, b: Prober, token: str) -> str:
    """A maps a page of B and writes into it."""
    gref = _offer(trial, b, a, "rw", "-")
    trial.must(a, "grant_map", b.domid, gref, "rw", token)
    return _arrived(trial.must(b, "grant_read", gref).text("written"), token)


def _grant_copy_from(trial: _Trial, a: Prober, b: Prober, token: str) -> str:
    """B lets the hypervisor copy out of a page of A."""
    gref = _offer(trial, a, b, "ro", token)
    return _arrived(trial.must(b, "grant_copy", a.domid, gref, "from").text("text"), token)


def _grant_copy_to(trial: _Trial, a: Prober, b: Prober, token: str) -> str:
    """A lets the hypervisor copy into a page of B."""
    gref = _offer(trial, b, a, "rw", "-")
    trial.must(a, "grant_copy", b.domid, gref, "to", token)
    return _arrived(trial.must(b, "grant_read", gref).text("written"), token)


def _argo(trial: _Trial, a: Prober, b: Prober, token: str) -> str:
    """B registers a ring for A, A sends into it."""
    port = 1024 + secrets.randbelow(1 << 20)
    registered = trial.step(b, "argo_register", a.domid, port)
    if registered.ok:
        trial.opened(b, "argo_close", port)
    # also without a ring (a PV guest cannot have one): Xen checks the sender first
    sent = trial.step(a, "argo_send", b.domid, port, token)
    if registered.denied or sent.denied:
        return "denied"
    if not (registered.ok and sent.ok):
        return "error"
    return _arrived(trial.must(b, "argo_receive", port, _WAIT_MS).text("text"), token)


def _foreign(trial: _Trial, a: Prober, b: Prober, _: str) -> str:
    """A maps a page of B that B did not grant (reads it)."""
    trial.must(a, "foreign_map", b.domid, _KERNEL_GFN)
    return "permitted"


def _control(trial: _Trial, a: Prober, b: Prober, _: str) -> str:
    """A pauses B, and lets it go on."""
    trial.must(a, "control", b.domid)
    return "permitted"


_EXPERIMENTS: Mapping[str, Callable[[_Trial, Prober, Prober, str], str]] = {
    "event": _event,
    "grant-map-ro": _grant_map_ro,
    "grant-map-rw": _grant_map_rw,
    "grant-copy-from": _grant_copy_from,
    "grant-copy-to": _grant_copy_to,
    "argo": _argo,
    "foreign": _foreign,
    "control": _control,
}

#: Everything that can be tried.
ALL_MECHANISMS = tuple(_EXPERIMENTS)
#: What two guests may be allowed to do with each other; foreign and control never are.
MECHANISMS = ALL_MECHANISMS[:6]


def experiment(a: Prober, b: Prober, mechanism: str) -> Outcome:
    """Try to bring information from ``a`` to ``b``, and say what happened.

    Raises BadInput (``probe.mechanism``), and `Unavailable` if a guest does not answer.
    """
    run = _EXPERIMENTS.get(mechanism)
    if run is None:
        raise BadInput("probe.mechanism", f"no mechanism {mechanism!r}",
                       "one of: " + ", ".join(ALL_MECHANISMS))
    trial = _Trial()
    token = f"{a.name}.{mechanism}.{secrets.token_hex(4)}"
    began = time.monotonic()
    evidence: dict[str, object] = {"token": token}
    try:
        result = run(trial, a, b, token)
    except _Stopped as stopped:
        result = stopped.result
    except Unavailable as error:
        # what is open stays open in a guest that does not answer; the other attempts go on
        result = "error"
        trial.open.clear()
        evidence["error"] = error.to_json()
    trial.close()
    evidence["steps"] = trial.steps
    evidence["seconds"] = round(time.monotonic() - began, 3)
    return Outcome(a.name, b.name, mechanism, result, evidence)

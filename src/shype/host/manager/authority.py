"""What the manager decides: which window is open, by its own bundle and the hypervisor's word.

dom0 asks for a set of booleans, as it would set them itself.  Of these only the window counts;
who runs the authority asks the hypervisor, and sets the wall by that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Protocol

from shype.base.errors import ShypeError, Unavailable
from shype.decision.running import Running
from shype.decision.security_server import SecurityServer
from shype.host import wall
from shype.host.drivers.xen.listing import Listed
from shype.policy.manifest import BOOT_MANAGER, Bundle
from shype.policy.names import LabelName

#: Seconds that a window stays open at most; then the manager closes it by itself.
OPEN = 300.0
#: Longest request and answer, bytes.
MAX_LINE = 64 * 1024


class Monitor(Protocol):
    """The hypervisor, for whom it lets set booleans."""

    def boolean(self, name: str) -> bool | None: ...

    def set_booleans(self, values: Mapping[str, bool]) -> None: ...

    def listed(self) -> Sequence[Listed]: ...


class Refused(ShypeError):
    """The authority says no, and nothing has changed."""

    exit_code = 1


class Authority:
    """Answers requests, one at a time; `tick` closes a window whose time is over."""

    def __init__(
        self, bundle: Bundle, monitor: Monitor, clock: Callable[[], float] = time.monotonic,
        today: Callable[[], date] = date.today,
    ) -> None:
        self._bundle, self._monitor, self._clock, self._today = bundle, monitor, clock, today
        self._closes: float | None = None
        names = bundle.manifest.booleans
        self._window = (names.enable, *names.bits)

    def begin(self) -> None:
        """Take the right to build a manager from dom0, and close every window.

        Raises Unavailable (``host.wrong-policy``): the loaded policy is not the bundle's.
        """
        self._require_policy()
        self._monitor.set_booleans({BOOT_MANAGER: False})
        self._set(None)

    def handle(self, line: bytes) -> bytes:
        """The answer to one request: JSON, without a line's end; a bad one changes nothing."""
        id_: object = None
        try:
            request = json.loads(line) if len(line) <= MAX_LINE else None
            if not isinstance(request, dict):
                raise Refused("manager.request", "a request is a JSON object of at most "
                              f"{MAX_LINE} bytes")
            id_ = request.get("id")
            answer = self._answer(request)
        except ShypeError as error:
            answer = {"error": error.id, "message": error.message}
        except (ValueError, RecursionError):
            answer = {"error": "manager.request", "message": "a request is one JSON object"}
        shown = id_ if isinstance(id_, str) and len(id_) <= 64 else None
        return json.dumps({"id": shown, **answer}).encode()

    def tick(self) -> float | None:
        """Close the window if its time is over; else the seconds until then (None: none is open).
        """
        if self._closes is None:
            return None
        left = self._closes - self._clock()
        if left > 0:
            return left
        self._set(None)
        return None

    # -- requests ------------------------------------------------------------------------------

    def _answer(self, request: Mapping[str, object]) -> dict[str, object]:
        match request.get("op"):
            case "status":
                policy = self._bundle.manifest.policy
                return {
                    "policy": policy.name, "version": policy.version,
                    "digest": self._bundle.manifest.digest, "open": self._closes is not None,
                    "domains": len(self._monitor.listed()),
                }
            case "set":
                return {"set": self._asked(request.get("values"))}
        raise Refused("manager.request", "the manager knows the requests `status` and `set`")

    def _asked(self, values: object) -> dict[str, bool]:
        names = self._bundle.manifest.booleans
        known = {*self._window, *names.running.values()}
        if not isinstance(values, dict) or not all(
            name in known and isinstance(value, bool) for name, value in values.items()
        ) or not set(self._window) <= values.keys():
            raise Refused("manager.request", "`values` are the window's booleans, and the wall's")
        return self._set(self._label({name: values[name] for name in self._window}))

    def _label(self, window: Mapping[str, bool]) -> LabelName | None:
        manifest = self._bundle.manifest
        if not window[manifest.booleans.enable]:
            return None
        for label in manifest.labels:
            if manifest.window_values(label) == window:
                return label
        raise Refused("manager.request", "no label has this window")

    def _set(self, label: LabelName | None) -> dict[str, bool]:
        manifest, policy = self._bundle.manifest, self._bundle.policy
        self._require_policy()
        found = self._running()
        if label is not None:
            if self._closes is not None:
                raise Refused("manager.busy", "a window is open already: close it first")
            decision = SecurityServer(policy, today=self._today()).launch(label, found)
            if not decision.permitted:
                raise Refused(str(decision.id), decision.sentence)
        members = wall.members_of(policy, {domain.label for domain in found})
        if label is not None:
            members |= policy.labels[label].members
        strange = any(domain.label not in policy.labels and domain.label not in policy.retired
                      for domain in found)
        wanted = manifest.window_values(label) | wall.running_values(
            manifest, members, lambda name: bool(self._monitor.boolean(name)), strange=strange)
        if label is not None:  # before it opens: whatever happens then, it closes
            self._closes = self._clock() + OPEN
        self._monitor.set_booleans(wanted)
        if label is None:
            self._closes = None
        return wanted

    def _require_policy(self) -> None:
        if self._monitor.boolean(self._bundle.manifest.booleans.digest) is None:
            raise Unavailable("host.wrong-policy", "the loaded policy is not the manager's bundle")

    def _running(self) -> tuple[Running, ...]:
        of = self._bundle.manifest.label_of_context
        return tuple(
            Running(d.domid, f"domain {d.domid}", of(d.context) or LabelName(d.context))
            for d in self._monitor.listed() if d.domid != 0
        )

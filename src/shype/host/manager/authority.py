"""What the manager decides: which window is open, and which policy is loaded.

By its own bundle and the hypervisor's word.  dom0 asks for a set of booleans, as it would set them
itself.  Of these only the window counts; who runs the authority asks the hypervisor, and sets the
wall by that.  Which policy may follow is in `succession`.
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
from shype.host.manager.succession import TRIAL, Refused, Succession, require_labels
from shype.policy.manifest import BOOT_MANAGER, Bundle
from shype.policy.names import LabelName

#: Seconds that a window stays open at most; then the manager closes it by itself.
OPEN = 300.0
#: Longest request and answer, bytes.
MAX_LINE = 64 * 1024


class Monitor(Protocol):
    """The hypervisor, for whom it lets set booleans and load a policy."""

    def target(self) -> str: ...

    def boolean(self, name: str) -> bool | None: ...

    def set_booleans(self, values: Mapping[str, bool]) -> None: ...

    def listed(self) -> Sequence[Listed]: ...

    def load(self, policy: bytes) -> None: ...

    def print_grants(self) -> None: ...


class Authority:
    """Answers requests, one at a time; `tick` ends what has had its time: a window, a trial."""

    def __init__(
        self, succession: Succession, monitor: Monitor,
        clock: Callable[[], float] = time.monotonic, today: Callable[[], date] = date.today,
    ) -> None:
        self._succession, self._monitor = succession, monitor
        self._clock, self._today = clock, today
        self._closes: float | None = None

    @property
    def _bundle(self) -> Bundle:
        return self._succession.now.bundle

    @property
    def _window(self) -> tuple[str, ...]:
        names = self._bundle.manifest.booleans
        return names.enable, *names.bits

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
            answer = _error(error)
        except MemoryError:
            answer = _error(Unavailable(
                "manager.memory", "the manager has too little memory for this policy"))
        except OSError as error:  # the manager goes on, whatever its kernel says
            answer = _error(Unavailable(
                "manager.fault", f"the manager's kernel said: {error.strerror}"))
        except (ValueError, RecursionError):
            answer = _error(Refused("manager.request", "a request is one JSON object"))
        shown = id_ if isinstance(id_, str) and len(id_) <= 64 else None
        return json.dumps({"id": shown, **answer}).encode()

    def tick(self) -> float | None:
        """End what has had its time: close the window, take the policy on trial back.

        The seconds until something else has; None: nothing is open and nothing on trial.
        """
        ends = self._closes
        if self._succession.trial is not None:
            ends = self._succession.trial.until
        if ends is None:
            return None
        left = ends - self._clock()
        if left > 0:
            return left
        if self._succession.trial is not None:
            self._return()
        else:
            self._set(None)
        return None

    # -- requests ------------------------------------------------------------------------------

    def _answer(self, request: Mapping[str, object]) -> dict[str, object]:
        match request.get("op"):
            case "status":
                return self._status()
            case "set":
                return {"set": self._asked(request.get("values"))}
            case "offer":
                return {"at": self._succession.offer(request)}
            case "part":
                return {"at": self._succession.add(request)}
            case "load":
                return self._load()
            case "confirm":
                self._succession.confirm(request.get("digest"))
                return self._status()
            case "back":
                self._return()
                return self._status()
            case "print":
                return self._print()
        raise Refused("manager.request", "the manager knows the requests status, set, offer, part, "
                      "load, confirm, back and print")

    def _status(self) -> dict[str, object]:
        manifest, trial = self._bundle.manifest, self._succession.trial
        return {
            "policy": manifest.policy.name, "version": manifest.policy.version,
            "digest": manifest.digest, "open": self._closes is not None,
            "domains": len(self._monitor.listed()),
            "before": trial and trial.before.bundle.manifest.digest,
        }

    # -- the policy ----------------------------------------------------------------------------

    def _load(self) -> dict[str, object]:
        """Load what has been sent, on trial."""
        if self._closes is not None or self._succession.trial is not None:
            raise Refused("manager.busy", "a window is open, or another policy is on trial")
        self._require_policy()
        new = self._succession.next(self._monitor.target())
        require_labels(self._bundle, new.bundle, [d.context for d in self._monitor.listed()])
        back = self._succession.back(new)
        self._set(None)
        self._replace(new.binary)
        self._succession.begin(new, back, self._clock() + TRIAL)
        try:
            self._set(None)
        except BaseException:
            self._return()
            raise
        return self._status()

    def _return(self) -> None:
        """Take the policy on trial back. Raises Refused (``manager.trial-over``), Unavailable."""
        trial = self._succession.trial
        if trial is None:
            raise Refused("manager.trial-over", "no policy is on trial, so there is none to go "
                          "back to")
        before = trial.before.bundle.manifest.booleans.digest
        if self._monitor.boolean(before) is None:  # else only the booleans were left to do
            self._replace(trial.back)
        self._succession.returned()
        self._set(None)

    def _replace(self, binary: bytes) -> None:
        flags = self._bundle.manifest.booleans.flags
        self._monitor.set_booleans(dict.fromkeys(flags, True))
        try:
            self._monitor.load(binary)
        except BaseException:
            self._monitor.set_booleans(dict.fromkeys(flags, False))
            raise

    def _print(self) -> dict[str, object]:
        """The hypervisor prints its grant tables to its console, which dom0 may read."""
        flags = self._bundle.manifest.booleans.flags
        if not flags:
            raise Refused("manager.request", "the policy is not live")
        self._monitor.set_booleans(dict.fromkeys(flags, True))
        try:
            self._monitor.print_grants()
        finally:
            self._monitor.set_booleans(dict.fromkeys(flags, False))
        return {"printed": True}

    # -- windows -------------------------------------------------------------------------------

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
            if self._closes is not None or self._succession.trial is not None:
                raise Refused("manager.busy", "a window is open already, which has to be closed "
                              "first; or a policy is on trial")
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
        wanted |= dict.fromkeys(manifest.booleans.flags, False)
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


def _error(error: ShypeError) -> dict[str, object]:
    """``exit`` tells a refusal (1, 2) from something that is not as it should be (3)."""
    return {"error": error.id, "message": error.message, "exit": error.exit_code}

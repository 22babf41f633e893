"""How the launch lock is waited for, on a clock of the test's own."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shype.base.errors import Unavailable
from shype.host.lock import LaunchLock


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.woken: list[float] = []
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.woken.append(self.now)


def test_who_waits_long_looks_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lock = Clock(monkeypatch), LaunchLock(tmp_path)
    with lock.hold(0), pytest.raises(Unavailable) as caught, LaunchLock(tmp_path).hold(60):
        pass
    assert caught.value.id == "lock.busy"
    assert "for 60 s" in caught.value.message
    assert clock.now == pytest.approx(60)
    assert len(clock.woken) < 100
    pauses = [b - a for a, b in zip([0.0, *clock.woken], clock.woken, strict=False)]
    assert max(pauses) <= 1.0 + 1e-9
    for before, pause in zip([0.0, *clock.woken], pauses, strict=False):
        assert pause <= max(0.0501, before / 8 + 1e-9)

"""Another day than today, for what asks the calendar itself."""

from __future__ import annotations

import datetime
from types import ModuleType

import pytest


def set_today(
    monkeypatch: pytest.MonkeyPatch, day: datetime.date, *modules: ModuleType
) -> None:
    """From now on it is ``day`` in ``modules``, which have imported `date` by name.

    Without modules: for whoever imports it from now on, inside a function.
    """
    class Calendar(datetime.date):
        @classmethod
        def today(cls) -> Calendar:
            return cls(day.year, day.month, day.day)

    for module in modules or (datetime,):
        monkeypatch.setattr(module, "date", Calendar)

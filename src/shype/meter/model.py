"""Counters of a modelled host (`shype.host.drivers.model`): a file beside the model's says what
its domains have used. For tests and what-if."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from shype.base.errors import BadInput
from shype.host.drivers import model_state
from shype.meter.source import Counters, Kind, Moment, Reading, Sight


class ModelSource:
    """Implements `shype.meter.source.Source`.

    The file ``MODEL.usage`` is JSON: by domid, ``cpu_ns``, ``memory`` (bytes) and ``devices``
    (by name: kind, and the four numbers of `Counters`). A domain that it does not name has used
    nothing.
    """

    def __init__(self, model: Path) -> None:
        self._model = model
        self._usage = model.with_name(f"{model.name}.usage")

    def look(self) -> Sight:
        """See the protocol. Raises BadInput (``model.file``)."""
        moment = Moment.now()
        try:
            state = model_state.load(self._model.read_bytes())
            said: dict[str, Any] = {}
            if self._usage.exists():
                said = json.loads(self._usage.read_bytes())
            return Sight(moment, tuple(
                _reading(said.get(str(d.domid), {}), d.domid, d.uuid, d.context,
                         stopped=d.dying or d.ended is not None) for d in state.domains))
        except FileNotFoundError as error:
            raise BadInput("model.file", f"there is no model in {self._model}",
                           "a first `shype ps` with the same options makes it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput("model.file", f"{self._usage} is not understood: {error}",
                           "see the source of shype.meter.model") from error

    def name(self, domid: int) -> str:
        """See the protocol."""
        state = model_state.load(self._model.read_bytes())
        return next((d.name for d in state.domains if d.domid == domid), f"domain-{domid}")


def _reading(said: Any, domid: int, uuid: str, context: str, *, stopped: bool) -> Reading:
    devices = {name: Counters(Kind(kind), *numbers)
               for name, (kind, *numbers) in said.get("devices", {}).items()}
    return Reading(domid, uuid, context, int(said.get("cpu_ns", 0)), int(said.get("memory", 0)),
                   stopped, devices)

"""Starts and ends the lab's guests, in dom0, many with one program.  Standard library only.

``python3 -m shype.lab.dom0.startup STEPS`` with JSON: a list of ``{"create": CFG, "open":
BOOLEANS, "close": BOOLEANS}`` and ``{"destroy": VM, "close": BOOLEANS}``.  `shype run` does
this for one VM, with all that makes it safe to be killed; it takes twice as long as the
creation itself.  Prints ``{VM or CFG: "" or what went wrong}``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from shype.base import child
from shype.base.errors import ShypeError
from shype.host.drivers.xen.flask import Flask

#: Seconds for xl on a busy machine.
_LIMIT = 300.0


def perform(steps: Sequence[Mapping[str, Any]], flask: Flask) -> dict[str, str]:
    """Do all of ``steps``; one that fails keeps no other from being done."""
    done = {}
    for step in steps:
        name = str(step.get("create") or step.get("destroy"))
        try:
            if "create" in step:
                _create(name, step, flask)
            else:
                child.run(["xl", "destroy", name], timeout=_LIMIT)
                flask.set_booleans(step["close"])
            done[name] = ""
        except ShypeError as error:
            done[name] = error.message
    return done


def _create(config: str, step: Mapping[str, Any], flask: Flask) -> None:
    flask.set_booleans(step["open"])
    try:
        child.run(["xl", "create", "-q", config], timeout=_LIMIT)
    finally:
        flask.set_booleans(step["close"])


def main(argv: Sequence[str]) -> int:
    """Perform the steps of the one argument."""
    json.dump(perform(json.loads(argv[0]), Flask()), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

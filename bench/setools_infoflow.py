"""Information flow by SETools, timed. Run by the system's Python: POLICY MAP QUESTIONS LEAST.

QUESTIONS is a JSON file: types to leave out, and pairs to ask about; LEAST the least
weight that counts. Prints CPU seconds of each stage and the answers.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

setools: Any = import_module("setools")


def main(policy: str, known: str, questions: str, least: str) -> None:
    """Load, build the graph, answer; SETools' own log is not wanted."""
    logging.disable(logging.CRITICAL)
    asked = json.loads(Path(questions).read_text())
    clock = time.process_time
    times = [clock()]
    loaded = setools.SELinuxPolicy(policy)
    times.append(clock())
    flows = setools.InfoFlowAnalysis(
        loaded, setools.PermissionMap(known), min_weight=int(least), exclude=asked["exclude"]
    )
    first = asked["pairs"][0]
    list(flows.shortest_path(*first))  # builds the graph
    times.append(clock())
    answers = [bool(list(flows.shortest_path(*pair))) for pair in asked["pairs"]]
    times.append(clock())
    json.dump({"load": times[1] - times[0], "build": times[2] - times[1],
               "ask": times[3] - times[2], "answers": answers}, sys.stdout)


main(*sys.argv[1:])

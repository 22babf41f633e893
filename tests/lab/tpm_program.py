"""Runs in a guest: makes its /dev/tpm0, and does with it what the host asks for in XenStore.

``data/ask`` is JSON: a number, words of a `shype` command line, files to write before it, and names
of files to show after it. The answer goes to the console: the number, the exit code, what was
printed, and the files.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path += ["/app", "/opt/shype", "/usr/lib/python3/dist-packages"]

from shype.cli.main import main
from shype.host.vtpm import relay

#: Seconds for the guest to get there: on a busy machine, several times of what it takes alone.
LIMIT = 240.0


def load() -> None:
    """The driver, and the program that serves it."""
    for name in Path("/mod/spare").read_text().split():
        subprocess.run(["insmod", f"/mod/{name}"], check=True)
    threading.Thread(target=relay.main, daemon=True).start()
    deadline = time.monotonic() + LIMIT
    while not Path("/dev/tpm0").exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def say(*words: object) -> None:
    sys.stdout.write("".join(f"\nTPM-GUEST {json.dumps(words)}\n"))
    sys.stdout.flush()


def answer(asked: dict[str, object]) -> None:
    for name, text in dict(asked["files"]).items():  # type: ignore[call-overload]
        Path(name).write_bytes(base64.b64decode(text))
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        if asked["argv"] == ["register"]:
            out.write(Path("/sys/class/tpm/tpm0/pcr-sha256/13").read_text())
            code = 0
        else:
            code = main([str(word) for word in asked["argv"]])  # type: ignore[attr-defined]
    found = {}
    for name in list(asked["wanted"]):  # type: ignore[call-overload]
        with contextlib.suppress(OSError):
            found[name] = base64.b64encode(Path(name).read_bytes()).decode()
    say(asked["number"], code, out.getvalue(), found)


def serve() -> None:
    done = 0
    while True:
        text = relay.store_read("data/ask")
        asked = json.loads(text) if text else {"number": 0}
        if asked["number"] == done:
            time.sleep(0.2)
            continue
        done = asked["number"]
        try:
            answer(asked)
        except BaseException as error:  # noqa: BLE001 - the host hears of it
            say(done, -1, repr(error), {})


if __name__ == "__main__":
    try:
        load()
        say(0, 0, "ready", {})
        serve()
    except BaseException as problem:  # noqa: BLE001 - the host hears of it
        say(0, -1, repr(problem), {})

"""SETools, imported once for all tests of a process instead of once for each policy.

Importing it takes 0.4 s, reading a small policy a tenth of that. So the tests keep one
interpreter that has imported it, and fork it for each policy: what reads is the
same program (`setools_reader.main`), in a process of its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shype.base import child
from shype.base.child import Completed

#: The system's interpreter and its options, then the script; it reads lines of output and policy.
_SERVER = """\
import os, runpy, sys, traceback
import setools
main = runpy.run_path(sys.argv[1])["main"]
print("ready", flush=True)
for line in sys.stdin:
    output, policy = line.rstrip("\\n").split("\\0")
    worker = os.fork()
    if worker == 0:
        code = 1
        try:
            for number, name in ((1, "out"), (2, "err")):
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(f"{output}.{name}", flags, 0o600), number)
            code = main(policy)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
"""


class WarmSetools:
    """Stands for `shype.base.child` in `shype.compile.flask.reader`."""

    def __init__(self, interpreter: Path, script: Path, folder: Path) -> None:
        self._command = (interpreter, "-I", script)
        self._output = folder / "read"
        self._server: subprocess.Popen[str] | None = None
        self._ready = False
        #: How many policies were read here.
        self.count = 0

    def run(self, argv: Sequence[str | Path], **options: Any) -> Completed:
        """As `child.run`; whatever else is asked for is run as ever."""
        *command, policy = argv
        if tuple(command) != self._command or not (server := self._started()):
            run: Callable[..., Completed] = child.run
            return run(argv, **options)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(f"{self._output}\0{Path(policy).absolute()}\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = (self._output.with_suffix(s).read_text(errors="replace")
                    for s in (".out", ".err"))
        self.count += 1
        return Completed(tuple(map(str, argv)), code, out, err)

    def close(self) -> None:
        """End the interpreter."""
        if self._server is not None:
            self._server.communicate()

    def _started(self) -> subprocess.Popen[str] | None:
        """The interpreter; None if it has no SETools, which is for `child.run` to tell."""
        if self._server is None:
            interpreter, isolated, script = self._command
            self._server = subprocess.Popen(
                [interpreter, isolated, "-c", _SERVER, script], text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )
            assert self._server.stdout is not None
            self._ready = self._server.stdout.readline() == "ready\n"
        return self._server if self._ready else None

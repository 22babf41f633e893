"""The lab's agent in dom0: JSON lines over virtio-serial ports.  Standard library only.

One request per line, ``{"id": ..., "op": ..., ...}``; one reply per request,
in the order in which they end.  Every request has its thread, so that a long
one blocks nobody.  What a host-side client started dies when it disconnects,
unless it asked for the background.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

PORT_PREFIX = "shype.lab."
#: Where shype itself is, and the digest of all of it.
PACKAGE = "/opt/shype/"
DIGEST = f"{PACKAGE}.digest"
BLKFLSBUF = 0x1261  # Linux, include/uapi/linux/fs.h: drop a block device's cached pages
Request = dict[str, Any]


def ports() -> list[Path]:
    """Our ports' device nodes, by name (there is no udev to make links)."""
    found = []
    for entry in sorted(Path("/sys/class/virtio-ports").iterdir()):
        name = (entry / "name").read_text().strip() if (entry / "name").exists() else ""
        if name.startswith(PORT_PREFIX):
            found.append((name, Path("/dev") / entry.name))
    return [device for _, device in sorted(found)]


def op_ping(request: Request, port: Port) -> Request:
    """Uptime in seconds and the wall clock."""
    return {"uptime": float(Path("/proc/uptime").read_text().split()[0]), "time": time.time()}


def op_run(request: Request, port: Port) -> Request:
    """Run ``argv``; code, out and err (base64); code 124 and ``late`` after ``limit`` seconds."""
    data = base64.b64decode(request["input"]) if "input" in request else None
    if not request.get("env"):
        reply = WARM.run(request, data or b"", port)
        if reply is not None:
            return reply
    environment = {**os.environ, **request.get("env", {})}
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            request["argv"], cwd=request.get("cwd"), env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
    except OSError as error:
        return {"code": 127, "out": "", "err": _b64(f"{error}\n".encode()), "late": False,
                "seconds": 0.0}
    port.started(process)
    late = False
    try:
        out, err = process.communicate(data, timeout=request.get("limit"))
    except subprocess.TimeoutExpired:
        late = True
        kill(process)
        out, err = _rest(process)
    finally:
        port.ended(process)
    return {"code": 124 if late else process.returncode, "out": _b64(out), "err": _b64(err),
            "late": late, "seconds": time.monotonic() - began}


class Forked:
    """A command that `shype.lab.dom0.warm` runs, as far as a port needs to know it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def kill(self) -> None:
        """It has no group yet, or is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Warm:
    """Gives commands to an interpreter that has imported shype (`shype.lab.dom0.warm`)."""

    SOCKET = "/run/shype-warm"
    MODULES = ("shype.cli.main", "shype.cli.host", "shype.cli.agent", "shype.lab.dom0.guestctl")
    #: How such a command begins, and the module whose ``main`` it runs.
    PROGRAMS = (
        (("shype",), "shype.cli.main"),
        (("env", "PYTHONPATH=/opt/shype", "python3", "-m", "shype.lab.dom0.guestctl"),
         "shype.lab.dom0.guestctl"),
    )

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, request: Request, data: bytes, port: Port) -> Request | None:
        """Like `op_run`; None if it cannot be done this way."""
        asked = self.asked(request["argv"], request.get("cwd"))
        if asked is None:
            return None
        began = time.monotonic()
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not self.started() or link.connect_ex(self.SOCKET):
            link.close()
            return None
        files = [os.memfd_create(name) for name in ("in", "out", "err")]
        try:
            os.write(files[0], data)
            os.lseek(files[0], 0, os.SEEK_SET)
            socket.send_fds(link, [asked], files)
            pid = link.recv(64)
            if not pid:
                return None
            command = Forked(int(pid))
            port.started(command)
            late = False
            try:
                link.settimeout(request.get("limit"))
                code = int(link.recv(64) or b"-9")
            except TimeoutError:
                late = True
                kill(command)
                link.settimeout(10)
                link.recv(64)
            finally:
                port.ended(command)
            out, err = (os.pread(file, 1 << 26, 0) for file in files[1:])
        finally:
            link.close()
            for file in files:
                os.close(file)
        return {"code": 124 if late else code, "out": _b64(out), "err": _b64(err), "late": late,
                "seconds": time.monotonic() - began}

    def asked(self, argv: list[str], cwd: str | None) -> bytes | None:
        """What to send for this command; None if it is none of `PROGRAMS`."""
        for words, program in self.PROGRAMS:
            if tuple(argv[:len(words)]) == words:
                short = [words[-1], *argv[len(words):]]
                return json.dumps({"program": program, "argv": short, "cwd": cwd}).encode()
        return None

    def started(self) -> bool:
        """Start it, once; False if it does not come up."""
        with self.guard:
            if self.process is None:
                Path(self.SOCKET).unlink(missing_ok=True)
                self.process = subprocess.Popen(
                    ["python3", "-m", "shype.lab.dom0.warm", self.SOCKET, *self.MODULES],
                    env={**os.environ, "LANGUAGE": "C"},  # else argparse looks for translations
                    stdin=subprocess.DEVNULL, start_new_session=True)
                while self.process.poll() is None and not Path(self.SOCKET).exists():
                    time.sleep(0.02)
            return self.process.poll() is None

    def forget(self) -> None:
        """End it: shype's files have changed."""
        with self.guard:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None


WARM = Warm()


def _rest(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """What a killed process had printed; a survivor outside its session may hold the pipe."""
    try:
        return process.communicate(timeout=2)
    except subprocess.TimeoutExpired as error:
        return error.stdout or b"", error.stderr or b""


def op_spawn(request: Request, port: Port) -> Request:
    """Start ``argv`` in the background, output to the file ``log``; its process id."""
    with Path(request.get("log") or os.devnull).open("ab") as sink:
        process = subprocess.Popen(
            request["argv"], cwd=request.get("cwd"), env={**os.environ, **request.get("env", {})},
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )
    threading.Thread(target=process.wait, daemon=True).start()
    return {"pid": process.pid}


def op_put(request: Request, port: Port) -> Request:
    """Write (``append``: add) ``data`` to ``path``; makes its directory."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab" if request.get("append") else "wb") as file:
        file.write(base64.b64decode(request["data"]))
    path.chmod(request.get("mode", 0o644))
    return {}


def op_get(request: Request, port: Port) -> Request:
    """At most ``size`` bytes of ``path`` from ``offset``."""
    with Path(request["path"]).open("rb") as file:
        file.seek(request.get("offset", 0))
        return {"data": _b64(file.read(request.get("size", 1 << 18)))}


def op_settime(request: Request, port: Port) -> Request:
    """Set the clock (seconds since the epoch): after a restore it shows the time of saving."""
    time.clock_settime(time.CLOCK_REALTIME, request["time"])
    return {}


def op_warm(request: Request, port: Port) -> Request:
    """Start the interpreter that runs commands, if that has not been done."""
    return {"warm": WARM.started()}


def op_payload(request: Request, port: Port) -> Request:
    """Write the payload disk's files (format: `shype.lab.payload`).

    With ``keep`` nobody has changed shype's own here, which stay if they are those of the disk.
    """
    handle = os.open(request.get("device", "/dev/vdb"), os.O_RDONLY)
    try:
        fcntl.ioctl(handle, BLKFLSBUF, 0)
        head = os.read(handle, 1 << 16)
        index_size, data_size = struct.unpack_from("<QQ", head, 8)
        total = 24 + index_size + data_size
        parts, got = [head], len(head)
        while got < total:
            parts.append(os.read(handle, 1 << 20))
            got += len(parts[-1])
    finally:
        os.close(handle)
    disk = memoryview(b"".join(parts))
    if bytes(disk[:8]) != b"SHYPELAB":
        raise ValueError("not a payload disk")
    offset, made = 24 + index_size, set()
    files = json.loads(bytes(disk[24:offset]))
    same = request.get("keep") and _same_package(files, disk[offset:])
    if not same:
        WARM.forget()
        shutil.rmtree(PACKAGE, ignore_errors=True)
    for path, mode, size in files:
        if same and path.startswith(PACKAGE):
            offset += size
            continue
        directory = os.path.dirname(path)  # noqa: PTH120 - pathlib is too slow here
        if directory not in made:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103
            made.add(directory)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.write(file, disk[offset : offset + size])
        os.fchmod(file, mode)
        os.close(file)
        offset += size
    return {}


def _same_package(files: list[list[Any]], data: memoryview) -> bool:
    """Whether shype here is the disk's. Its digest comes first (`shype.lab.payload`)."""
    (path, _, size), *_ = files
    try:
        return path == DIGEST and Path(DIGEST).read_bytes() == bytes(data[:size])
    except OSError:
        return False


OPS = {"ping": op_ping, "run": op_run, "spawn": op_spawn, "put": op_put, "get": op_get,
       "settime": op_settime, "payload": op_payload,
       "warm": op_warm}


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def kill(process: subprocess.Popen[bytes] | Forked) -> None:
    """Kill the process and its whole session group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()


class Port:
    """One virtio-serial port and the processes that its client waits for."""

    def __init__(self, device: Path) -> None:
        self.handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        self.writing = threading.Lock()
        self.guard = threading.Lock()
        self.processes: set[subprocess.Popen[bytes] | Forked] = set()

    def started(self, process: subprocess.Popen[bytes] | Forked) -> None:
        """Remember a process that must not outlive the client."""
        with self.guard:
            self.processes.add(process)

    def ended(self, process: subprocess.Popen[bytes] | Forked) -> None:
        """Forget it."""
        with self.guard:
            self.processes.discard(process)

    def serve(self) -> None:
        """Read requests for ever."""
        buffer, pause = b"", 0.02
        while True:
            try:
                chunk = os.read(self.handle, 1 << 16)
            except OSError:
                chunk = b""
            if not chunk:  # no client: the port reads as ended
                self.abandon()
                buffer = b""
                time.sleep(pause)
                pause = min(pause * 1.5, 0.1)
                continue
            pause = 0.02
            buffer += chunk
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if line.strip():
                    threading.Thread(target=self.answer, args=(line,), daemon=True).start()

    def abandon(self) -> None:
        """The client is gone: so is what it waited for."""
        with self.guard:
            left, self.processes = self.processes, set()
        for process in left:
            kill(process)

    def answer(self, line: bytes) -> None:
        """Carry out one request and write its reply."""
        number: object = None
        try:
            request = json.loads(line)
            number = request.get("id")
            reply = OPS[request["op"]](request, self)
        except Exception as error:  # noqa: BLE001 - any failure is the client's to see
            reply = {"error": f"{type(error).__name__}: {error}"}
        data = json.dumps({**reply, "id": number}).encode() + b"\n"
        with self.writing:
            while data:
                data = data[os.write(self.handle, data):]


def main() -> int:
    """Serve all ports."""
    deadline = time.monotonic() + 20
    while not (found := ports()):
        if time.monotonic() > deadline:
            print("no port", file=sys.stderr)
            return 1
        time.sleep(0.05)
    threads = [threading.Thread(target=Port(device).serve, daemon=True) for device in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

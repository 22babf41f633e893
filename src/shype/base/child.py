"""The one way to run a child process.

Every failure names a command line that can be pasted into a shell.  A missing
program is reported with the Debian package that has it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shype.base.errors import ShypeError, Unavailable

#: Debian 12 package that ships each program shype may call.
PACKAGE_OF = {
    "grub-mkimage": "grub-common",
    "secilc": "secilc",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "make": "make",
    "gcc": "gcc",
    "flex": "flex",
    "bison": "bison",
    "cpio": "cpio",
    "xz": "xz-utils",
    "zstd": "zstd",
    "apt-get": "apt",
    "dpkg-source": "dpkg-dev",
    "dot": "graphviz",
    "xl": "xen-utils-4.17",
    "setpriv": "util-linux",
    "checkpolicy": "checkpolicy",
    "m4": "m4",
    "apt-cache": "apt",
    "apt-config": "apt",
    "dpkg-deb": "dpkg",
    "ld": "binutils",
    "newuidmap": "uidmap",
    "tar": "tar",
    "unshare": "util-linux",
    "patch": "patch",
}


#: Bytes that are moved at a time.
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished child: its command line, exit code, and what it printed (UTF-8, lenient)."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def command(self) -> str:
        """The command line, ready to paste into a shell."""
        return shlex.join(self.argv)


class ChildFailed(ShypeError):
    """A child ended with a code that was not 0, or ran out of time."""

    def __init__(self, done: Completed, reason: str) -> None:
        tail = (done.err.strip() or done.out.strip())[-2000:]
        text = f"{reason}: {done.command}" + (f"\n{tail}" if tail else "")
        super().__init__("child.failed", text)
        self.done = done


def missing_tool(tool: str) -> Unavailable:
    """The error for a program that is not installed."""
    package = PACKAGE_OF.get(tool)
    fix = f"apt-get install {package}" if package else f"install {tool} and put it on PATH"
    return Unavailable("tool.missing", f"the program {tool!r} is not installed", fix)


def require(*tools: str) -> None:
    """Raise `Unavailable` naming *all* the ``tools`` that are missing, with their packages."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if not missing:
        return
    if len(missing) == 1:
        raise missing_tool(missing[0])
    packages = sorted({PACKAGE_OF.get(tool, tool) for tool in missing})
    raise Unavailable(
        "tool.missing",
        "these programs are not installed: " + ", ".join(missing),
        "apt-get install " + " ".join(packages),
    )


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    check: bool = True,
    input: bytes | str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    log: Path | None = None,
    die_with_parent: bool = False,
) -> Completed:
    """Run ``argv`` (never through a shell) and wait for it.

    ``env`` is added to the caller's environment.  ``log`` receives the output
    as it comes (both streams; `Completed.out` is then empty).  With
    ``die_with_parent`` the kernel kills the child when this process dies
    (prctl PR_SET_PDEATHSIG, set by setpriv), so that a killed launch leaves no
    ``xl`` behind that goes on building.

    Raises `Unavailable` (``tool.missing``), `ChildFailed` if ``check`` and the
    code is not 0, or on ``timeout`` (seconds) always.
    """
    words = tuple(os.fspath(word) for word in argv)
    if die_with_parent:
        if shutil.which(words[0], path=(env or os.environ).get("PATH")) is None:
            raise missing_tool(words[0])  # setpriv would only say that it cannot run it
        words = ("setpriv", "--pdeathsig", "KILL", *words)
    data = input.encode() if isinstance(input, str) else input or b""
    environment = {**os.environ, **env} if env else None
    try:
        if log is not None:
            with log.open("ab") as sink:
                sink.write(f"$ {shlex.join(words)}\n".encode())
                sink.flush()
                done = subprocess.run(
                    words, input=data, stdout=sink, stderr=subprocess.STDOUT, cwd=cwd,
                    env=environment, timeout=timeout, check=False,
                )
        else:
            done = subprocess.run(
                words, input=data, capture_output=True, cwd=cwd, env=environment,
                timeout=timeout, check=False,
            )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise Unavailable("child.cwd", f"the directory {cwd} does not exist") from error
        raise missing_tool(words[0]) from error
    except subprocess.TimeoutExpired as late:
        partial = Completed(words, 124, _text(late.stdout), _text(late.stderr))
        raise ChildFailed(partial, f"no answer within {timeout} s") from late
    result = Completed(words, done.returncode, _text(done.stdout), _text(done.stderr))
    if check and done.returncode != 0:
        if log is not None:
            tail = log.read_bytes()[-2000:].decode(errors="replace")
            result = Completed(words, done.returncode, "", f"{tail}\n(whole log: {log})")
        raise ChildFailed(result, f"exit code {done.returncode}")
    return result


def feed(
    argv: Sequence[str | os.PathLike[str]],
    source: Callable[[Callable[[], bool]], Iterator[bytes]],
    *, timeout: float, die_with_parent: bool = False,
) -> Completed:
    """Run ``argv`` with what ``source`` yields as its standard input, and wait for it.

    ``source`` gets a function that says whether the child has ended, and is closed when it has:
    its stream may go on longer.  ``timeout`` (seconds) is how long the child may leave what it gets
    unread, and how long it may go on after the end of the stream.  Raises as `run`, and what
    ``source`` raises, after the child has been killed.
    """
    with _piped(argv, subprocess.PIPE, None, die_with_parent) as (process, complete):
        chunks = source(lambda: process.poll() is not None)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # its exit code says why
                os.set_blocking(process.stdin.fileno(), False)
                for chunk in chunks:
                    if not _written(process.stdin.fileno(), chunk, timeout):
                        break  # it hangs: `complete` gives it its time once more, then kills it
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        finally:
            if isinstance(chunks, Generator):
                chunks.close()
        return complete(timeout)


def _written(pipe: int, data: bytes, patience: float) -> bool:
    """Write all of ``data``; False if for ``patience`` seconds nothing of it was taken."""
    left = memoryview(data)
    ready = select.poll()
    ready.register(pipe, select.POLLOUT)
    while left:
        if not ready.poll(patience * 1000):
            return False
        with contextlib.suppress(BlockingIOError):  # less room than the kernel said
            left = left[os.write(pipe, left):]
    return True


def drain(
    argv: Sequence[str | os.PathLike[str]], sink: Callable[[bytes], None], *,
    timeout: float | None,
) -> Completed:
    """Run ``argv``, give its standard output to ``sink`` as it comes, and wait for it.

    If ``sink`` raises or the caller is interrupted, the child finds its output closed (EPIPE) and
    may put right what it has begun, ``timeout`` seconds long (None: as long as it takes, or until
    the next interrupt); then the error goes on.  It is in a session of its own: what a terminal
    sends to all in its foreground does not reach it.  Raises as `run`.
    """
    with _piped(argv, None, subprocess.PIPE, False, own_session=True) as (process, complete):
        assert process.stdout is not None
        try:
            while chunk := os.read(process.stdout.fileno(), _CHUNK):
                sink(chunk)
            return complete(timeout)
        except ChildFailed:
            raise
        except BaseException:
            process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
            raise


@contextlib.contextmanager
def conversation(
    argv: Sequence[str | os.PathLike[str]]
) -> Iterator[tuple[BinaryIO, BinaryIO, Callable[[], str]]]:
    """Run ``argv``: its standard input, its output, and what it has told people when it ended."""
    with _piped(argv, subprocess.PIPE, subprocess.PIPE, False) as (process, complete):
        source, sink = process.stdin, process.stdout
        assert source is not None
        assert sink is not None

        def said() -> str:
            with contextlib.suppress(OSError):
                source.close()
            try:
                return complete(60).err
            except ChildFailed as error:
                return error.done.err

        yield cast(BinaryIO, source), cast(BinaryIO, sink), said


@contextlib.contextmanager
def _piped(
    argv: Sequence[str | os.PathLike[str]], stdin: int | None, stdout: int | None,
    die_with_parent: bool, *, own_session: bool = False,
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[float | None], Completed]]]:
    words = tuple(os.fspath(word) for word in argv)
    if shutil.which(words[0]) is None:
        raise missing_tool(words[0])
    if die_with_parent:
        words = ("setpriv", "--pdeathsig", "KILL", *words)
    # No pipes for these: a child that says much would wait for somebody who reads.
    with (os.fdopen(os.memfd_create("err"), "w+b") as err,
          os.fdopen(os.memfd_create("out"), "w+b") as out):
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=out if stdout is None else stdout, stderr=err,
            # Python ignores SIGPIPE, and so does the child then: it hears of EPIPE.
            restore_signals=False, start_new_session=own_session,
        )

        def result(code: int) -> Completed:
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(_text(file.read()))
            return Completed(words, code, *said)

        def complete(timeout: float | None) -> Completed:
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired as late:
                raise ChildFailed(result(124), f"no answer within {timeout} s") from late
            if code != 0:
                raise ChildFailed(result(code), f"exit code {code}")
            return result(code)

        try:
            yield process, complete
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


def _text(data: bytes | str | None) -> str:
    if data is None:
        return ""
    return data if isinstance(data, str) else data.decode(errors="replace")


@dataclass(slots=True)
class Service:
    """A process that goes on when this one has ended."""

    _process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self._process.poll() is None

    def end(self, patience: float) -> None:
        """Ask it to end, and kill it if it has not after ``patience`` seconds."""
        self._process.terminate()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def service(
    argv: Sequence[str], *, cwd: str, keep: Sequence[int], output: int, user: int | None = None,
) -> Service:
    """Start ``argv`` in a session of its own, with nothing of this process's but ``keep``.

    Descriptors in ``keep`` have the same numbers there; what it prints goes to the descriptor
    ``output``. ``user``: the user and group id that it gets, with no other group (root only; None:
    this process's own). Raises OSError.
    """
    try:
        return Service(subprocess.Popen(
            argv, cwd=cwd, pass_fds=keep, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, umask=0o077, user=user, group=user,
            extra_groups=None if user is None else [],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}))
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from error

"""Commands in forks of one interpreter: the same answers as by starting one for each."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import shype
from shype.lab.dom0 import hand_over, labd

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = str(EXAMPLES / "banks.yaml")


class Port:
    """What `labd.Port` keeps of running commands."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.started, self.ended = self.seen.append, self.seen.remove


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labd.Warm]:
    place = tmp_path_factory.mktemp("warm")
    (place / "python3").symlink_to(sys.executable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        patch.setenv("PYTHONPATH", os.pathsep.join(
            (str(Path(shype.__file__).parents[1]), *(p for p in sys.path if "site-packages" in p))))
        made = labd.Warm()
        made.SOCKET = str(place / "socket")
        yield made
        made.forget()


def ask(warm: labd.Warm, *words: str, data: bytes = b"", **more: Any) -> tuple[int, str, str]:
    port: Any = Port()
    reply = warm.run({"argv": ["shype", *words], **more}, data, port)
    assert reply is not None
    assert port.seen == []
    out, err = (base64.b64decode(reply[name]).decode() for name in ("out", "err"))
    return reply["code"], out, err


def test_exit_codes_and_output(warm: labd.Warm) -> None:
    assert ask(warm, "--version") == (0, f"shype {shype.__version__}\n", "")
    code, out, err = ask(warm, "nonsense")
    assert (code, out) == (2, "")
    assert "invalid choice" in err
    code, out, _ = ask(warm, "explain", EXAMPLE, "a-desk", "b-desk")
    assert code == 1
    assert "wall" in out


def test_the_directory_is_the_callers(warm: labd.Warm, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(Path(EXAMPLE).read_bytes())
    assert ask(warm, "check", "p.yaml", cwd=str(tmp_path))[0] == 0
    assert ask(warm, "check", "p.yaml", cwd="/")[0] == 2


def test_many_at_once_are_apart(warm: labd.Warm) -> None:
    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(lambda n: ask(warm, "check", EXAMPLE if n % 2 else "/none")[0],
                              range(12)))
    assert codes == [2, 0] * 6


def test_late_is_killed(warm: labd.Warm) -> None:
    began = time.monotonic()
    code, _, _ = ask(warm, "completion", "bash", limit=0.0001)
    assert code == 124
    assert time.monotonic() - began < 10


def test_forgotten_it_is_started_again(warm: labd.Warm) -> None:
    assert ask(warm, "--version")[0] == 0
    first = warm.process
    warm.forget()
    assert ask(warm, "--version")[0] == 0
    assert warm.process is not first


def test_if_it_does_not_start_nothing_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere:/usr/bin")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    broken = labd.Warm()
    broken.SOCKET = "/nowhere/socket"
    port: Any = Port()
    assert broken.run({"argv": ["shype", "--version"]}, b"", port) is None


def test_a_command_that_comes_another_way_has_its_own_descriptors_and_environment(
    warm: labd.Warm, tmp_path: Path
) -> None:
    assert ask(warm, "--version")[0] == 0  # it is started
    words = [sys.executable, "-I", "-S", str(Path(hand_over.__file__))]
    run = partial(subprocess.run, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                  check=False, cwd=EXAMPLES)
    done = run([*words, warm.SOCKET, "shype", "explain", "banks.yaml", "a-desk", "b-desk"])
    assert done.returncode == 1
    assert "wall" in done.stdout
    done = run([*words, warm.SOCKET, "shype", "check", "banks.yaml", "--color"],
               env={"COLUMNS": "40"})
    assert done.returncode == 2
    # The usage has this width, from the environment.
    assert done.stderr.startswith("usage: shype check [-h] [--schema]\n")
    done = run([*words, str(tmp_path / "none"), "sh", "-c", "echo $0 cold; exit 5"])
    assert (done.returncode, done.stdout) == (5, "sh cold\n")

"""The probe itself, compiled and run here, where there is no Xen: its protocol and its honesty."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from shype.lab import guest
from shype.lab.dom0.console import Answer, read_line


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe, compiled with the options that the lab uses."""
    assert shutil.which("gcc"), "apt-get install gcc"
    out = tmp_path_factory.mktemp("probe") / "probe"
    subprocess.run(["gcc", *guest.CFLAGS, "-o", out, *guest.sources()], check=True)
    return out


def serve(program: Path, requests: str) -> list[Answer]:
    done = subprocess.run([program, "serve"], input=requests.encode(), capture_output=True,
                          timeout=20, check=True)
    answers = [answer for line in done.stdout.split(b"\n") for answer in read_line(line)]
    return [answer for answer in answers if isinstance(answer, Answer)]


def test_sources_and_headers_are_all_there() -> None:
    here = Path(guest.__file__).parent
    assert {path.name for path in here.glob("*.c")} == set(guest.SOURCES)
    assert {path.name for path in here.glob("*.h")} == set(guest.HEADERS)
    assert all(path.is_file() for path in (*guest.sources(), *guest.headers()))
    assert guest.init_script().read_text().startswith("#!/bin/busybox sh\n")


def test_init_is_a_correct_shell_script() -> None:
    subprocess.run(["sh", "-n", guest.init_script()], check=True)


def test_says_hello_and_answers_with_a_good_crc(program: Path) -> None:
    hello, ping = serve(program, "7 ping\n")
    assert (hello.id, hello.op) == (0, "hello")
    assert (ping.id, ping.op, ping.result) == (7, "ping", "ok")


def test_words_are_percent_decoded(program: Path) -> None:
    answer = serve(program, "1 n%6Fpe%20%22x%5C%0a%zz\n")[1]
    assert answer.op == 'nope "x\\\n%zz'


def test_same_id_is_answered_again_but_not_done_again(program: Path) -> None:
    with subprocess.Popen([program, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          bufsize=0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        answers = []
        for line in (b"3 info\n", b"3 info\n", b"4 info\n"):
            child.stdin.write(line)
            while not (found := list(read_line(child.stdout.readline()))) or found[0].id == 0:
                pass
            answers.append(found[0])
            time.sleep(0.03)  # uptime has hundredths of a second
        child.stdin.close()
    assert isinstance(answers[0], Answer)
    assert isinstance(answers[2], Answer)
    assert answers[0] == answers[1]
    assert answers[0].text("uptime") != answers[2].text("uptime")


@pytest.mark.parametrize("line", ["ping", "x ping", "0 ping", "5", "9" * 40 + " ping", "a" * 3000])
def test_bad_requests_are_errors(program: Path, line: str) -> None:
    answers = serve(program, f"{line}\n8 ping\n")
    assert [answer.op for answer in answers] == ["hello", "none", "ping"]
    assert answers[1].result == "error"
    assert answers[1].members["errno_name"] == "EINVAL"


@pytest.mark.parametrize("request_", [
    "event_offer 1", "event_bind 1 2", "event_send 3", "grant_offer 1 ro text",
    "grant_map 1 8 rw text", "grant_copy 1 8 from", "argo_send 1 7 text",
    "bool_get name", "bool_set name 1", "policy_load", "enforce_set 0", "foreign_map 1 4096",
    "control 1", "end 5",
    "bench_send 3 10", "bench_copy 1 8 10", "bench_map 1 8 10", "bool_list", "flask_facts",
    "event_plant 1 2 3", "event_status 1 2", "grant_compose 1 8 1 9 text", "lookups_send 0 1 2 01",
])
def test_without_xen_everything_is_an_error_never_ok_or_denied(
    program: Path, request_: str
) -> None:
    answer = serve(program, f"1 {request_}\n")[1]
    assert (answer.op, answer.result) == (request_.split()[0], "error")
    assert answer.members["errno_name"] == "ENOENT"


@pytest.mark.parametrize("request_", [
    "event_offer", "event_offer -1", "event_bind 1", "grant_offer 1 xx text", "grant_map 1 2",
    "grant_copy 1 2 sideways", "argo_register 1", "bool_set name 7",
    "enforce_set", "foreign_map 1", "control", "end", "end now",
    "bench_send 1 0", "bench_map 1 2 many", "grant_compose 1 8 1 9 Text", "grant_compose 1 8 1 9",
    "grant_flags", "grant_keep 1", "grant_transit 1 2", "grant_listen 1 2 3",
    "grant_signal 1 2 3 4 012", "lookups_send 10 1 2 012",
    "frame_send", "frame_send xy", "frame_send 00112233", "frame_send 0", "frame_send 00, 1",
])
def test_wrong_arguments_are_errors(program: Path, request_: str) -> None:
    answer = serve(program, f"1 {request_}\n")[1]
    assert answer.result == "error"
    assert answer.members["errno_name"] == "EINVAL"


@pytest.mark.parametrize("request_", ["event_received 3", "event_close 3", "grant_read 1",
                                      "grant_close 1", "argo_receive 1", "argo_close 1",
                                      "grant_kept", "grant_listen 1 2 3 4", "frame_heard"])
def test_handles_that_are_not_open_are_errors(program: Path, request_: str) -> None:
    answer = serve(program, f"1 {request_}\n")[1]
    assert answer.result == "error"
    assert answer.members["errno_name"] == "ENOENT"


def test_command_line_does_several_operations_and_ends_with_the_worst(program: Path) -> None:
    done = subprocess.run([program, "ping", "--", "event_offer", "1"], capture_output=True,
                          text=True, check=False)
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["id"], first["op"], first["result"]) == (1, "ping", "ok")
    assert (second["id"], second["op"], second["result"]) == (2, "event_offer", "error")
    assert done.returncode == 2
    assert subprocess.run([program, "ping"], capture_output=True, check=False).returncode == 0
    usage = subprocess.run([program], capture_output=True, text=True, check=False)
    assert usage.returncode == 2
    assert "grant_copy" in usage.stderr

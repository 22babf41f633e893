"""The verifier's service: what hosts ask, and what nobody should send."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shype.attest import client, service
from shype.attest.client import Remote
from shype.attest.service import Service
from shype.base import child
from shype.base.errors import BadInput, ShypeError, Unavailable
from shype.host import attest_result
from shype.host.attest_result import Verdict
from tests.attest.world import VERIFIER, World, paper_machine

VERIFIERS = {VERIFIER.public.id: VERIFIER.public}


@contextlib.contextmanager
def serving(world: World, certificate: Path | None = None, key: Path | None = None
            ) -> Iterator[tuple[Service, list[str]]]:
    said: list[str] = []
    server = Service(world.verifier, ("127.0.0.1", 0), certificate=certificate, key=key,
                     said=said.append)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server, said
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "verifier")


def test_a_host_is_appraised_over_http(world: World) -> None:
    host = paper_machine(world)
    with serving(world) as (server, said):
        remote = Remote(server.url)
        nonce, pcrs = remote.challenge(host.attester.id)
        sealed = remote.post("evidence", host.attester.quote(nonce, pcrs))
        again = remote.post("evidence", host.attester.quote(nonce, pcrs))
    assert attest_result.loads(sealed, VERIFIERS).verdict is Verdict.TRUSTED
    assert attest_result.loads(again, VERIFIERS).verdict is Verdict.FAILED
    assert said[0] == "xen1: trusted"


def test_over_tls_the_verifier_is_known_by_its_certificate(world: World, tmp_path: Path) -> None:
    host = paper_machine(world)
    cert, key = tmp_path / "v.crt", tmp_path / "v.key"
    child.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-days", "2", "-subj", "/CN=verifier", "-addext",
               "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert])
    with serving(world, cert, key) as (server, _):
        assert server.url.startswith("https://")
        assert Remote(server.url, cert).challenge(host.attester.id)
        with pytest.raises(Unavailable) as caught:
            Remote(server.url).challenge(host.attester.id)
        assert caught.value.id == "verifier.unreachable"
        with pytest.raises(Unavailable):  # plain HTTP to a port with TLS
            Remote(server.url.replace("https", "http"), timeout=5).challenge(host.attester.id)
        assert Remote(server.url, cert).challenge(host.attester.id), "and it goes on serving"


def test_what_the_verifier_refuses_keeps_its_id(world: World) -> None:
    with serving(world) as (server, _):
        remote = Remote(server.url)
        for what, body, id in (
            ("challenge", b'{"attester":"%b"}' % (b"0" * 64), "host.unknown"),
            ("challenge", b"", "service.request"), ("challenge", b"[]", "service.request"),
            ("challenge", b'{"attester":[]}', "service.request"),
            ("challenge", b"[" * 1000, "service.request"),
            ("challenge", b" " * 2000, "service.length"),
            ("evidence", b"{}", "evidence.corrupt"), ("enrol", b"{}", "enrolment.corrupt"),
            ("complete", b"\xff", "enrolment.corrupt"), ("nothing", b"", "service.path"),
        ):
            with pytest.raises(BadInput) as caught:
                remote.post(what, body)
            assert caught.value.id == id, what


def _raw(server: Service, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), 10) as connection:
        connection.sendall(data)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(OSError):
            while part := connection.recv(4096):
                answer += part
        return answer


@pytest.mark.parametrize("data", [
    b"", b"\0" * 100, b"GET / HTTP/1.0\r\n\r\n", b"POST /v1/evidence HTTP/1.0\r\n\r\n",
    b"POST /v1/evidence HTTP/1.0\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/evidence HTTP/1.0\r\nContent-Length: 99999999999\r\n\r\n",
    b"POST /v1/evidence HTTP/1.0\r\nContent-Length: 10\r\n\r\nabc",
    b"POST /v1/evidence HTTP/1.0\r\nContent-Length: 1e3\r\n\r\n", b"POST " + b"x" * 70000,
    b"POST /v1/../../etc/passwd HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST / HTTP/1.0\r\n" + b"a: b\r\n" * 200,
])
def test_rubbish_gets_no_answer_but_an_error_and_stops_nobody(world: World, data: bytes) -> None:
    host = paper_machine(world)
    with serving(world) as (server, said):
        answer = _raw(server, data)
        assert b" 200 " not in answer.split(b"\r\n")[0]
        assert b"Traceback" not in answer
        assert Remote(server.url).challenge(host.attester.id)
        assert not any("Traceback" in line or "\n" in line for line in said)


def test_clients_that_say_nothing_are_sent_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.5)
    monkeypatch.setattr(service, "AT_ONCE", 4)
    host = paper_machine(world)
    with serving(world) as (server, _):
        silent = [socket.create_connection(("127.0.0.1", server.server_port), 10) for _ in range(4)]
        try:
            for connection in silent[:2]:  # these go on sending, never to an end
                connection.sendall(b"POST /v1/evidence HTTP/1.0\r\nContent-Length: 99999\r\n\r\n")
            began = time.monotonic()
            assert Remote(server.url, timeout=20).challenge(host.attester.id)
            assert time.monotonic() - began < 15
        finally:
            for connection in silent:
                connection.close()


def test_many_hosts_at_a_time(world: World) -> None:
    hosts = [paper_machine(world, f"xen{number}") for number in range(12)]
    verdicts: list[Verdict] = []
    with serving(world) as (server, _):

        def attest(number: int) -> None:
            remote, host = Remote(server.url), hosts[number]
            for _ in range(3):
                nonce, pcrs = remote.challenge(host.attester.id)
                sealed = remote.post("evidence", host.attester.quote(nonce, pcrs))
                verdicts.append(attest_result.loads(sealed, VERIFIERS).verdict)

        threads = [threading.Thread(target=attest, args=[n]) for n in range(len(hosts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert verdicts == [Verdict.TRUSTED] * 36


def test_a_disk_that_fails_is_the_verifier_s_trouble(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = paper_machine(world)

    def full(*args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    with serving(world) as (server, _):
        remote = Remote(server.url)
        nonce, pcrs = remote.challenge(host.attester.id)
        data = host.attester.quote(nonce, pcrs)
        with monkeypatch.context() as patch:
            patch.setattr("shype.attest.registry.write_atomic", full)
            with pytest.raises(Unavailable) as caught:
                remote.post("evidence", data)
            assert caught.value.id == "os.error"
        assert attest_result.loads(
            remote.post("evidence", data), VERIFIERS).verdict is Verdict.TRUSTED


@pytest.mark.parametrize("answer", [
    b"", b"rubbish", b"HTTP/1.0 200 OK\r\n\r\n[]", b"HTTP/1.0 200 OK\r\n\r\n{}",
    b'HTTP/1.0 200 OK\r\n\r\n{"eat_nonce":"zz","pcrs":[0]}',
    b'HTTP/1.0 200 OK\r\n\r\n{"eat_nonce":"' + b"00" * 32 + b'","pcrs":[99]}',
    b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    b"HTTP/1.0 500 No\r\n\r\nno", b'HTTP/1.0 400 No\r\n\r\n{"error":1,"message":"","fix":""}',
    b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 200_000, b"HTTP/1.0 400 No\r\n\r\n" + b"[" * 5000,
])
def test_whatever_answers_in_place_of_a_verifier_is_an_error(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reply() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=reply, daemon=True)
        thread.start()
        remote = Remote(f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=5)
        with pytest.raises(ShypeError) as caught:
            remote.challenge("0" * 64)
        assert caught.value.id in (
            "verifier.unreachable", "verifier.strange", "challenge.corrupt")
        thread.join(5)


@pytest.mark.parametrize("url", [
    "", "verifier", "file:///etc/passwd", "ftp://x/", "https://a b/", "https://x/y?z",
    "http://user@x/",
])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        Remote(url).post("challenge", b"")
    assert caught.value.id == "verifier.url"


def test_an_error_s_text_cannot_move_the_terminal() -> None:
    error = Remote("http://x")._refused(400, json.dumps(
        {"error": "a.b", "message": "x\x1b[2Jy", "fix": "\r\nz"}).encode())
    assert error.message == "the verifier says: x?[2Jy"
    assert "\n" not in error.fix
    assert client.parse_challenge(b'{"eat_nonce":"' + b"00" * 32 + b'","pcrs":[0]}', "x")

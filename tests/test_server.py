"""The listening port withstands slow, silent and talkative clients, garbage, too many of them."""

import contextlib
import http.client
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path

import pytest

from librechat_exporter.http import server as module
from librechat_exporter.http.access import Access
from librechat_exporter.http.exchange import Request, Response, plain_text
from librechat_exporter.http.server import Server
from tests.conftest import MakeProcess, Process

HEAD = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"


def answer(request: Request) -> Response:
    if request.path == "/slow":
        time.sleep(0.5)
    if request.path == "/broken":
        raise ValueError("a text that quotes a document")
    if request.path == "/long":
        return plain_text(HTTPStatus.OK, "x" * 20_000_000)
    return plain_text(HTTPStatus.OK, f"{request.method} {request.path} {request.headers.get('x-a', '-')}")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose patience is short, with few connections."""
    for name, value in {"HEAD_SECONDS": 0.4, "IDLE_SECONDS": 0.6, "WRITE_SECONDS": 0.4, "CONNECTIONS": 20}.items():
        monkeypatch.setattr(module, name, value)
    one = Server(("127.0.0.1", 0), answer, Access(None))
    one.start()
    yield one
    one.stop()


def connect(one: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", one.port), timeout=5)


def ask(one: Server, path: str = "/", headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=5)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    found = response.status, response.read()
    connection.close()
    return found


def seconds_until_closed(client: socket.socket) -> float:
    started = time.monotonic()
    while client.recv(65_536):
        pass
    return time.monotonic() - started


def seconds_until_refused(client: socket.socket, sent: bytes) -> float:
    """The seconds that it goes on to send until the server has closed the connection."""
    started = time.monotonic()
    while time.monotonic() < started + 5:
        try:
            client.sendall(sent)
        except OSError:
            break
        time.sleep(0.05)
    return time.monotonic() - started


def test_several_requests_on_a_connection_and_pipelined_ones(short: Server) -> None:
    with connect(short) as client:
        for path in ("a", "b"):
            client.sendall(f"GET /{path}?query HTTP/1.1\r\nHost: x\r\nX-A: {path}\r\n\r\n".encode())
            assert f"GET /{path} {path}".encode() in client.recv(65_536)
        client.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b""
        while chunk := client.recv(65_536):
            received += chunk
        assert received.index(b"GET /1") < received.index(b"GET /2")


def test_a_stop_ends_a_connection_after_the_answer_under_way() -> None:
    one = Server(("127.0.0.1", 0), answer, Access(None))
    one.start()
    with connect(one) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.2)
        started = time.monotonic()
        one.stop()
        assert time.monotonic() - started < module._STOP_SECONDS
        received = b""
        while chunk := client.recv(65_536):
            received += chunk
    assert b"GET /slow" in received
    assert b"GET /2" not in received


def test_a_client_that_is_gone_before_its_answer_is_worked_out_is_no_defect(
    short: Server, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        with connect(short) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(HEAD + b"\r\n")
    assert ask(short)[0] == 200
    assert "failed" not in caplog.text


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"X: y"])
def test_a_client_that_does_not_go_on_is_cut_off(short: Server, sent: bytes) -> None:
    with connect(short) as client:
        client.sendall(sent)
        assert 0.2 < seconds_until_closed(client) < 1.5


def test_a_client_that_drips_is_cut_off(short: Server) -> None:
    with connect(short) as client:
        client.sendall(HEAD)
        assert seconds_until_refused(client, b"X: y\r\n") < 2


def test_an_idle_connection_is_closed(short: Server) -> None:
    with connect(short) as client:
        client.sendall(HEAD + b"\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        assert 0.4 < seconds_until_closed(client) < 2


def test_a_client_that_does_not_read_is_cut_off(short: Server) -> None:
    with connect(short) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\n\r\n")
        assert seconds_until_refused(client, b"x") < 3
    assert ask(short)[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 60_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"y" * 60_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"\0\1\2\3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", 400),
        (b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost x\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_told_so(short: Server, sent: bytes, status: int) -> None:
    with connect(short) as client:
        client.sendall(sent)
        assert client.recv(65_536).startswith(f"HTTP/1.1 {status} ".encode())
    assert ask(short)[0] == 200


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/metrics?x=http://y/z", "/metrics"),
        (b"http://host:80/metrics?x", "/metrics"),
        (b"HTTPS://host", "/"),
        (b"http://host?x", "/"),
        (b"http://[::1]/ready", "/ready"),
        (b"//host/metrics", "//host/metrics"),
    ],
)
def test_a_target_is_a_path_or_a_whole_address(target: bytes, path: str) -> None:
    seen = []

    def note(request: Request) -> Response:
        seen.append(request.path)
        return plain_text(HTTPStatus.OK, "ok")

    one = Server(("127.0.0.1", 0), note, Access(None))
    one.start()
    try:
        with connect(one) as client:
            client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(65_536).startswith(b"HTTP/1.1 200")
    finally:
        one.stop()
    assert seen == [path]


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(
    ("host", "served"), [("::", ["127.0.0.1", "::1"]), ("::1", ["::1"]), ("0.0.0.0", ["127.0.0.1"])]
)
def test_which_addresses_are_served(host: str, served: list[str]) -> None:
    one = Server((host, 0), answer, Access(None))
    one.start()
    try:
        for address in ("127.0.0.1", "::1"):
            if address in served:
                with socket.create_connection((address, one.port), timeout=5) as client:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert client.recv(65_536).startswith(b"HTTP/1.1 200")
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, one.port), timeout=5)
    finally:
        one.stop()


def test_a_body_is_not_waited_for(short: Server) -> None:
    with connect(short) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
        assert b"200 OK" in client.recv(65_536)
        assert seconds_until_closed(client) < 1


def test_new_connections_push_out_those_that_wait_longest(short: Server) -> None:
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(short)) for _ in range(20)]
        time.sleep(0.1)
        assert ask(short)[0] == 200
        waiting[0].settimeout(0.2)
        assert waiting[0].recv(1) == b"", "the oldest had to go"
        waiting[-1].settimeout(0.05)
        with pytest.raises(TimeoutError):
            waiting[-1].recv(1)


def test_a_request_that_fails_tells_nothing(short: Server, caplog: pytest.LogCaptureFixture) -> None:
    status, body = ask(short, "/broken")
    assert (status, body) == (500, b"Internal error: see the log.\n")
    assert "Answering a request failed (internal): ValueError" in caplog.text
    assert "quotes a document" not in caplog.text
    assert ask(short)[0] == 200


def test_answers_under_way_are_sent_before_the_end() -> None:
    one = Server(("127.0.0.1", 0), answer, Access(None))
    one.start()
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, one, "/slow") for _ in range(5)]
        time.sleep(0.2)
        idle = connect(one)
        started = time.monotonic()
        one.stop()
        assert time.monotonic() - started < 2
        assert [one.result()[0] for one in asked] == [200] * 5
    with idle:
        assert seconds_until_refused(idle, HEAD) < 1


def descriptors(one: Process) -> int:
    assert one.process is not None
    return sum(1 for _ in Path(f"/proc/{one.process.pid}/fd").iterdir())


def test_five_hundred_slow_clients_stop_no_scrape(process: MakeProcess) -> None:
    one = process().start()
    one.scrape()
    stop = threading.Event()
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=5)) for _ in range(500)
        ]

        def drip() -> None:
            while not stop.wait(1):
                for client in clients:
                    try:
                        client.sendall(b"X: y\r\n")
                    except OSError:
                        continue

        for client in clients:
            client.sendall(HEAD)
        dripping = threading.Thread(target=drip)
        dripping.start()
        for _ in range(10):
            assert one.scrape(timeout=2)["librechat_up", ()] == 1
            time.sleep(0.2)
        stop.set()
        dripping.join()
    assert one.get("/health")[0] == 200
    assert "Traceback" not in one.log


def test_garbage_and_tls_leave_no_trace(process: MakeProcess) -> None:
    one = process().start()
    one.scrape()
    before, lines = descriptors(one), one.log.count("\n")
    context = ssl.create_default_context()
    for number in range(100):
        with socket.create_connection(("127.0.0.1", one.port), timeout=5) as client:
            client.sendall(os.urandom(500))
            if number % 2:
                with contextlib.suppress(OSError):  # its first bytes may have been refused already
                    client.sendall(b"\r\n\r\n")
    for _ in range(20):
        with (
            socket.create_connection(("127.0.0.1", one.port), timeout=5) as client,
            pytest.raises((ssl.SSLError, OSError)),
        ):
            context.wrap_socket(client, server_hostname="x")
    assert one.get("/health")[0] == 200
    end = time.monotonic() + 10
    while descriptors(one) > before + 2:
        assert time.monotonic() < end, "descriptors are lost"
        time.sleep(0.1)
    assert one.log.count("\n") == lines, one.log

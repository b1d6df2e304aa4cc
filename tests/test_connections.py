"""Connections cost the process little: one body for all that do not read it, a few kilobytes for an idle one."""

import contextlib
import functools
import socket
import ssl
import struct
import threading
import time
from contextlib import ExitStack, closing
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from pymongo.database import Database

from librechat_exporter.http.access import Access
from librechat_exporter.http.exchange import Request, Response, plain_text
from librechat_exporter.http.server import UNSENT_BYTES, Server
from tests.conftest import Document, MakeProcess, Process

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def memory(one: Process) -> float:
    """In MB, now."""
    assert one.process is not None
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def connect(one: Process) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(10)
    connection.connect(("127.0.0.1", one.port))
    return connection


def test_clients_that_do_not_read_share_one_body(process: MakeProcess, database: Database[Document]) -> None:
    """A body each would be 200 MB. Scrapes that do not overlap have bodies of their own; some are refused."""
    database["messages"].insert_many(
        {
            "messageId": f"m{n}",
            "model": f"model-{n}-" + "x" * 180,
            "content": [{"type": "tool_call", "tool_call": {"name": f"tool-{n % 70}-" + "y" * 180}}],
        }
        for n in range(400)
    )
    one = process(MAX_LABEL_VALUES="3000").start()
    size = len(one.get("/metrics")[2])
    assert size > 400_000
    before = memory(one)
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(connect(one))) for _ in range(500)]
        for client in clients:
            client.sendall(REQUEST)
        end = time.monotonic() + 30
        answered: set[int] = set()
        while len(answered) < 450 and time.monotonic() < end:
            for number, client in enumerate(clients):
                if number not in answered:
                    client.setblocking(False)
                    try:
                        client.recv(1, socket.MSG_PEEK)
                        answered.add(number)
                    except BlockingIOError:
                        pass
            time.sleep(0.1)
        assert len(answered) >= 450
        assert one.get("/health")[0] == 200
        assert memory(one) - before < 120


def test_an_idle_client_holds_no_body(process: MakeProcess, database: Database[Document]) -> None:
    """Each asks when the one before it is being answered, so that no two share a scrape."""
    database["messages"].insert_many({"messageId": f"m{n}", "model": f"model-{n}-" + "x" * 180} for n in range(400))
    one = process(MAX_LABEL_VALUES="3000").start()
    size = len(one.get("/metrics")[2])
    before = memory(one)
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(connect(one))) for _ in range(100)]
        for client in clients:
            client.sendall(REQUEST)
            client.recv(size, socket.MSG_WAITALL)
        assert memory(one) - before < 100 * size / 1e6 / 2


def test_clients_that_do_not_read_make_room_for_others() -> None:
    size = 8_000_000

    def respond(_request: Request) -> Response:
        return Response(HTTPStatus.OK, [], bytes(size))

    server = Server(("127.0.0.1", 0), respond, Access(None))
    server.start()
    try:
        with ExitStack() as stack:
            clients = [
                stack.enter_context(closing(socket.create_connection(("127.0.0.1", server.port)))) for _ in range(10)
            ]
            for client in clients:
                client.sendall(REQUEST)
                assert client.recv(1)
            assert UNSENT_BYTES - size < sum(len(one.body) for one in server._connections) <= UNSENT_BYTES
            read = [sum(map(len, iter(functools.partial(client.recv, 1_000_000), b""))) for client in clients[:2]]
            assert max(read) < size
            assert len(clients[-1].recv(size, socket.MSG_WAITALL)) == size
    finally:
        server.stop()


@pytest.fixture
def encrypted(process: MakeProcess, tmp_path: Path) -> tuple[Process, ssl.SSLContext]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    (tmp_path / "server.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    web: dict[str, Any] = {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key"}}
    (tmp_path / "web.yml").write_text(yaml.safe_dump(web))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return process(WEB_CONFIG_FILE=str(tmp_path / "web.yml")).start(), context


def ask(one: Process, context: ssl.SSLContext) -> None:
    with context.wrap_socket(connect(one), server_hostname="127.0.0.1") as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(15) == b"HTTP/1.1 200 OK"


def test_idle_tls_connections_take_little(encrypted: tuple[Process, ssl.SSLContext]) -> None:
    one, context = encrypted
    with ExitStack() as stack:
        for _ in range(510):
            stack.enter_context(context.wrap_socket(connect(one), server_hostname="127.0.0.1"))
        ask(one, context)
        assert memory(one) < 128


@pytest.mark.parametrize("times", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_tls_connections_in_a_row_leave_nothing(encrypted: tuple[Process, ssl.SSLContext], times: int) -> None:
    one, context = encrypted

    def ask_often() -> None:
        for _ in range(times // 4):
            ask(one, context)

    threads = [threading.Thread(target=ask_often, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask(one, context)
    assert memory(one) < 128


def test_handshakes_that_break_off_leave_nothing(encrypted: tuple[Process, ssl.SSLContext]) -> None:
    """Nobody needs a password for them."""
    one, context = encrypted
    for _ in range(20):
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(closing(connect(one))).sendall(b"\x16\x03\x01\x02\x00\x01")
            ask(one, context)
    assert memory(one) < 128


def test_a_client_that_is_gone_is_answered_no_more(process: MakeProcess) -> None:
    """It has sent many requests at once, and then reset the connection: the log does not tell of each."""
    one = process().start()
    for _ in range(5):
        client = connect(one)
        client.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
        time.sleep(0.05)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    time.sleep(1)
    assert one.get("/health")[0] == 200
    assert "socket.send" not in one.log


def test_certificates_that_are_read_anew_keep_nobody_waiting(encrypted: tuple[Process, ssl.SSLContext]) -> None:
    """While a new connection waits for a file that does not come, as on a share that hangs, others are served."""
    one, context = encrypted
    path, hangs = Path(one.environment["WEB_CONFIG_FILE"]), threading.Event()

    class SlowAccess(Access):
        def tls(self) -> ssl.SSLContext | None:
            if hangs.is_set():
                time.sleep(5)
            return super().tls()

    server = Server(("127.0.0.1", 0), lambda _request: plain_text(HTTPStatus.OK, "ok"), SlowAccess(path))
    server.start()
    try:
        plain = socket.create_connection(("127.0.0.1", server.port))
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as there:
            hangs.set()
            with closing(socket.create_connection(("127.0.0.1", server.port))) as new:
                new.sendall(b"\x16")
                time.sleep(0.2)
                started = time.monotonic()
                there.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert there.recv(15) == b"HTTP/1.1 200 OK"
                assert time.monotonic() - started < 2
    finally:
        server.stop()

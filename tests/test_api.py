"""LibreChat's own health, which no scrape waits for."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pymongo.database import Database

from librechat_exporter.collectors import api
from librechat_exporter.librechat import health
from tests.conftest import Document, MakeExporter, MakeLibreChat
from tools.private_server import free_port

UP = ("librechat_api_up", ())
SECONDS = ("librechat_api_response_seconds", ())
STATUS = ("librechat_status_code", ())
SUCCESS = ("librechat_exporter_collector_success", (("collector", "api"),))


def test_up_and_down(
    database: Database[Document],
    exporter: MakeExporter,
    librechat: MakeLibreChat,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Why it is down is said once."""
    database["messages"].insert_one({})
    values = exporter(librechat_url=librechat(200, 0)).scrape()
    assert values[UP] == 1
    assert 0 < values[SECONDS] < 1
    assert values[STATUS] == 200
    assert caplog.text == ""
    refused = f"http://127.0.0.1:{free_port()}"
    for number, (url, status, said) in enumerate(
        ((librechat(503, 0), 503, "it answers with status 503"), (refused, None, "(Connection refused)"))
    ):
        one = exporter(librechat_url=url, state_path=str(tmp_path / f"{number}.sqlite"))
        for _ in range(2):
            values = one.scrape()
            assert values[UP] == 0
            assert SECONDS not in values
            assert values.get(STATUS) == status
        assert caplog.text.count(said) == 1


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that answers each request so; its address."""

    def serve() -> None:
        while True:
            try:
                there, _ = server.accept()
            except OSError:
                return
            with closing(there):
                try:
                    there.recv(4096)
                    answer(there)
                except OSError:
                    continue

    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        b"-ERR unknown command 'GET'\r\n",
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % number for number in range(150)) + b"\r\n",
        b"HTTP/1.1 999999 What\r\n\r\n",
    ],
)
def test_what_is_no_http_is_down(sent: bytes, caplog: pytest.LogCaptureFixture, exporter: MakeExporter) -> None:
    with answering(lambda there: there.sendall(sent)) as url:
        one = exporter(librechat_url=url, state_path=":memory:")
        for _ in range(2):
            values = one.scrape()
            assert (values.get(UP), values[SUCCESS]) == (0, 1)
    told = [record.getMessage() for record in caplog.records if "LIBRECHAT_URL" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("LIBRECHAT_URL: it ")


def test_a_redirection_is_not_followed(librechat: MakeLibreChat) -> None:
    elsewhere = librechat(200, 0)
    moved = f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}health\r\nContent-Length: 0\r\n\r\n".encode()
    with answering(lambda there: there.sendall(moved)) as url:
        answer = health.ask(url)
    assert (answer.status, answer.problem) == (302, "it answers with status 302")


@pytest.mark.parametrize("at_once", [b"", b"HTTP/1.1 200 OK\r\nX: "])
def test_an_answer_that_drips_is_down_after_the_timeout(monkeypatch: pytest.MonkeyPatch, at_once: bytes) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.5)

    def drip(there: socket.socket) -> None:
        there.sendall(at_once)
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100:
            there.sendall(bytes([byte]))
            time.sleep(0.05)

    with answering(drip) as url:
        answer = health.ask(url)
    assert (answer.status, answer.problem) == (None, "it does not answer within 0.5 s")
    assert 0.5 <= answer.seconds < 1.5


def test_without_an_address_it_is_not_asked(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one({})
    values = exporter().scrape()
    assert UP not in values
    assert SUCCESS not in values


def test_a_slow_answer_delays_no_scrape(
    database: Database[Document],
    exporter: MakeExporter,
    librechat: MakeLibreChat,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database["messages"].insert_one({})
    monkeypatch.setattr(api, "_PATIENCE_SECONDS", 0.2)
    one = exporter(librechat_url=librechat(200, 3))
    started = time.monotonic()
    values = one.scrape()
    assert time.monotonic() - started < 2.9
    assert UP not in values
    assert values[SUCCESS] == 0
    time.sleep(3)
    values = one.scrape()
    assert (values[UP], values[SUCCESS]) == (1, 1)
    assert values[SECONDS] == pytest.approx(3, abs=1)


def test_a_server_that_accepts_tls_and_stays_silent_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        answer = health.ask(f"https://127.0.0.1:{silent.getsockname()[1]}")
    assert (answer.status, answer.problem) == (None, "it does not answer within 0.5 s")

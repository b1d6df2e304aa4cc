"""HTTP, on the real process."""

import concurrent.futures
import contextlib
import gzip
import http.client
import json
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pymongo.database import Database

from librechat_exporter import __version__
from librechat_exporter.http.application import _FORMS, Application, _accepts_gzip, _form
from librechat_exporter.http.exchange import Request
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.scrape import Scraped
from tests.conftest import Document, MakeProcess

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"

UP = Metric(name="librechat_up", help="Up", type="gauge", kind="self")


def test_pages(process: MakeProcess, database: Database[Document]) -> None:
    database["messages"].insert_one({"messageId": "m1", "user": "u1", "isCreatedByUser": True})
    one = process().start()
    status, headers, body = one.get("/metrics", {"Accept": "*/*"})
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"librechat_messages_total 1.0\n" in body
    assert one.get("/", {"Accept": "*/*"})[2].startswith(b"# HELP")
    assert one.get("/", {"Accept": "application/openmetrics-text;version=abc"})[0] == 200

    status, headers, body = one.get("/metrics", {"Accept": PROMETHEUS})
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    parsed = text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family.type for family in parsed}
    assert families["librechat_messages"] == "counter"

    status, headers, body = one.get("/metrics", {"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"librechat_up 1.0" in gzip.decompress(body)

    status, headers, body = one.get("/", {"Accept": BROWSER})
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = body.decode()
    for expected in (__version__, 'href="metrics"', "All is well"):
        assert expected in page

    assert json.loads(one.get("/health")[2]) == {"status": "ok", "version": __version__}
    status, _, body = one.get("/ready")
    assert (status, json.loads(body)) == (200, {"status": "ready"})
    assert one.get("/nothing")[0] == 404
    assert one.get("/metrics/")[0] == 404


def test_without_messages_it_is_not_ready_and_counters_are_absent(
    process: MakeProcess, database: Database[Document]
) -> None:
    database["messages"].drop()
    database["users"].insert_one({"provider": "local"})
    one = process().start()
    status, _, body = one.get("/ready")
    assert status == 503
    told = f"The database {database.name!r} has no collection `messages`"
    assert json.loads(body)["reasons"][0] == told, "and no other database's name"
    values = one.scrape()
    assert values["librechat_up", ()] == 1
    assert not [name for name, _ in values if name in ("librechat_messages_total", "librechat_registered_users_total")]
    database["messages"].insert_one({"messageId": "m1"})
    assert one.scrape()["librechat_messages_total", ()] == 1
    assert one.get("/ready")[0] == 200


def test_other_methods(process: MakeProcess) -> None:
    one = process().start()
    for path in ("/", "/metrics", "/health", "/ready"):
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=20)
        connection.request("HEAD", path)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 10
        connection.request("POST", path, body=b"x=1")
        response = connection.getresponse()
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        connection.close()


def test_fifty_scrapes_at_once(process: MakeProcess, database: Database[Document]) -> None:
    database["messages"].insert_one({"messageId": "m1", "user": "u1"})
    one = process().start()
    one.scrape()
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        scrapes = list(pool.map(lambda _: one.scrape(), range(50)))
    assert all(values["librechat_messages_total", ()] == 1 for values in scrapes)
    assert all(values["librechat_up", ()] == 1 for values in scrapes)


@pytest.mark.parametrize(
    "garbage", [b"\0\xff" * 500 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02"]
)
def test_garbage_on_the_port_does_no_harm(process: MakeProcess, garbage: bytes) -> None:
    one = process().start()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", one.port), timeout=5) as connection:
            connection.sendall(garbage)
    assert one.get("/health")[0] == 200
    assert "Traceback" not in one.log


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "inf", "1e9", "1e-9", ""])
def test_a_scrape_timeout_that_makes_no_sense_counts_as_none(process: MakeProcess, seconds: str) -> None:
    one = process().start()
    status, _, body = one.get("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": seconds})
    assert (status, b"\nlibrechat_up 1.0\n" in body) == (200, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_and_in_order(process: MakeProcess, number: int) -> None:
    one = process().start()
    running = one.process
    assert running is not None
    assert one.stop(number) < 5
    assert running.returncode == 0
    assert one.log.endswith("Stopped\n")


def holds_sigterm(status: Path) -> bool:
    """True if the thread of this file in /proc keeps SIGTERM for later."""
    return bool(int(status.read_text().split("SigBlk:")[1].split()[0], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("delay", [0, 0.005, 0.01, 0.02, 0.05])
def test_a_signal_at_any_moment_ends_it(process: MakeProcess, delay: float) -> None:
    """No thread takes one that the main thread has not asked for, and none is lost before it asks."""
    one = process().start()
    time.sleep(delay)
    running = one.process
    assert running is not None
    for thread in Path(f"/proc/{running.pid}/task").iterdir():
        # In the main thread they are not held while it waits for them.
        if thread.name != str(running.pid):
            with contextlib.suppress(OSError):  # it has ended
                assert holds_sigterm(thread / "status")
    assert one.stop() < 5
    assert running.returncode == 0
    assert one.log.endswith("Stopped\n")


def test_a_signal_while_it_starts_ends_it(process: MakeProcess) -> None:
    one = process()
    with subprocess.Popen(one.command, env=one.environment, stderr=subprocess.PIPE, text=True) as starting:
        try:
            while not holds_sigterm(Path(f"/proc/{starting.pid}/status")):
                assert starting.poll() is None
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", one.port))
            starting.send_signal(signal.SIGTERM)
            log = starting.communicate(timeout=15)[1]
        finally:
            starting.kill()
    assert starting.returncode == 0
    assert log.endswith("Stopped\n")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("*", True), ("", False), ("deflate", False), ("gzip;q=0", False)],
)
def test_gzip_is_negotiated(header: str, accepted: bool) -> None:
    assert _accepts_gzip(header) is accepted


def test_readiness_keeps_few_threads() -> None:
    go = threading.Event()

    class Status:
        def fault(self) -> str | None:
            return None if go.wait(10) else "late"

        def pending(self) -> dict[str, float]:
            return {}

    application = Application(lambda _deadline: Scraped([]), Status(), None, 10)  # type: ignore[arg-type]
    ready = Request("GET", "/ready", {})
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(application.respond, ready) for _ in range(10)]
        end = time.monotonic() + 5
        while sum(one.done() for one in asked) < 6:
            assert time.monotonic() < end
        go.set()
    assert sorted(one.result().status for one in asked) == [200] * 4 + [503] * 6
    assert application.respond(ready).status == 200


@pytest.mark.parametrize(
    "accept",
    [
        *(f"application/openmetrics-text;version=1.0.{number}" for number in range(3)),
        *("application/openmetrics-text;version=1.0\xa0.0", "application/openmetrics-text;version=abc;escaping=x\xff"),
        *("text/plain;version=9.9;escaping=y", "text/plain; version=1.0.0; escaping=allow-utf-8", "*/*", "\xa0"),
    ],
)
def test_what_is_asked_for_is_one_of_few_forms(accept: str) -> None:
    exposition, content_type = _form(accept)
    assert content_type in _FORMS
    assert content_type.isascii()
    assert exposition.text(Scraped([UP.family({(): 1})])).startswith(b"# HELP librechat_up")


def test_a_shared_scrape_is_encoded_once_for_each_form() -> None:
    scraped = [Scraped([UP.family({(): value})]) for value in (1, 0)]
    latest = scraped[0]
    application = Application(lambda _deadline: latest, None, None, 10)  # type: ignore[arg-type]

    def body(**headers: str) -> bytes:
        return application.respond(Request("GET", "/metrics", headers)).body

    first = body()
    assert b"librechat_up 1.0\n" in first
    assert body() is first
    compressed = body(**{"accept-encoding": "gzip"})
    assert gzip.decompress(compressed) == first
    assert body(accept="application/openmetrics-text").endswith(b"# EOF\n")
    assert body() is first
    latest = scraped[1]
    assert b"librechat_up 0.0\n" in body()
    assert b"librechat_up 0.0\n" in gzip.decompress(body(**{"accept-encoding": "gzip"}))

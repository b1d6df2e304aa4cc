"""HTTP, on the real process."""

import concurrent.futures
import gzip
import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pymongo.database import Database

from librechat_exporter import __version__
from librechat_exporter.web import _accepts_gzip
from tests.conftest import METRICS_PY, Document, MakeProcess

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"


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
    for expected in (
        __version__,
        'href="/metrics"',
        "MongoDB at the last scrape: up",
        "<td>messages</td><td>100%</td>",
    ):
        assert expected in page

    assert json.loads(one.get("/health")[2]) == {"status": "ok", "version": __version__}
    status, _, body = one.get("/ready")
    assert (status, json.loads(body)) == (200, {"status": "ready"})
    assert one.get("/nothing")[0] == 404
    assert one.get("/metrics/")[0] == 404


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


@pytest.mark.parametrize("seconds", ["x", "-1", "nan", "inf", "1e9", ""])
def test_a_scrape_timeout_that_makes_no_sense_counts_as_none(process: MakeProcess, seconds: str) -> None:
    one = process().start()
    assert one.get("/metrics", {"X-Prometheus-Scrape-Timeout-Seconds": seconds})[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_in_time_and_in_order(process: MakeProcess, number: int) -> None:
    one = process().start()
    running = one.process
    assert running is not None
    assert one.stop(number) < 5
    assert running.returncode == 0
    assert one.log.endswith("Stopped\n")


INTERRUPTED = """
import logging, os, runpy, signal, sys, threading

def kill():
    os.kill(os.getpid(), signal.SIGTERM)

def trace(frame, event, argument):
    global lines
    if timers and event == "line" and frame.f_code.co_filename == threading.__file__:
        lines -= 1
        if lines == 0:
            kill()
    return trace

class Served(logging.Handler):
    def emit(self, record):
        if "serves on" in record.msg:
            timer = threading.Timer(0.5, kill)
            timer.start()
            timers.append(timer)

folder, lines, timers = sys.argv[1], int(sys.argv[2]), []
sys.path.insert(0, folder)
sys.argv[1:] = []
logging.getLogger("librechat_exporter").addHandler(Served())
sys.settrace(trace)
runpy.run_path(folder + "/metrics.py", run_name="__main__")
"""


@pytest.mark.parametrize("lines", [1, 3, 5])
def test_a_signal_within_a_lock_does_not_keep_it(process: MakeProcess, tmp_path: Path, lines: int) -> None:
    """A signal comes at one of the first lines of threading's code that the main thread runs once it serves."""
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, str(script), str(METRICS_PY.parent), str(lines)]
    environment = process().environment
    ended = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=10, check=True
    )
    assert ended.stderr.endswith("Stopped\n")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("*", True), ("", False), ("deflate", False), ("gzip;q=0", False)],
)
def test_gzip_is_negotiated(header: str, accepted: bool) -> None:
    assert _accepts_gzip(header) is accepted

"""Servers, started once for the session and ended whatever happens, and the exporter in this process."""

import functools
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import hypothesis
import pymongo
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from pymongo.database import Database

from librechat_exporter.collector import Collector
from librechat_exporter.daemon import Daemon
from librechat_exporter.historic.tables import ALL, EXPORT_RUNS
from librechat_exporter.settings import Settings
from tests.meanings import Values
from tools.containers import Containers, engines
from tools.mariadb import MariaDB
from tools.mongod import Mongod
from tools.private_server import die_with_parent, free_port

Document = dict[str, Any]

# By the clock, an example takes as long as the machine is busy.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

METRICS_PY = Path(__file__).parent.parent / "metrics.py"
_SYSTEM = Path("/etc/os-release")
needs_debian = pytest.mark.skipif(
    not _SYSTEM.exists() or "ID=debian" not in _SYSTEM.read_text().splitlines(),
    reason="tools/newer-debian.sh gets newer receivers on Debian alone",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the golden exposition anew")
    parser.addoption("--quick", action="store_true", help="run what needs no server and few packages, on any machine")


# Files with few tests that take long: begun last, one of them would run alone.
LONG = ("test_truth.py", "test_oracle.py", "test_export_faults.py", "test_export_oracle.py", "test_monitoring.py")


# Files of which --quick runs all tests that ask for none of SERVERS.
QUICK = (
    *("test_access.py", "test_architecture.py", "test_clock.py", "test_connection_string.py", "test_ending.py"),
    *("test_environment.py", "test_export_dates.py", "test_metric.py", "test_queries.py", "test_refreshed.py"),
    *("test_server.py", "test_settings.py", "test_web.py", "test_web_config.py"),
)
SERVERS = {"mongodb_uri", "mariadb"}


def pytest_configure() -> None:
    """Under `nohup`, what the tests start would ignore SIGHUP as well."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_left_out = collection_path.name.startswith("test_") and collection_path.name not in QUICK
    return True if config.getoption("--quick") and is_left_out else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))
    if config.getoption("--quick"):
        items[:] = [item for item in items if SERVERS.isdisjoint(getattr(item, "fixturenames", ()))]


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """A MongoDB shared by the session's tests, each with a database of its own."""
    named = os.environ.get("MONGODB_TEST_URI")
    if named:
        yield named
    else:
        with Mongod() as server:
            yield server.uri


@pytest.fixture(scope="session")
def client(mongodb_uri: str) -> Iterator[pymongo.MongoClient[Document]]:
    with pymongo.MongoClient[Document](mongodb_uri, tz_aware=True) as client:
        yield client


@pytest.fixture
def database(client: pymongo.MongoClient[Document], request: pytest.FixtureRequest) -> Iterator[Database[Document]]:
    """As LibreChat leaves it after its first start: with a collection of messages."""
    name = f"{re.sub('[^a-z0-9]', '_', request.node.name[:30])}_{time.monotonic_ns()}"
    client[name].create_collection("messages")
    yield client[name]
    client.drop_database(name)


@pytest.fixture(scope="session", params=engines(), ids=lambda engine: engine.engine)
def containers(request: pytest.FixtureRequest) -> Iterator[Containers]:
    """Where images are built and run."""
    with request.param() as one:
        yield one


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A MariaDB shared by the session's tests, each with a database of its own."""
    with MariaDB() as server:
        yield server


class Metrics:
    """A database of the historic export, and the settings that name it."""

    def __init__(self, server: MariaDB, name: str) -> None:
        self.server = server
        self.environment = server.environment(name)
        self.name = name
        self._connection = server.connect(name)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor()
        cursor.execute(statement, parameters)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        cursor.close()
        return rows

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every table's rows in the order of the key, but for the history of runs."""
        return {
            table.name: self.rows(f"SELECT * FROM `{table.name}` ORDER BY {', '.join(table.key)}")  # noqa: S608
            for table in ALL
            if table is not EXPORT_RUNS
        }

    def drop(self) -> None:
        self.rows(f"DROP DATABASE `{self.name}`")
        self._connection.close()


@pytest.fixture
def metrics(mariadb: MariaDB) -> Iterator[Metrics]:
    one = Metrics(mariadb, f"test_{time.monotonic_ns()}")
    yield one
    one.drop()


@pytest.fixture
def private_mariadb() -> Iterator[MariaDB]:
    """A server of the test's own, to be killed and paused."""
    with MariaDB() as server:
        yield server


@pytest.fixture
def private_mongod() -> Iterator[Mongod]:
    """A server of the test's own, to be killed, paused and broken."""
    if os.environ.get("MONGODB_TEST_URI"):
        pytest.skip("MONGODB_TEST_URI names a server that may not be broken")
    with Mongod() as server:
        yield server


class Exporter:
    """The exporter without HTTP, in this process.

    at: its clock, which stands still, and is believed unless `doubts` is set. offered: collectors instead of all.
    """

    def __init__(
        self,
        settings: Settings,
        at: datetime | None = None,
        *,
        doubts: bool = False,
        offered: Sequence[Collector] | None = None,
    ) -> None:
        self.at = at
        # A clock is believed if much time has passed.
        lasting = functools.partial(next, itertools.count(0.0, 1e9))
        monotonic = time.monotonic if doubts or at is None else lasting
        self.daemon = Daemon(settings, offered, self._now if at is not None else None, monotonic)
        self.daemon.ledger.start()

    def _now(self) -> datetime:
        assert self.at is not None
        return self.at

    def scrape(self, timeout: float = 10) -> Values:
        """Every sample of ours, by name and sorted labels. Asserts that no series comes twice."""
        values: Values = {}
        families = self.daemon.runner.scrape(time.monotonic() + timeout).families
        for family in (family for family in families if family.name.startswith("librechat_")):
            for sample in family.samples:
                series = (sample.name, tuple(sorted(sample.labels.items())))
                assert series not in values, f"{series} comes twice"
                values[series] = sample.value
        return values

    def folded(self) -> "Exporter":
        """Waits until all history is folded, also that of what is counted anew."""
        self.scrape()
        end = time.monotonic() + 20
        while any(ratio < 1 for ratio in self.daemon.ledger.totals.progress().values()):
            assert time.monotonic() < end, self.daemon.ledger.totals.progress()
            time.sleep(0.01)
        return self

    def close(self) -> None:
        self.daemon.ledger.close()
        self.daemon.librechat.close()


MakeExporter = Callable[..., Exporter]


@pytest.fixture
def exporter(
    mongodb_uri: str, database: Database[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeExporter]:
    """Makes exporters of the test's database; settings by keyword, `at` stops the clock. None of them polls: the test
    says when documents are read."""
    monkeypatch.setattr("librechat_exporter.ledger.ledger.POLL_SECONDS", threading.TIMEOUT_MAX)
    running: list[Exporter] = []

    def make(
        at: datetime | None = None,
        *,
        doubts: bool = False,
        offered: Sequence[Collector] | None = None,
        **settings: Any,
    ) -> Exporter:
        given: dict[str, Any] = {
            "mongodb_uri": SecretStr(mongodb_uri),
            "mongodb_database": database.name,
            "state_path": str(tmp_path / "ledger.sqlite"),
            "listen_address": "127.0.0.1:0",
        } | settings
        one = Exporter(Settings(**given), at, doubts=doubts, offered=offered)
        running.append(one)
        return one

    yield make
    for one in running:
        one.close()


class Process:
    """The exporter as a process of its own, as `uv run metrics.py` starts it."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "LISTEN_ADDRESS": f"127.0.0.1:{self.port}",
            "STATE_PATH": str(folder / "ledger.sqlite"),
        } | environment
        self.folder = folder
        self.command = [sys.executable, str(METRICS_PY)]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self.folder / "exporter.log").read_text()

    def start(self) -> "Process":
        """Starts it and waits until it serves."""
        with (self.folder / "exporter.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, self.log
                time.sleep(0.02)
            else:
                return self
        raise AssertionError(f"the exporter does not serve:\n{self.log}")

    def get(
        self, path: str, headers: Mapping[str, str] | None = None, timeout: float = 30
    ) -> tuple[int, Message, bytes]:
        """Status, headers and body."""
        request = urllib.request.Request(self.url + path, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def scrape(self, timeout: float | None = None) -> Values:
        """Every sample, by name and sorted labels."""
        headers = {} if timeout is None else {"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)}
        status, _, body = self.get("/metrics", headers, timeout=30 + (timeout or 0))
        assert status == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }

    def run(self, code: int, *arguments: str) -> str:
        """Runs the command with arguments until it ends with this exit code; what it says."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def stop(self, number: int = signal.SIGTERM) -> float:
        """Ends it; the seconds that took."""
        if self.process is None:
            return 0
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        self.process = None
        return time.monotonic() - started


MakeProcess = Callable[..., Process]


def with_read_only(folder: Path, command: list[str]) -> list[str]:
    """The command, for which the folder is on a read-only filesystem, also if it is root's."""
    mount = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-ec", mount, str(folder), *command]


@pytest.fixture
def process(mongodb_uri: str, database: Database[Document], tmp_path: Path) -> Iterator[MakeProcess]:
    """Makes exporter processes of the test's database, not started yet; environment by keyword."""
    made: list[Process] = []

    def make(**environment: str) -> Process:
        given = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name} | environment
        made.append(Process(tmp_path, **given))
        return made[-1]

    yield make
    for one in made:
        one.stop(signal.SIGKILL)


MakeLibreChat = Callable[[int, float], str]


@pytest.fixture
def librechat() -> Iterator[MakeLibreChat]:
    """Starts a server that answers with this status after so many seconds; its address."""
    servers = []

    def start(status: int, seconds: float) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                time.sleep(seconds)
                self.send_response(status if self.path == "/health" else 404)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()

"""Servers, started once for the session and ended whatever happens, and the exporter in this process."""

import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pydantic import SecretStr
from pymongo.database import Database

from librechat_exporter.daemon import Daemon
from librechat_exporter.settings import Settings
from tests.oracle import Values
from tools import mongod
from tools.mongod import Mongod

Document = dict[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the golden exposition anew")


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """A MongoDB shared by the session's tests, each with a database of its own."""
    named = os.environ.get("MONGODB_TEST_URI")
    if named:
        yield named
    else:
        with mongod.running() as server:
            yield server.uri


@pytest.fixture(scope="session")
def client(mongodb_uri: str) -> Iterator[pymongo.MongoClient[Document]]:
    with pymongo.MongoClient[Document](mongodb_uri, tz_aware=True) as client:
        yield client


@pytest.fixture
def database(client: pymongo.MongoClient[Document], request: pytest.FixtureRequest) -> Iterator[Database[Document]]:
    name = f"test_{request.node.name[:30]}_{time.monotonic_ns()}".replace("[", "_").replace("]", "_")
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def private_mongod() -> Iterator[Mongod]:
    """A server of the test's own, to be killed, paused and broken."""
    if os.environ.get("MONGODB_TEST_URI"):
        pytest.skip("MONGODB_TEST_URI names a server that may not be broken")
    with mongod.running() as server:
        yield server


class Exporter:
    """The exporter without HTTP, in this process. `at` stops its clock."""

    def __init__(self, settings: Settings, at: datetime | None = None) -> None:
        self.daemon = Daemon(settings)
        if at is not None:
            self.daemon.librechat.now = lambda: at  # type: ignore[method-assign]
        self.daemon.ledger.start()

    def scrape(self, timeout: float = 10) -> Values:
        """Every sample, by name and sorted labels. Asserts that no series comes twice."""
        values: Values = {}
        for family in self.daemon.runner.scrape(time.monotonic() + timeout):
            for sample in family.samples:
                series = (sample.name, tuple(sorted(sample.labels.items())))
                assert series not in values, f"{series} comes twice"
                values[series] = sample.value
        return values

    def close(self) -> None:
        self.daemon.ledger.close()
        self.daemon.librechat.close()


MakeExporter = Callable[..., Exporter]


@pytest.fixture
def exporter(mongodb_uri: str, database: Database[Document], tmp_path: Path) -> Iterator[MakeExporter]:
    """Makes exporters of the test's database; settings by keyword, `at` stops the clock."""
    running: list[Exporter] = []

    def make(at: datetime | None = None, **settings: Any) -> Exporter:
        given: dict[str, Any] = {
            "mongodb_uri": SecretStr(mongodb_uri),
            "mongodb_database": database.name,
            "state_path": str(tmp_path / "ledger.sqlite"),
            "listen_address": "127.0.0.1:0",
        } | settings
        one = Exporter(Settings(_env_file=None, **given), at)  # type: ignore[call-arg]
        running.append(one)
        return one

    yield make
    for one in running:
        one.close()

"""The pipelines that are really sent: their operators, and that each begins with an indexed match."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from librechat_exporter.simulator import Simulator
from tests.conftest import Document, MakeExporter

# What MongoDB 4.4 and Amazon DocumentDB 5 both have, of what is used here.
STAGES = {"$match", "$group", "$project", "$count", "$limit", "$sort"}
OPERATORS = {
    *("$and", "$or", "$not", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"),
    *("$cond", "$ifNull", "$type", "$isArray", "$toLong", "$strLenBytes"),
    *("$sum", "$push"),
}


class Sent(CommandListener):
    def __init__(self) -> None:
        self.commands: list[Document] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.commands.append(dict(event.command))

    def succeeded(self, event: Any) -> None:
        """Nothing to keep."""

    def failed(self, event: Any) -> None:
        """Nothing to keep."""


def operators(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.startswith("$"):
                yield key
            yield from operators(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from operators(inner)


@pytest.fixture
def sent(database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """All commands of a first scrape, a second one, and a tick."""
    listener = Sent()
    make = pymongo.MongoClient
    monkeypatch.setattr(
        pymongo, "MongoClient", lambda *args, **kwargs: make(*args, event_listeners=[listener], **kwargs)
    )
    simulator = Simulator(database, users=5)
    simulator.fill(300, days=2, end=datetime.now(UTC))
    one = exporter()
    one.scrape()
    simulator.regenerate()
    one.scrape()
    one.daemon.ledger.tick()
    return listener.commands


def test_operators_are_known_to_every_server(sent: list[Document]) -> None:
    aggregations = [command["pipeline"] for command in sent if "aggregate" in command]
    assert len(aggregations) > 10
    for pipeline in aggregations:
        assert {stage for step in pipeline for stage in step} <= STAGES
        assert set(operators(pipeline)) <= STAGES | OPERATORS


def test_nothing_is_written(sent: list[Document]) -> None:
    assert {next(iter(command)) for command in sent} <= {
        *("aggregate", "find", "hello", "listCollections", "listIndexes", "listDatabases", "getMore", "endSessions"),
    }


def test_every_query_but_the_ratings_uses_an_index(sent: list[Document], database: Database[Document]) -> None:
    for command in sent:
        if "aggregate" not in command or "feedback.rating" in command["pipeline"][0]["$match"]:
            continue
        query = {key: value for key, value in command.items() if key in ("aggregate", "pipeline", "cursor")}
        plan = str(database.command("explain", query, verbosity="queryPlanner"))
        assert "COLLSCAN" not in plan, command

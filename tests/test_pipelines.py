"""The pipelines that are really sent: their operators, and that each begins with an indexed match."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from librechat_exporter.historic import command
from tests.conftest import Document, MakeExporter, Metrics
from tests.offered import ON
from tests.people import fill
from tests.test_privileges import documented_collections
from tools.simulator import Simulator

# What MongoDB 4.4 and Amazon DocumentDB 5 both have, of what is used here.
STAGES = {"$match", "$group", "$project", "$count", "$limit", "$sort"}
OPERATORS = {
    *("$and", "$or", "$nor", "$not", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"),
    *(
        "$cond",
        "$ifNull",
        "$type",
        "$isArray",
        "$toLong",
        "$strLenBytes",
        "$abs",
        "$add",
        "$subtract",
        "$multiply",
        "$toDate",
        "$map",
        "$filter",
        "$ltrim",
        "$rtrim",
        "$trim",
        "$regex",
        "$mod",
        "$divide",
        "$size",
    ),
    *("$sum", "$push", "$first", "$addToSet"),
    *("$slice", "$indexOfArray"),
    *("$$part", "$$status"),  # variables of $map and $filter
    *("$toLower", "$indexOfBytes", "$arrayElemAt", "$split"),
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
def listener(monkeypatch: pytest.MonkeyPatch) -> Sent:
    one = Sent()
    make = pymongo.MongoClient
    monkeypatch.setattr(pymongo, "MongoClient", lambda *args, **kwargs: make(*args, event_listeners=[one], **kwargs))
    return one


@pytest.fixture
def sent(database: Database[Document], exporter: MakeExporter, listener: Sent) -> list[Document]:
    """All commands of a first scrape, a second one, and a tick."""
    simulator = Simulator(database, users=5)
    simulator.fill(300, days=2, end=datetime.now(UTC))
    fill(database, datetime.now(UTC))
    one = exporter(**ON)
    one.scrape()
    simulator.regenerate()
    one.scrape()
    one.daemon.ledger.tick()
    return listener.commands


@pytest.fixture
def sent_by_export(
    database: Database[Document],
    metrics: Metrics,
    mongodb_uri: str,
    listener: Sent,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Document]:
    """All commands of an export."""
    Simulator(database, users=5).fill(300, days=20, end=datetime.now(UTC))
    for name, value in {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name, **metrics.environment}.items():
        monkeypatch.setenv(name, value)
    assert command.main([]) == 0
    return listener.commands


def check_operators(commands: list[Document]) -> None:
    aggregations = [one["pipeline"] for one in commands if "aggregate" in one]
    assert len(aggregations) > 10
    for pipeline in aggregations:
        stages = {stage for step in pipeline for stage in step}
        if "$unionWith" in stages:  # where a server has none, each of these is sent by itself
            check_operators_of(step.get("$unionWith", {"pipeline": [step]})["pipeline"] for step in pipeline)
            continue
        check_operators_of([pipeline])


def check_operators_of(pipelines: Iterable[list[Document]]) -> None:
    for pipeline in pipelines:
        assert {stage for step in pipeline for stage in step} <= STAGES
        assert set(operators(pipeline)) <= STAGES | OPERATORS


def check_bounded(commands: list[Document]) -> None:
    """An answer has so many rows at most: else MongoDB sends, and the exporter holds, up to 16 MB of them."""
    asked = [
        one["cursor"]["batchSize"] if "aggregate" in one else one["batchSize"]
        for one in commands
        if "getMore" in one or "aggregate" in one
    ]
    assert asked
    assert max(asked) <= 1000


def check_read_only(commands: list[Document]) -> None:
    assert {next(iter(one)) for one in commands} <= {
        *(
            "aggregate",
            "find",
            "hello",
            "listCollections",
            "listIndexes",
            "listDatabases",
            "getMore",
            "endSessions",
            "count",
        ),
    }


# What is read as a whole: in the background, as rarely as it is slow.
IN_THE_BACKGROUND = {
    *("agenttriggerdeliveries", "agentqueuedturns", "skillsyncstatuses"),
    *("balances", "files", "users", "groups", "sessions", "memoryentries", "sharedlinks", "agents"),
    *("agentapikeys", "scheduleruns", "bans", "logs", "skills", "chatprojects", "mcpservers"),
}


def reads_all(query: Document, database: Database[Document]) -> bool:
    """True if the server reads the whole collection for this aggregation."""
    explained = {key: value for key, value in query.items() if key in ("aggregate", "pipeline", "cursor")}
    return "COLLSCAN" in str(database.command("explain", explained, verbosity="queryPlanner"))


def test_a_scrape_asks_once_for_all_that_is_new(
    database: Database[Document], exporter: MakeExporter, listener: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.background.Background._repeat", lambda *_arguments: None)
    Simulator(database, users=5).fill(300, days=2, end=datetime.now(UTC))
    one = exporter(enable_rating_metrics=False)  # so few are read on every scrape
    one.folded()
    one.scrape()
    listener.commands.clear()
    one.scrape()
    assert [next(iter(command)) for command in listener.commands] == ["aggregate"]


def test_the_daemons_queries(sent: list[Document], database: Database[Document]) -> None:
    check_operators(sent)
    check_bounded(sent)
    check_read_only(sent)
    whole = [one for one in sent if "aggregate" in one and reads_all(one, database)]
    for one in whole:
        match = one["pipeline"][0]["$match"]
        assert one["aggregate"] in IN_THE_BACKGROUND or {"feedback.rating", "isTemporary"} & match.keys(), one
    assert len(whole) < len(sent) / 2


def test_the_exports_queries(sent_by_export: list[Document], database: Database[Document]) -> None:
    """The users alone are read as a whole, and once; the first query of each collection only tries whether it may."""
    check_operators(sent_by_export)
    check_bounded(sent_by_export)
    check_read_only(sent_by_export)
    aggregations = [one for one in sent_by_export if "aggregate" in one]
    found = [one["aggregate"] for one in aggregations if one["pipeline"][0]["$match"] and reads_all(one, database)]
    assert found == ["users"]


def test_the_documented_role_names_what_is_read(sent: list[Document], sent_by_export: list[Document]) -> None:
    """Other collections are only counted, with `count`, and are left out where that is refused."""
    commands = sent + sent_by_export
    read = {one[name] for one in commands for name in ("aggregate", "find", "distinct") if name in one}
    assert read == set(documented_collections())

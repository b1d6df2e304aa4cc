"""Every table of the historic export, on documents of any shape, against the oracle."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from librechat_exporter.historic import command
from librechat_exporter.historic.tables import ALL
from tests import weird
from tests.conftest import Document, Metrics
from tests.export_oracle import ExportOracle, Tables
from tests.test_oracle import PRICES, price
from tools.simulator import Simulator

# In these days clocks change in Berlin and, at midnight, in Beirut; weeks and a month begin before and end after them.
FIRST, LAST, TODAY = date(2026, 3, 24), date(2026, 4, 4), date(2026, 4, 6)
ZONES = ("UTC", "Europe/Berlin", "Asia/Beirut", "America/St_Johns", "Pacific/Apia")
COLLECTIONS = ("messages", "conversations", "users", "agents", "transactions", "groups")

_edges = st.builds(
    lambda day, zone, milliseconds: (
        (datetime(2026, 2, 27, tzinfo=ZoneInfo(zone)) + timedelta(days=day)).astimezone(UTC)
        + timedelta(milliseconds=milliseconds)
    ),
    st.integers(0, 40),
    st.sampled_from(ZONES),
    st.sampled_from([-3_600_000, -1, 0, 1, 3_600_000]),
)
_inside = st.integers(0, 24 * 11).map(lambda hours: datetime(2026, 3, 24, 12, tzinfo=UTC) + timedelta(hours=hours))
CREATED = st.one_of(_edges, _inside, _inside, _inside, weird.moments(), st.lists(_inside, max_size=2))

Run = Callable[..., int]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch,
    mongodb_uri: str,
    database: Database[Document],
    metrics: Metrics,
    tmp_path: Path,
) -> Run:
    """Runs the command in this process, on the morning of `today`, settings by keyword."""
    (tmp_path / "prices.yml").write_text(PRICES)

    def run(*arguments: str, today: date = TODAY, **environment: str) -> int:
        given = {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name, **metrics.environment, **environment}
        given |= {"GROUP_METRICS": "true", "MODEL_PRICES": str(tmp_path / "prices.yml")}
        with monkeypatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            patch.setattr(command, "today", lambda _: today)
            return command.main(list(arguments))

    return run


def found(metrics: Metrics) -> Tables:
    keys = {table.name: len(table.key) for table in ALL}
    return {
        name: {row[: keys[name]]: [-1.0 if one is None else float(one) for one in row[keys[name] :]] for row in rows}
        for name, rows in metrics.tables().items()
    }


def expected(documents: Mapping[str, Any], timezone: str) -> Tables:
    tables = ExportOracle(documents, FIRST, LAST, TODAY, timezone, price).tables
    return {table.name: tables.get(table.name, {}) for table in ALL if table.name != "export_runs"}


def same(one: Tables, other: Tables) -> None:
    for name in one:
        assert one[name] == {key: pytest.approx(values, abs=5e-9) for key, values in other[name].items()}, name


@pytest.mark.no_cover
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    weird.message_lists(CREATED, min_size=8),
    st.lists(weird.transactions(CREATED), min_size=2, max_size=6, unique_by=lambda one: one["_id"]),
    st.lists(weird.users(CREATED), max_size=3, unique_by=lambda one: one["_id"]),
    st.sampled_from(ZONES),
)
def test_all_tables_of_documents_of_any_shape(
    database: Database[Document],
    metrics: Metrics,
    run: Run,
    messages: list[Document],
    transactions: list[Document],
    users: list[Document],
    timezone: str,
) -> None:
    documents = {
        "messages": messages,
        "conversations": users,
        "users": users,
        "agents": weird.AGENTS,
        "transactions": transactions,
        "groups": weird.GROUPS,
    }
    for name, collection in documents.items():
        database[name].delete_many({})
        if collection:
            database[name].insert_many(collection)
    for field in ("createdAt", "messageId"):
        database["messages"].create_index(field)
    for table in metrics.rows("SHOW TABLES"):
        metrics.rows(f"TRUNCATE `{table[0]}`")
    assert run(str(FIRST), str(LAST), METRICS_TIMEZONE=timezone) == 0
    same(found(metrics), expected({name: list(database[name].find()) for name in documents}, timezone))


@pytest.mark.parametrize("timezone", ZONES)
def test_all_tables_of_simulated_history(
    database: Database[Document], metrics: Metrics, run: Run, monkeypatch: pytest.MonkeyPatch, timezone: str
) -> None:
    """In slices so small that questions and answers are often apart."""
    monkeypatch.setattr("librechat_exporter.historic.day.SLICE_DOCUMENTS", 7)
    simulator = Simulator(database, users=30)
    simulator.fill(2500, days=45, end=datetime(2026, 4, 8, tzinfo=UTC))
    for hours in (0, 22, 23, 40):
        simulator.register(datetime(2026, 3, 28, tzinfo=UTC) + timedelta(hours=hours))
    assert run("--start-date", str(FIRST), "--end-date", str(LAST), METRICS_TIMEZONE=timezone) == 0
    tables = found(metrics)
    assert [name for name, rows in tables.items() if not rows] == []
    same(tables, expected({name: list(database[name].find()) for name in COLLECTIONS}, timezone))

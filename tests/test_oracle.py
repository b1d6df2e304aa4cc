"""Every metric of the core set, on documents of any shape, against the oracle."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from tests import weird
from tests.conftest import Document, MakeExporter
from tests.hours_oracle import counted_by_hour, hours_and_days
from tests.meanings import Values
from tests.payers_oracle import PayersOracle
from tests.test_privileges import documented_collections

COLLECTIONS = (
    *("messages", "conversations", "files", "users", "agents", "transactions"),
    *(
        "balances",
        "sessions",
        "memoryentries",
        "skills",
        "chatprojects",
        "mcpservers",
        "agenttriggerdeliveries",
        "agentqueuedturns",
        "skillsyncstatuses",
        "sharedlinks",
        "groups",
        "agentapikeys",
        "scheduleruns",
        "auditlogs",
        "bans",
        "logs",
    ),
)
OTHERS = COLLECTIONS[6:]
PRICES = """
GPT-4o:
  - {input: 2.5, output: 10, cache_read: 1.25}
  - {from: 2026-03-02, input: 2, output: 8}
c?aude: {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}
"""
WINDOWS = {"3h": timedelta(hours=3), "2d": timedelta(days=2), "40d": timedelta(days=40)}


def of_documents(values: Values) -> Values:
    """Without what the exporter says of itself."""
    return {
        series: value
        for series, value in values.items()
        if not series[0].startswith("librechat_exporter_") or "skipped" in series[0] or "unpriced" in series[0]
    }


def differences(values: Values, wanted: Values, tolerance: float = 0.0) -> dict[Any, tuple[float | None, float | None]]:
    """Finds what is not as it should be: by series, the value that it has and the one that it should have."""
    return {
        series: (values.get(series), wanted.get(series))
        for series in values.keys() | wanted.keys()
        if series not in values
        or series not in wanted
        or values[series] != pytest.approx(wanted[series], rel=1e-6, abs=tolerance)
    }


def stored(database: Database[Document]) -> dict[str, list[Document]]:
    return {name: list(database[name].find()) for name in COLLECTIONS}


def expected(documents: Mapping[str, Any], timezone: str, external: str) -> Values:
    oracle = PayersOracle(documents, weird.NOW, timezone, WINDOWS, external, price=price)
    return {("librechat_up", ()): 1.0, **oracle.values}


def price(model: str, created: datetime | None) -> tuple[int, int, int, int] | None:
    """As PRICES has it."""
    if model.lower() == "gpt-4o":
        is_new = created is None or created >= datetime(2026, 3, 2, tzinfo=UTC)
        return (2_000_000, 8_000_000, 2_000_000, 2_000_000) if is_new else (2_500_000, 10_000_000, 1_250_000, 2_500_000)
    return (3_000_000, 15_000_000, 300_000, 3_750_000) if re.fullmatch("c.aude", model.lower(), re.DOTALL) else None


def test_all_collections_that_are_read_are_compared() -> None:
    assert set(COLLECTIONS) == set(documented_collections())


@pytest.mark.no_cover
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    weird.message_lists(),
    st.lists(weird.others(), max_size=5, unique_by=lambda one: one["_id"]),
    st.lists(weird.transactions(weird.moments(), weird.object_ids()), max_size=6, unique_by=lambda one: one["_id"]),
    st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Auckland", "America/St_Johns"]),
    st.booleans(),
)
def test_all_metrics_of_documents_of_any_shape(
    database: Database[Document],
    exporter: MakeExporter,
    tmp_path: Path,
    messages: list[Document],
    others: list[Document],
    transactions: list[Document],
    timezone: str,
    external: bool,
) -> None:
    documents = {
        "messages": messages,
        "conversations": others,
        "files": others,
        "users": others,
        "agents": weird.AGENTS,
        "transactions": transactions,
    } | dict.fromkeys(OTHERS, others)
    for name, collection in documents.items():
        database[name].delete_many({})
        if name not in database.list_collection_names():
            database.create_collection(name)
        for document in collection:
            database[name].replace_one({"_id": document["_id"]}, document, upsert=True)
    prices = tmp_path / "prices.yml"
    prices.write_text(PRICES)
    one = exporter(
        weird.NOW,
        state_path=str(tmp_path / f"{time.monotonic_ns()}.sqlite"),
        metrics_timezone=timezone,
        domain_metrics=True,
        group_metrics=True,
        per_user_metrics="id",
        model_prices=str(prices),
        usage_windows=",".join(WINDOWS),
        external_model_regex="CLAUDE" if external else None,
    )
    one.scrape()
    one.daemon.ledger.membership.forget()  # who is no user is charged once users are read after that
    values = one.scrape()
    totals = one.daemon.ledger.totals
    one.close()
    there = {name: list(database[name].find()) for name in documents}
    assert differences(of_documents(values), expected(there, timezone, external * "claude")) == {}
    by_hour, active = hours_and_days(there, weird.NOW, timezone, max(WINDOWS.values()))
    assert counted_by_hour(totals, weird.NOW) == by_hour
    assert {day: totals.count_active(day) for day in active} == active

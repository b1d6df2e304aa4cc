"""The number of active users of each day: it outlives deleted chats, restarts and a change of the time zone."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from bson import ObjectId
from pymongo.database import Database

from librechat_exporter.ledger import binding
from tests.conftest import Document, Exporter, MakeExporter

NOW = datetime(2026, 3, 4, 15, 6, 7, tzinfo=UTC)
TODAY = NOW.date()


def message(moment: datetime, user: str) -> Document:
    return {
        "_id": ObjectId(int(moment.timestamp()).to_bytes(4) + bytes(4) + user.encode()[:4].ljust(4)),
        "createdAt": moment,
        "user": user,
        "isCreatedByUser": True,
    }


def days(one: Exporter, *wanted: date) -> list[int]:
    totals = one.daemon.ledger.totals
    return [totals.count_active(day) for day in wanted]


def test_a_day_keeps_its_users(database: Database[Document], exporter: MakeExporter, tmp_path: Path) -> None:
    yesterday = NOW - timedelta(days=1)
    database["messages"].insert_many(
        [message(yesterday, "ann"), message(NOW, "ann"), message(NOW - timedelta(seconds=5), "bob")]
    )
    one = exporter(NOW).folded()
    assert days(one, TODAY, TODAY - timedelta(days=1), TODAY - timedelta(days=2)) == [2, 1, 0]
    one.close()
    database["messages"].delete_many({"user": "bob"})
    one = exporter(NOW).folded()
    assert days(one, TODAY, TODAY - timedelta(days=1)) == [2, 1]
    one.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as state:
        told = state.execute("SELECT * FROM active_days").fetchall()
    assert len(told) == 2
    assert all(isinstance(value, int) for row in told for value in row)


def test_a_day_is_forgotten_before_its_place_is_used_again(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_one(message(NOW, "ann"))
    one = exporter(NOW).folded()
    one.close()
    for ago in (32, 36, 62):
        one = exporter(NOW + timedelta(days=ago)).folded()
        assert days(one, TODAY, (NOW + timedelta(days=ago)).date()) == ([1, 0] if ago == 32 else [0, 0]), ago
        one.close()


def test_in_another_time_zone_days_are_counted_anew(database: Database[Document], exporter: MakeExporter) -> None:
    late = NOW.replace(hour=23, minute=30) - timedelta(days=1)
    database["messages"].insert_one(message(late, "ann"))
    for timezone, expected in (("UTC", [0, 1]), ("Europe/Berlin", [1, 0]), ("America/New_York", [0, 1])):
        one = exporter(NOW, metrics_timezone=timezone).folded()
        assert days(one, TODAY, TODAY - timedelta(days=1)) == expected, timezone
        one.close()


def test_another_database_has_other_days(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "DOUBT_SECONDS", 0.0)
    database["messages"].insert_one(message(NOW, "ann"))
    exporter(NOW).folded().close()
    database["messages"].drop()
    database["messages"].insert_one(message(NOW - timedelta(days=1), "bob"))
    one = exporter(NOW).folded()
    assert days(one, TODAY, TODAY - timedelta(days=1)) == [0, 1]

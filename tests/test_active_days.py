"""The number of active users of each day: it outlives deleted chats, restarts and a change of the time zone."""

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from bson import ObjectId
from pydantic import SecretStr
from pymongo.database import Database

from librechat_exporter.ledger import binding, restoring
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


@pytest.mark.parametrize("stopped", [1, 27, 36, 61, 62, 95, 400])
def test_after_a_long_stop_nobody_is_active_who_was_not(
    database: Database[Document], exporter: MakeExporter, stopped: int
) -> None:
    """All was deleted meanwhile: only what the state file holds counts, and of that only days that are kept."""
    database["messages"].insert_many(message(NOW - timedelta(days=ago), f"u{ago}") for ago in range(32))
    exporter(NOW).folded().close()
    database["messages"].delete_many({})
    now = NOW + timedelta(days=stopped)
    database["messages"].insert_one(message(now, "new"))
    one = exporter(now).folded()
    shown = {
        now.date() - timedelta(days=ago): one.daemon.ledger.totals.count_active(now.date() - timedelta(days=ago))
        for ago in range(30)
    }
    expected = {day: int(NOW.date() - timedelta(days=31) <= day <= NOW.date()) for day in shown} | {now.date(): 1}
    assert shown == expected


def test_who_comes_back_after_long_has_the_new_day_alone(database: Database[Document], exporter: MakeExporter) -> None:
    for ago in (100, 62, 61, 1, 0):
        now = NOW - timedelta(days=ago)
        database["messages"].insert_one(message(now, "ann"))
        one = exporter(now).folded()
        assert days(one, now.date()) == [1]
        if ago:
            one.close()
    assert days(one, TODAY - timedelta(days=1), TODAY - timedelta(days=2)) == [1, 0]


def test_a_clock_that_is_doubted_forgets_no_day_that_is_later(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    """After a stop of days the clock is believed slowly: what comes meanwhile is of a day that is later."""
    database["messages"].insert_one(message(NOW - timedelta(days=3), "ann"))
    exporter(NOW - timedelta(days=3)).folded().close()
    database["messages"].insert_one(message(NOW, "bob"))
    one = exporter(NOW, doubts=True).folded()
    one.daemon.ledger.tick()
    assert days(one, TODAY, TODAY - timedelta(days=3)) == [1, 1]


def test_users_are_held_by_the_salt(database: Database[Document], exporter: MakeExporter, tmp_path: Path) -> None:
    """Who has the state file and knows a user's id cannot tell that user's days; another salt counts them anew."""
    database["messages"].insert_one(message(NOW, "ann"))
    held = set()
    for salt in ("a" * 32, "b" * 32):
        one = exporter(NOW, state_user_ids="hash", user_id_salt=SecretStr(salt)).folded()
        assert days(one, TODAY) == [1]
        one.close()
        with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as state:
            [(user, *_)] = state.execute("SELECT * FROM active_days").fetchall()
        held.add(user)
    assert len(held) == 2


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
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0.0)
    database["messages"].insert_one(message(NOW, "ann"))
    exporter(NOW).folded().close()
    database["messages"].drop()
    database["messages"].insert_one(message(NOW - timedelta(days=1), "bob"))
    one = exporter(NOW).folded()
    assert days(one, TODAY, TODAY - timedelta(days=1)) == [0, 1]

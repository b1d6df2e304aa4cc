"""Days that are too large, too slow or cannot be told: they fail alone, or not at all."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter.historic import command
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.transactions import Billed, read_charged
from tests.conftest import Document, Metrics
from tools.mongod import Mongod

FIRST, LAST = "2026-03-02", "2026-03-05"
BROKEN = datetime(2026, 3, 3, tzinfo=UTC)


def chats(database: Database[Document]) -> None:
    """A question on each of the days."""
    database["messages"].create_index("createdAt")
    database["messages"].create_index("messageId")
    database["messages"].insert_many(
        {
            "messageId": f"m{day}",
            "user": "u",
            "isCreatedByUser": True,
            "createdAt": datetime(2026, 3, day, 9, tzinfo=UTC),
        }
        for day in range(2, 6)
    )


@pytest.fixture
def own(private_mongod: Mongod, metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database[Document]]:
    """A database of a server that can be hurt, and the settings that name it."""
    given = {"MONGODB_URI": private_mongod.uri, "MONGODB_DATABASE": "own", **metrics.environment}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pymongo.MongoClient[Document](private_mongod.uri) as client:
        chats(client["own"])
        yield client["own"]


@pytest.fixture
def filled(
    database: Database[Document], mongodb_uri: str, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> Database[Document]:
    for name, value in {"MONGODB_URI": mongodb_uri, "MONGODB_DATABASE": database.name, **metrics.environment}.items():
        monkeypatch.setenv(name, value)
    chats(database)
    return database


def days_of(metrics: Metrics) -> list[date]:
    return [day for (day,) in metrics.rows("SELECT date FROM daily_messages ORDER BY date")]


def test_tool_calls_of_a_day_that_fit_into_no_answer(filled: Database[Document], metrics: Metrics) -> None:
    """An imported chat can hold them, all of one moment."""
    call = {"type": "tool_call", "tool_call": {"name": "n" * 790, "output": "ok"}}
    answer = {"user": "u", "isCreatedByUser": False, "createdAt": BROKEN, "content": [call] * 1000, "tokenCount": 5}
    filled["messages"].insert_many(
        answer | {"messageId": f"a{number}", "parentMessageId": "m2"} for number in range(30)
    )
    assert command.main([FIRST, LAST]) == 0
    assert metrics.rows("SELECT SUM(calls), SUM(errors) FROM daily_tool_calls") == [(30_000, 0)]
    assert metrics.rows("SELECT total_messages FROM daily_messages WHERE date = '2026-03-03'") == [(31,)]
    assert metrics.rows("SELECT output_tokens FROM daily_tokens_by_model") == [(150,)]


def test_a_day_that_takes_too_long_fails_alone(
    own: Database[Document], metrics: Metrics, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("librechat_exporter.historic.export._DAY_SECONDS", 2)
    monkeypatch.setattr("librechat_exporter.historic.export._READERS", 1)

    def slow(librechat: LibreChat, match: Document, *rest: Any) -> tuple[list[Billed], list[Billed]]:
        if match["createdAt"]["$gte"] == BROKEN:
            blocked = {"failCommands": ["aggregate"], "blockConnection": True, "blockTimeMS": 4000}
            own.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=blocked)
        return read_charged(librechat, match, *rest)

    monkeypatch.setattr("librechat_exporter.historic.day.read_charged", slow)
    assert command.main([FIRST, LAST]) == 1
    said = capsys.readouterr().err
    assert re.search(r"^2026-03-03: .*timed out", said, re.MULTILINE)
    assert "1 day failed: 2026-03-03" in said
    assert days_of(metrics) == [date(2026, 3, day) for day in (2, 4, 5)]


@pytest.mark.usefixtures("filled")
def test_a_defect_costs_one_day_and_tells_its_place(
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(librechat: LibreChat, match: Document, *rest: Any) -> tuple[list[Billed], list[Billed]]:
        if match["createdAt"]["$gte"] == BROKEN:
            raise KeyError("what a message says")
        return read_charged(librechat, match, *rest)

    monkeypatch.setattr("librechat_exporter.historic.day.read_charged", broken)
    assert command.main([FIRST, LAST]) == 1
    said = capsys.readouterr().err
    assert "2026-03-03: KeyError\n1 day failed: 2026-03-03" in said
    assert re.search(r"Reading 2026-03-03 failed: KeyError\n.*test_export_days.py:\d+ broken", caplog.text, re.DOTALL)
    assert "says" not in said + caplog.text
    assert days_of(metrics) == [date(2026, 3, day) for day in (2, 4, 5)]


@pytest.mark.usefixtures("filled")
def test_what_failed_in_a_first_run_is_written_by_the_next(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "today", lambda _: date(2026, 3, 6))

    def broken(librechat: LibreChat, match: Document, *rest: Any) -> tuple[list[Billed], list[Billed]]:
        if match["createdAt"]["$gte"] < BROKEN:
            raise KeyError
        return read_charged(librechat, match, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("librechat_exporter.historic.day.read_charged", broken)
        assert command.main([]) == 1
    assert days_of(metrics)[0] == BROKEN.date()
    assert command.main([]) == 0
    assert days_of(metrics) == [date(2026, 3, 5) - timedelta(days=number) for number in reversed(range(30))]


@pytest.mark.usefixtures("filled")
def test_groups_that_are_not_asked_for_stay_as_they_were(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by hand, without cron's settings."""
    monkeypatch.setenv("GROUP_METRICS", "true")
    assert command.main([FIRST, LAST]) == 0
    before = metrics.rows("SELECT * FROM daily_usage_by_group")
    assert len(before) == 4
    monkeypatch.delenv("GROUP_METRICS")
    assert command.main([FIRST, LAST, "--force"]) == 0
    assert metrics.rows("SELECT * FROM daily_usage_by_group") == before


@pytest.mark.usefixtures("filled")
def test_a_row_that_mariadb_refuses_names_its_table(metrics: Metrics, capsys: pytest.CaptureFixture[str]) -> None:
    metrics.rows("CREATE TABLE daily_users (date DATE PRIMARY KEY, unique_users INT NOT NULL, more INT NOT NULL)")
    assert command.main([FIRST, LAST]) == 1
    assert "MariaDB error 1364 (ER_NO_DEFAULT_FOR_FIELD, table daily_users)" in capsys.readouterr().err


@pytest.mark.usefixtures("filled")
def test_all_days_that_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """The week of the first of them begins in another millennium."""
    assert command.main(["2000-01-01", LAST, "--dry-run"]) == 0
    assert "Would be written: 2000-01-01 to 2026-03-05" in capsys.readouterr().out

"""Usage in windows: it does not shrink, follows an answer until it is finished, and ends to the hour."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from tests.conftest import Document, Exporter, MakeExporter
from tests.meanings import Values

NOW = datetime(2026, 3, 4, 15, 6, 7, tzinfo=UTC)
ANN, BOB, CAT = (ObjectId(bytes([0x69] * 11 + [number])) for number in range(3))


def document(moment: datetime, number: int, **fields: Any) -> Document:
    identifier = int(moment.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big")
    return {"_id": ObjectId(identifier), "createdAt": moment, "updatedAt": moment} | fields


def answer(moment: datetime, number: int, **fields: Any) -> Document:
    told = {"messageId": f"m{number}", "user": str(ANN), "isCreatedByUser": False, "model": "gpt-4o"}
    return document(moment, number, **told | fields)


def charge(moment: datetime, number: int, user: ObjectId, model: str, **fields: Any) -> Document:
    told = {"tokenType": "prompt", "rawAmount": -10, "tokenValue": -25.0, "context": "message"}
    return document(moment, number, user=user, model=model, **told | fields)


def usage(values: Values) -> Values:
    return {series: value for series, value in values.items() if "_window_" in series[0]}


def of(values: Values, name: str, **labels: str) -> float | None:
    name = f"librechat_window_{name}"
    wanted = {"window": "1d", **labels}
    found = [
        value for series, value in values.items() if series[0] == name and wanted.items() <= dict(series[1]).items()
    ]
    return sum(found) if found else None


def set_clock(one: Exporter, now: datetime) -> None:
    one.at = now


def test_what_comes_while_a_scrape_reads_is_in_its_windows_with_the_next(
    database: Database[Document], exporter: MakeExporter
) -> None:
    """The clock is read before the documents; nobody waits for the ticker, as a chat may be deleted until then."""
    coming = NOW + timedelta(milliseconds=500)
    database["messages"].insert_one(answer(coming, 1))
    database["transactions"].insert_one(charge(coming, 2, ANN, "gpt-4o"))
    database["users"].insert_one(document(coming, 3))
    one = exporter(NOW)
    values = one.scrape()
    assert (of(values, "answers_per_model"), of(values, "new_users")) == (None, 0)
    set_clock(one, NOW + timedelta(seconds=1))
    one.scrape()
    for collection in ("messages", "transactions", "users"):
        database[collection].delete_many({})
    values = one.scrape()
    assert (of(values, "answers_per_model"), of(values, "new_users"), of(values, "tokens_per_model")) == (1, 1, 10)


def test_nothing_shrinks_when_it_is_deleted(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many([answer(NOW, 1), answer(NOW - timedelta(days=3), 2, error=True)])
    database["transactions"].insert_many(
        [charge(NOW, 1, ANN, "gpt-4o"), charge(NOW - timedelta(days=3), 2, BOB, "gpt-4o", context="title")]
    )
    database["users"].insert_one(document(NOW, 3))
    one = exporter(NOW)
    before = usage(one.scrape())
    assert of(before, "answers_per_model") == 1
    assert of(before, "rejected_requests") is None
    assert of(before, "rejected_requests", window="7d", reason="other") == 1
    assert of(before, "tokens_per_model", type="input") == 10
    assert of(before, "background_tokens_per_model", window="7d", context="title") == 10
    assert of(before, "credits_per_model", window="30d") == 50
    assert of(before, "unique_users", window="7d") == 1, "a title is no chat"
    assert of(before, "new_users") == 1
    for name in ("messages", "transactions", "users"):
        database[name].delete_many({})
    assert usage(one.scrape()) == before
    one.daemon.ledger.tick()
    assert usage(one.scrape()) == before
    one.close()
    assert usage(exporter(NOW).scrape()) == before


def test_an_answer_counts_as_what_it_is_now(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one(answer(NOW, 1, unfinished=True))
    one = exporter(NOW)
    assert of(one.scrape(), "unfinished_answers_per_model", model="gpt-4o") == 1
    database["messages"].update_one({}, {"$set": {"unfinished": False}})
    one.daemon.ledger.tick()
    values = one.scrape()
    assert (of(values, "answers_per_model"), of(values, "unfinished_answers_per_model")) == (1, 0)
    database["messages"].update_one({}, {"$set": {"error": True, "text": '{"type":"token_balance","balance":0}'}})
    one.daemon.ledger.tick()
    values = one.scrape()
    assert (of(values, "answers_per_model"), of(values, "rejected_requests", reason="token_balance")) == (None, 1)
    one.close()
    assert usage(exporter(NOW).scrape()) == usage(values)


def test_a_window_ends_to_the_hour_and_the_longest_is_all_that_is_kept(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    database["messages"].insert_one(answer(NOW, 1))
    database["transactions"].insert_one(charge(NOW, 1, ANN, "gpt-4o"))
    one = exporter(NOW, usage_windows="1d,2d")
    one.scrape()
    next_hour = NOW.replace(minute=0, second=0) + timedelta(hours=1)
    for now, expected in ((timedelta(days=1, seconds=-1), 1), (timedelta(days=1), None)):
        set_clock(one, next_hour + now)
        values = one.scrape()
        assert of(values, "answers_per_model") == expected
        assert of(values, "unique_users") == (expected or 0)
        assert of(values, "answers_per_model", window="2d") == 1
    one.close()
    later = next_hour + timedelta(days=36)
    one = exporter(later, usage_windows="1d,2d")
    database["messages"].insert_one(answer(later, 2))  # a clock is believed as far as documents tell
    one.daemon.ledger.tick()
    one.daemon.ledger.tick()
    values = one.scrape()
    assert of(values, "answers_per_model", window="2d") == 1
    assert of(values, "unique_users", window="2d") == 0
    one.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        kept = connection.execute(
            "SELECT metric FROM total WHERE metric LIKE 'librechat_window_%_per_model'"
        ).fetchall()
        assert kept == [("librechat_window_answers_per_model",)]
    assert values["librechat_messages_total", ()] == 2


def test_the_clock_may_go_back(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one(answer(NOW, 1))
    one = exporter(NOW)
    one.scrape()
    for hours in (30, 0, 23, -2):
        set_clock(one, NOW + timedelta(hours=hours))
        assert of(one.scrape(), "answers_per_model") == (1 if hours < 24 else None)


def test_who_used_which_class_of_models(database: Database[Document], exporter: MakeExporter) -> None:
    moments = (NOW, NOW, NOW, NOW - timedelta(days=2))
    used = ((ANN, "llama"), (BOB, "GPT-4o"), (CAT, "llama"), (CAT, "gpt-4o"))
    database["messages"].insert_one(answer(NOW, 1, model="llama"))
    database["transactions"].insert_many(
        charge(moment, number, user, model)
        for number, (moment, (user, model)) in enumerate(zip(moments, used, strict=True))
    )
    values = exporter(NOW, external_model_regex="gpt|claude").scrape()
    classes = ("local_only", "external_only", "both")
    assert [of(values, "users_by_model_class", usage=one) for one in classes] == [2, 1, 0]
    assert [of(values, "users_by_model_class", usage=one, window="7d") for one in classes] == [1, 1, 1]
    assert of(values, "unique_users") == 3
    assert of(values, "answers_per_model", **{"class": "local", "model": "llama"}) == 1
    assert of(values, "tokens_per_model", **{"class": "external", "model": "GPT-4o"}) == 10


def test_another_regex_or_a_longer_window_counts_anew(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    database["messages"].insert_many([answer(NOW, 1), answer(NOW - timedelta(days=3), 2)])
    database["transactions"].insert_one(charge(NOW, 1, ANN, "gpt-4o"))
    one = exporter(NOW, usage_windows="1d")
    values = one.scrape()
    assert of(values, "answers_per_model", **{"class": "unclassified"}) == 1
    assert of(values, "users_by_model_class") is None
    one.close()
    two = exporter(NOW, usage_windows="1d,7d", external_model_regex="gpt")
    values = two.folded().scrape()
    assert of(values, "answers_per_model", window="7d") == 2
    assert of(values, "answers_per_model", **{"class": "unclassified"}) is None
    assert of(values, "users_by_model_class", usage="external_only") == 1
    assert of(values, "unique_users") == 1
    assert values["librechat_messages_total", ()] == 2
    told = [record.getMessage() for record in caplog.records if "starts afresh" in record.msg]
    kinds = ("window_external", "window_local", "window_unclassified")
    assert sorted(told) == [
        f"{kind} is counted in another form: it starts afresh from what is stored" for kind in kinds
    ]


def test_a_window_longer_than_what_was_kept_is_folded(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many([answer(NOW, 1), answer(NOW - timedelta(days=40), 2)])
    database["transactions"].insert_one(charge(NOW - timedelta(days=40), 1, ANN, "gpt-4o"))
    exporter(NOW, usage_windows="1d,30d").folded().close()
    values = exporter(NOW, usage_windows="1d,60d").folded().scrape()
    assert of(values, "answers_per_model", window="60d") == 2
    assert of(values, "tokens_per_model", window="60d") == 10
    assert of(values, "answers_per_model") == 1
    assert values["librechat_messages_total", ()] == 2


def test_what_a_limit_drops_is_of_no_class(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many([answer(NOW, number, model=f"gpt-{number}") for number in range(5)])
    values = exporter(NOW, max_label_values=3, external_model_regex="gpt").scrape()
    assert of(values, "answers_per_model", **{"class": "external"}) == 3
    assert of(values, "answers_per_model", **{"class": "unclassified", "model": "other"}) == 2
    assert of(values, "answers_per_model", **{"class": "local"}) is None


def test_active_users_by_domain(database: Database[Document], exporter: MakeExporter, tmp_path: Path) -> None:
    database["users"].insert_many(
        [
            {"_id": ANN, "email": "ann@a.example"},
            {"_id": BOB, "email": "bob@A.example"},
            {"_id": CAT, "email": "c@b.example"},
        ]
    )
    users = (ANN, ANN, BOB, CAT, ObjectId())
    days = (0, 0, 0, 3, 0)
    database["messages"].insert_many(
        answer(NOW - timedelta(days=day), number, user=str(user))
        for number, (user, day) in enumerate(zip(users, days, strict=True))
    )
    name = "librechat_active_users_by_domain"
    assert not any(series[0] == name for series in exporter(NOW).scrape())
    values = exporter(NOW, domain_metrics=True, state_path=str(tmp_path / "another.sqlite")).scrape()
    found = {dict(series[1])["domain"]: value for series, value in values.items() if series[0] == name}
    assert found == {"a.example": 2, "b.example": 1, "unknown": 1}
    assert values[name, (("domain", "a.example"), ("window", "1d"))] == 2
    assert (name, (("domain", "b.example"), ("window", "1d"))) not in values


def test_a_clock_that_is_ahead_for_a_moment_forgets_nothing(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_one(answer(NOW, 1))
    one = exporter(NOW, doubts=True)
    before = usage(one.scrape())
    one.daemon.ledger.tick()
    set_clock(one, NOW + timedelta(days=40))
    one.daemon.ledger.tick()
    set_clock(one, NOW + timedelta(hours=1))
    one.daemon.ledger.tick()
    values = one.scrape()
    assert usage(values) == before
    assert values["librechat_monthly_unique_users", ()] == 1


def test_a_clock_that_is_ahead_at_one_start_forgets_nothing(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """At the next start it is right again, and all is as it was."""
    database["messages"].insert_many([answer(NOW - timedelta(days=day), day) for day in range(4)])
    database["transactions"].insert_one(charge(NOW, 1, ANN, "gpt-4o"))
    one = exporter(NOW, doubts=True)
    before = usage(one.scrape())
    one.daemon.ledger.tick()
    one.close()
    with caplog.at_level("INFO"):
        ahead = exporter(NOW + timedelta(days=40), doubts=True)
        ahead.scrape()
    ahead.daemon.ledger.tick()
    ahead.close()
    assert "MongoDB's clock is 40.0 days ahead of all that was seen" in caplog.text
    again = exporter(NOW, doubts=True)
    again.daemon.ledger.tick()
    values = again.scrape()
    assert usage(values) == before
    assert values["librechat_monthly_unique_users", ()] == 1
    database["messages"].insert_one(answer(NOW, 9))
    assert again.scrape()["librechat_messages_total", ()] == 5


def test_a_month_begins_with_the_month_where_the_operator_is(
    database: Database[Document], exporter: MakeExporter
) -> None:
    """In Berlin, March 2026 began on the last of February at 23:00 UTC."""
    moments = [datetime(2026, 2, 28, hour, 30, tzinfo=UTC) for hour in (22, 23)]
    database["messages"].insert_many([answer(moment, number) for number, moment in enumerate(moments)])
    values = exporter(NOW, usage_windows="month,7d", metrics_timezone="Europe/Berlin").scrape()
    assert of(values, "answers_per_model", window="month") == 1
    assert of(values, "answers_per_model", window="7d") == 2


def test_what_has_left_the_windows_gives_its_place_back(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one(answer(NOW, 1, model="old"))
    one = exporter(NOW, max_series=1)
    assert of(one.scrape(), "answers_per_model", model="old", window="1d") == 1
    for number, later in enumerate((NOW + timedelta(days=36), NOW + timedelta(days=36, hours=2))):
        set_clock(one, later)
        database["messages"].insert_one(answer(later, 10 + number, model="new"))
        one.daemon.ledger.tick()
        one.daemon.ledger.tick()
    assert of(one.scrape(), "answers_per_model", model="new", window="1d") == 1


@pytest.mark.parametrize(
    ("timezone", "now", "end"),
    [
        ("UTC", datetime(2026, 3, 10, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2026, 2, 28, 23, tzinfo=UTC), datetime(2026, 3, 31, 22, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2026, 1, 1, 7, tzinfo=UTC), datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_the_end_of_the_month_is_told(
    database: Database[Document], exporter: MakeExporter, timezone: str, now: datetime, end: datetime
) -> None:
    database["messages"].insert_one(answer(now, 1))
    values = exporter(now, metrics_timezone=timezone).scrape()
    assert values["librechat_month_end_timestamp_seconds", ()] == end.timestamp()

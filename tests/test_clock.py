"""MongoDB's clock is believed with care."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter.ledger.clock import Clock
from librechat_exporter.librechat.database import LibreChat
from tests.chats import MESSAGES, NOW, message, set_clock
from tests.conftest import Document, MakeExporter
from tests.life import MINUTE, ONE, SECOND, START, Counts, Life, Stored, finish_all, lived

ANSWERS = "librechat_window_answers_per_model"


def test_a_clock_that_stays_ahead_is_believed_after_an_hour() -> None:
    passed = [0.0]
    clock = Clock(None, lambda: passed[0])
    clock.begin(NOW, NOW)
    ahead = NOW + timedelta(days=40)
    assert clock.trusted(ahead) < NOW + timedelta(minutes=2)
    met = clock.steady(ahead)
    passed[0] = 3599
    assert clock.trusted(ahead) == NOW + timedelta(seconds=3599 + 60), "at the pace of time"
    passed[0] = 3601
    assert clock.trusted(ahead) == ahead
    assert clock.steady(ahead) - met == timedelta(seconds=3601), "what was met an hour ago is an hour old"
    assert clock.trusted(NOW) == NOW


def test_a_clock_that_is_ahead_at_a_start_is_believed_after_ten_minutes() -> None:
    passed = [0.0]
    clock = Clock(NOW.timestamp(), lambda: passed[0])
    ahead = NOW + timedelta(days=40)
    clock.begin(ahead, None)
    assert clock.trusted(ahead) == NOW + timedelta(minutes=6), "what is open begins before that"
    passed[0] = 601
    assert clock.trusted(ahead) == ahead
    passed[0] = 602
    assert clock.trusted(ahead + timedelta(days=1)) < ahead + timedelta(minutes=2), "later it takes an hour"
    short = Clock(NOW.timestamp(), lambda: passed[0])
    short.begin(NOW + timedelta(minutes=4), None)
    assert short.trusted(NOW + timedelta(minutes=4)) == NOW + timedelta(minutes=4)
    many = Clock(NOW.timestamp(), lambda: passed[0])
    many.begin(ahead, ahead - timedelta(minutes=30))
    assert many.trusted(ahead) == ahead, "of many documents not all are to be open"


@pytest.mark.parametrize("minutes", [5, 20, 50])
@pytest.mark.parametrize("ahead", [timedelta(hours=3), timedelta(days=400)], ids=["hours", "days"])
def test_a_clock_that_is_ahead_for_less_than_an_hour_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, ahead: timedelta
) -> None:
    """A message and a tick in each minute, also while it is wrong."""
    for life in lived(tmp_path, monkeypatch):
        for minute in range(1, 100):
            life.stored.now_is = START + minute * MINUTE
            life.stored.ahead = ahead if 10 <= minute < 10 + minutes else timedelta(0)
            life.stored.put(life.stored.now() - SECOND)
            life.ledger.poll()
            life.ledger.tick()
        assert life.counted() == len(life.stored.documents)


def test_a_machine_that_starts_with_a_clock_ahead_loses_nothing(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_one(message(NOW - timedelta(minutes=1), 1))
    one = exporter(NOW, doubts=True)
    one.daemon.ledger.tick()
    one.close()
    ahead = NOW + timedelta(hours=2)
    one = exporter(ahead, doubts=True)
    database["messages"].insert_one(message(ahead, 2))
    one.daemon.ledger.tick()
    one.daemon.ledger.tick()
    set_clock(one, NOW + timedelta(minutes=1))
    moments = [NOW + timedelta(minutes=1, seconds=number) for number in range(60)]
    database["messages"].insert_many([message(moment, 10 + n) for n, moment in enumerate(moments)])
    set_clock(one, NOW + timedelta(minutes=3))
    one.daemon.ledger.tick()
    assert one.folded().scrape()[MESSAGES] == 62


def test_an_answer_that_is_being_written_when_a_clock_is_believed_stays_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first start the newest document was three days old."""
    one = Life(Stored(), tmp_path / "ledger.sqlite")
    one.stored.put(START - timedelta(days=3))
    monkeypatch.setattr(one.stored, "newest_time", lambda _: START - timedelta(days=3))
    one.start(Counts("messages", ONE))
    for minute in range(75):
        one.stored.now_is = START + minute * MINUTE
        one.stored.put(one.stored.now_is - SECOND, unsettled=minute == 45)
        one.ledger.tick()
        if minute == 70:
            finish_all(one)
            one.messages.fold.finished = 10
    assert one.counted() == 1 + 70 + 10 + 4 * 10, "those that came before, it, and those that came after"
    one.stop()


def test_a_clock_that_is_ahead_for_a_while_loses_nothing(database: Database[Document], exporter: MakeExporter) -> None:
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1))
    assert one.scrape()[MESSAGES] == 1
    one.at = NOW + timedelta(hours=1)
    one.scrape()
    one.at = NOW + timedelta(seconds=5)
    one.scrape()
    database["messages"].insert_many([message(NOW + timedelta(seconds=n), 10 + n) for n in range(5)])
    assert one.scrape()[MESSAGES] == 6


def test_an_answer_that_is_completed_while_the_clock_is_days_behind_stays_in_its_windows(
    database: Database[Document], exporter: MakeExporter
) -> None:
    answers = {"parentMessageId": "m1", "unfinished": True}
    database["messages"].insert_one(message(NOW - timedelta(seconds=20), 1, isCreatedByUser=True))
    database["messages"].insert_one(message(NOW - timedelta(seconds=10), 2, **answers))
    one = exporter(NOW)
    one.scrape()
    one.at = NOW - timedelta(days=2)
    database["messages"].update_one({"messageId": "m2"}, {"$set": {"unfinished": False, "tokenCount": 20}})
    one.scrape()
    one.at = NOW + timedelta(seconds=30)
    one.daemon.ledger.tick()
    values = one.scrape()
    lately = {dict(labels)["window"]: value for (name, labels), value in values.items() if name == ANSWERS}
    assert lately["1d"] == 1
    assert values["librechat_messages_5m", ()] == 2


def test_while_the_clock_is_ahead_a_document_of_the_future_hides_no_other(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW, doubts=True)
    database["messages"].insert_many([message(NOW, 1), message(NOW + timedelta(seconds=400), 2)])
    assert one.scrape()[MESSAGES] == 2
    one.at = NOW + timedelta(hours=1)
    database["messages"].insert_one(message(NOW + timedelta(seconds=1), 3))
    assert one.scrape()[MESSAGES] == 3


def test_utc_now_is_the_servers(client: pymongo.MongoClient[Document], database: Database[Document]) -> None:
    assert abs(LibreChat(client, database.name, None).now() - datetime.now(UTC)) < timedelta(minutes=1)

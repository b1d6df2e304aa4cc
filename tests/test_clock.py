"""MongoDB's clock is believed with care."""

from datetime import UTC, datetime, timedelta

import pymongo
from pymongo.database import Database

from librechat_exporter.ledger.clock import Clock
from librechat_exporter.librechat.database import LibreChat
from tests.chats import MESSAGES, NOW, message
from tests.conftest import Document, MakeExporter

ANSWERS = "librechat_window_answers_per_model"


def test_a_clock_that_stays_ahead_is_believed_after_an_hour() -> None:
    passed = [0.0]
    clock = Clock(None, lambda: passed[0])
    clock.begin(NOW, NOW)
    ahead = NOW + timedelta(days=40)
    assert clock.trusted(ahead) < NOW + timedelta(minutes=2)
    passed[0] = 1800
    assert clock.trusted(ahead) < NOW + timedelta(hours=2)
    passed[0] = 3601
    assert clock.trusted(ahead) == ahead
    assert clock.trusted(NOW) == NOW
    again = Clock(NOW.timestamp(), lambda: passed[0])
    again.begin(ahead, NOW - timedelta(days=1))
    assert timedelta(hours=1) < again.trusted(ahead) - NOW < timedelta(hours=1, minutes=2)


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

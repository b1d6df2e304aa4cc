"""Open documents are read when they are new, until they are finished, and whatever is in them."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId, encode
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure

from librechat_exporter.ledger.source import Source
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.halving import halved, is_documents_fault
from librechat_exporter.librechat.messages import read_messages
from tests.chats import MESSAGES, NOW, TOKENS, message, object_id, set_clock
from tests.conftest import Document, MakeExporter, MakeProcess


def test_more_open_documents_than_one_answer_of_the_server_holds(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.open_documents.READ_AT_ONCE", 7)
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(seconds=n), n) for n in range(100)])
    assert one.scrape()[MESSAGES] == 100
    database["messages"].insert_many([message(NOW, 200 + n, parentMessageId="x" * 3_000_000) for n in range(6)])
    values = one.scrape()
    assert values[MESSAGES] == 106
    assert values["librechat_messages_5m", ()] == 106


def test_a_tool_output_that_is_not_valid_utf8_stops_nothing(
    mongodb_uri: str, database: Database[Document], exporter: MakeExporter
) -> None:
    """Only something else than LibreChat can have written it."""
    call = {"type": "tool_call", "tool_call": {"name": "search", "output": "BYTES error processing tool"}}
    document = encode(message(NOW, 1, isCreatedByUser=False) | {"_id": ObjectId(), "content": [call]})
    database["messages"].insert_one(RawBSONDocument(document.replace(b"BYTES", b"\xff\xfe\xc3\x28\xe2")))
    values = exporter(NOW).scrape()
    assert values[MESSAGES] == 1
    assert values["librechat_tool_calls_total", ()] == 1
    assert values["librechat_tool_call_errors_total", ()] == 0
    assert all(value == 1 for (name, _), value in values.items() if name == "librechat_exporter_collector_success")


def test_an_absurd_agent_and_one_without_an_id_stop_nothing(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["agents"].insert_one({"name": "without an id"})
    database["messages"].insert_one(message(NOW, 1, isCreatedByUser=False, model="agent_" + "x" * 70_000))
    values = exporter(NOW).scrape()
    assert values["librechat_messages_per_model_total", (("model", "unknown"),)] == 1
    assert all(value == 1 for (name, _), value in values.items() if name == "librechat_exporter_collector_success")


def test_one_source_that_fails_keeps_no_other_from_being_folded(
    database: Database[Document],
    exporter: MakeExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database["messages"].insert_one(message(NOW, 1))
    one = exporter(NOW)
    one.scrape()
    fold = one.daemon.ledger._sources["messages"].fold

    def broken(*_arguments: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(fold, "fold_open", broken)
    database["users"].insert_one({"_id": ObjectId.from_datetime(NOW)})
    database["messages"].insert_one(message(NOW, 2))
    one.daemon.ledger.tick()
    assert "Reading what is open of messages failed (internal): KeyError" in caplog.text
    assert one.daemon.ledger._sources["users"].totals["librechat_registered_users_total"] == {(): 1}


def test_a_collection_that_does_not_answer_takes_no_other_away(
    database: Database[Document],
    exporter: MakeExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where the exporter starts meanwhile."""
    newest_id, ids = LibreChat.newest_id, LibreChat.ids

    def newest_id_but_of_files(librechat: LibreChat, collection: str) -> ObjectId | None:
        if collection == "files":
            raise AutoReconnect("its shard is down")
        return newest_id(librechat, collection)

    def ids_but_of_files(librechat: LibreChat, collection: str, start: bytes, most: int) -> list[bytes]:
        if collection == "files":
            raise AutoReconnect("its shard is down")
        return ids(librechat, collection, start, most)

    database["messages"].insert_one(message(NOW, 1))
    one = exporter(NOW).folded()
    assert one.scrape()[MESSAGES] == 1
    monkeypatch.setattr(LibreChat, "newest_id", newest_id_but_of_files)
    monkeypatch.setattr(LibreChat, "ids", ids_but_of_files)
    with suppress(AutoReconnect):  # once an hour, what the database is known by is read of all collections
        one.daemon.ledger.tick()
    assert "Reading what is open of files failed (unavailable)" in caplog.text
    database["messages"].insert_one(message(NOW, 2))
    assert one.scrape()[MESSAGES] == 2
    one.close()
    assert exporter(NOW).scrape()[MESSAGES] == 2


def test_two_sources_are_read_at_a_time_until_all_are_read_and_one_from_then_on(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.background.Background._repeat", lambda *_arguments: None)
    database["messages"].insert_one(message(NOW, 1))
    ledger = exporter(NOW).daemon.ledger
    tick_source = ledger._tick_source
    reading: list[str] = []
    most = 0

    def slowly(source: Source, now: datetime) -> None:
        nonlocal most
        reading.append(source.fold.name)
        most = max(most, len(reading))
        time.sleep(0.05)
        tick_source(source, now)
        reading.remove(source.fold.name)

    monkeypatch.setattr(ledger, "_tick_source", slowly)
    ledger.tick()
    assert most == 2
    most = 0
    ledger.tick()
    assert most == 1


@pytest.mark.parametrize("ago", [timedelta(0), timedelta(days=1)], ids=["open", "history"])
def test_a_document_that_cannot_be_read_is_passed_over(
    database: Database[Document],
    exporter: MakeExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ago: timedelta,
) -> None:
    """As one that is too large for MongoDB to work on. The others are counted, and it is not tried for ever."""
    chats = [message(NOW - ago - timedelta(seconds=n), n) for n in range(50)]
    bad = chats[17]["_id"]
    tried: list[Document] = []

    def refuse(match: Document) -> None:
        ids = match["_id"]
        tried.append(ids)
        if bad in ids["$in"] if "$in" in ids else ids["$gte"] <= bad <= ids.get("$lte", ids.get("$lt")):
            raise OperationFailure("too large", 10334)

    one = exporter(NOW)
    one.scrape()
    one.close()
    rows = LibreChat.rows

    def refused_rows(self: LibreChat, collection: str, match: Document, *rest: Any) -> Any:
        refuse(match)
        return rows(self, collection, match, *rest)

    def refused_messages(librechat: LibreChat, match: Document, **given: Any) -> Any:
        refuse(match)
        return read_messages(librechat, match, **given)

    monkeypatch.setattr(LibreChat, "rows", refused_rows)
    monkeypatch.setattr("librechat_exporter.folds.messages.read_messages", refused_messages)
    database["messages"].insert_many(chats)
    two = exporter(NOW, state_path=str(Path(one.daemon.settings.state_path).with_name("two.sqlite"))).folded()
    assert two.scrape()[MESSAGES] == 49
    assert two.scrape()["librechat_exporter_unreadable_documents_total", (("source", "messages"),)] == 1
    for _ in range(3):
        two.daemon.ledger.tick()
    before = len(tried)
    two.daemon.ledger.tick()
    two.scrape()
    assert not any("$in" in ids and bad in ids["$in"] for ids in tried[before:])
    assert two.scrape()["librechat_exporter_unreadable_documents_total", (("source", "messages"),)] == 1
    assert sum("cannot be read and is passed over" in record.getMessage() for record in caplog.records) == 1


def test_a_fault_of_the_server_passes_no_document_over() -> None:
    refused = [OperationFailure("", code) for code in (13, 50, 91, 241, 11600)]
    assert not any(is_documents_fault(error) for error in (*refused, AutoReconnect("away"), KeyError()))
    assert is_documents_fault(OperationFailure("", 10334))


def test_what_was_polled_counts_though_no_scrape_saw_it(database: Database[Document], exporter: MakeExporter) -> None:
    one = exporter(NOW)
    one.scrape()
    database["messages"].insert_many([message(NOW, n) for n in range(20)])
    one.daemon.ledger.poll()
    database["messages"].delete_many({})
    assert one.scrape()[MESSAGES] == 20


def test_what_is_polled_is_held_no_longer_than_it_counts(database: Database[Document], exporter: MakeExporter) -> None:
    """Nobody scrapes an exporter for hours: memory does not grow."""
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 0))
    one.scrape()
    for number in range(1, 31):
        set_clock(one, NOW + timedelta(minutes=number))
        database["messages"].insert_one(message(NOW + timedelta(minutes=number), number))
        one.daemon.ledger.poll()
    recent = one.daemon.ledger._sources["messages"].recent
    held = len(recent._waiting), len(recent._within), len(recent._entering), len(recent._leaving)
    assert sum(held) <= 13
    assert one.scrape()["librechat_messages_5m", ()] == 5


def test_what_is_polled_after_a_clock_that_was_ahead_counts(
    database: Database[Document], exporter: MakeExporter
) -> None:
    """Messages that it made too old have left, and those that come then do not."""
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 0))
    one.scrape()
    for number, moment in enumerate((timedelta(hours=1), timedelta(seconds=10), timedelta(seconds=20)), 1):
        set_clock(one, NOW + moment)
        database["messages"].insert_one(message(NOW + min(moment, timedelta(seconds=5)), number))
        one.daemon.ledger.poll()
    assert one.scrape()["librechat_messages_5m", ()] == 2


def test_what_may_not_be_read_any_more_is_polled_rarely(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB logs each refusal."""
    one = exporter(NOW)
    one.scrape()
    one.scrape()
    asked: list[str] = []

    def refused(_self: LibreChat, wanted: str | Mapping[str, bytes], *_rest: Any) -> Any:
        asked.extend([wanted] if isinstance(wanted, str) else wanted)
        raise OperationFailure("not authorized", 13)

    monkeypatch.setattr(LibreChat, "ids", refused)
    monkeypatch.setattr(LibreChat, "now_and_ids", refused)
    for _ in range(3):
        one.daemon.ledger.poll()
    assert asked.count("messages") == 2  # with all others, and alone
    assert one.scrape()["librechat_exporter_collector_success", (("collector", "messages"),)] == 0


def test_a_server_that_cannot_tell_of_all_at_once_is_asked_for_each(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Amazon DocumentDB, which has no $unionWith."""
    one = exporter(NOW)
    one.scrape()
    unions = 0

    def without_union(_self: LibreChat, _starts: Mapping[str, bytes], _most: int) -> Any:
        nonlocal unions
        unions += 1
        raise OperationFailure("Unrecognized pipeline stage name: '$unionWith'", 40324)

    monkeypatch.setattr(LibreChat, "now_and_ids", without_union)
    for number in range(3):
        database["messages"].insert_one(message(NOW, number))
        database["conversations"].insert_one({"_id": object_id(NOW, number)})
        values = one.scrape()
        assert values[MESSAGES] == values["librechat_conversations_total", ()] == number + 1
    assert unions == 1


def test_more_new_documents_than_are_asked_for_at_once_are_all_read(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.open_documents._IDS_AT_ONCE", 4)
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(minutes=4, seconds=-n), n) for n in range(3)])
    one.scrape()
    one.scrape()
    database["messages"].insert_many([message(NOW - timedelta(seconds=10 - n), 10 + n) for n in range(9)])
    assert one.scrape()[MESSAGES] == 12


def test_what_comes_after_an_answer_that_is_full_of_known_ids_is_read(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time has passed, so that all that was told is too old to be looked at."""
    monkeypatch.setattr("librechat_exporter.ledger.open_documents._IDS_AT_ONCE", 4)
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(seconds=150 - n), n) for n in range(4)])
    database["messages"].insert_one(message(NOW + timedelta(seconds=100), 5))
    one.scrape()
    one.scrape()
    one.at = NOW + timedelta(seconds=100)
    database["messages"].insert_one(message(one.at, 6))
    assert one.scrape()[MESSAGES] == 6


def test_of_a_clock_that_steps_back_between_question_and_answer_nothing_is_missed(
    database: Database[Document], exporter: MakeExporter
) -> None:
    """Ids that were asked for before begin too late then, and are asked for again."""
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1))
    one.scrape()
    one.scrape()
    ledger, begun = one.daemon.ledger, time.monotonic()
    ledger.ask()
    early = NOW - timedelta(minutes=4)
    database["messages"].insert_one(message(early, 2))
    ledger.refresh("messages", early, begun, begun + 5)
    database["messages"].delete_many({})
    assert one.scrape()[MESSAGES] == 2


def test_new_documents_are_polled_each_second(database: Database[Document], process: MakeProcess) -> None:
    one = process().start()
    one.scrape()
    database["messages"].insert_one({"messageId": "gone soon"})
    time.sleep(3)
    database["messages"].delete_many({})
    assert b"librechat_messages_total 1.0" in one.get("/metrics")[2]


def test_what_is_sealed_while_it_is_read_counts_once(database: Database[Document], exporter: MakeExporter) -> None:
    """A scrape may have asked for a document whose cell the ticker drops before the answer is there."""
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1))
    assert one.scrape()[MESSAGES] == 1
    source, ledger = one.daemon.ledger._sources["messages"], one.daemon.ledger
    ids = list(source.order)
    with ledger._lock:
        source.seal(object_id(NOW + timedelta(seconds=1)).binary, ())
    ledger._open.read(source, ids, NOW)
    assert one.scrape()[MESSAGES] == 1


def test_what_is_being_written_is_read_by_a_scrape_and_other_changes_by_the_next_tick(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW)
    sent = NOW - timedelta(minutes=5)
    database["messages"].insert_many(
        [message(sent, n, updatedAt=sent, tokenCount=None, unfinished=n == 1) for n in (1, 2)]
        + [message(NOW, 9, tokenCount=0)]
    )
    one.daemon.ledger.tick()
    assert one.scrape()[TOKENS] == 0
    database["messages"].update_one({"messageId": "m1"}, {"$set": {"tokenCount": 30, "unfinished": False}})
    database["messages"].update_one({"messageId": "m2"}, {"$set": {"tokenCount": 7}})
    database["messages"].insert_one(message(sent, 3, tokenCount=100))  # its `_id` is five minutes late
    assert one.scrape()[TOKENS] == 30
    one.daemon.ledger.tick()
    assert one.scrape()[TOKENS] == 137


def test_an_answer_that_is_being_written_stays_open_for_an_hour(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW)
    running = {"type": "tool_call", "tool_call": {"name": "long", "backgroundTask": {"backgrounded": True}}}
    database["messages"].insert_many(
        [
            message(NOW, 1, tokenCount=1, unfinished=True),
            message(NOW, 2, tokenCount=1, content=[running]),
            message(NOW, 3, tokenCount=1),
        ]
    )
    assert one.scrape()[TOKENS] == 3
    for minutes, tokens in ((30, 10), (59, 100), (75, 1000)):
        now = NOW + timedelta(minutes=minutes)
        set_clock(one, now)
        database["messages"].insert_one(message(now, minutes, tokenCount=0))  # what is open ends before the newest
        one.daemon.ledger.tick()
        one.daemon.ledger.tick()  # what is sealed depends on the newest one that was known before
        database["messages"].update_many({"_id": {"$lte": object_id(NOW, 3)}}, {"$set": {"tokenCount": tokens}})
        one.daemon.ledger.tick()
        one.close()
        one = exporter(now)
    assert one.scrape()[TOKENS] == 100 + 100 + 1
    assert database["messages"].count_documents({}) == 6


def test_documents_with_a_foreign_id_are_named_in_one_warning(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    database["messages"].insert_many([{"_id": "text"}, {"_id": 5}, message(NOW - timedelta(days=1), 1)])
    assert exporter(NOW).scrape()[MESSAGES] == 1
    assert sum("not an ObjectId" in record.getMessage() for record in caplog.records) == 1


def test_a_query_that_the_server_cannot_work_on_passes_no_document_over() -> None:
    """As of an operator that it does not know: every document would be passed over."""
    passed: list[bytes] = []

    def refused(_ids: Sequence[bytes]) -> None:
        raise OperationFailure("Unrecognized pipeline stage", 40324)

    with pytest.raises(OperationFailure):
        halved("messages", [bytes([number]) for number in range(5)], refused, passed.append)
    assert passed == []

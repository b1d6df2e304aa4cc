"""The ledger's invariants, on a real server."""

import functools
import sqlite3
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId, encode
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure

from librechat_exporter.collectors import cost, documents, messages
from librechat_exporter.collectors.messages_fold import SEEN, MessagesFold
from librechat_exporter.faults import HistoryPendingError
from librechat_exporter.ledger.clock import Clock
from librechat_exporter.ledger.fold import Cache, Reading
from librechat_exporter.ledger.last_seen import SEEN_KEPT
from librechat_exporter.ledger.reading import is_documents_fault
from librechat_exporter.ledger.state_file import Seen, State, StateInUseError
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import LabelGuard, Samples
from librechat_exporter.settings import Settings
from tests import weird
from tests.conftest import Document, Exporter, MakeExporter
from tests.oracle import Oracle, Values

NOW = weird.NOW
MESSAGES_FOLD = MessagesFold()
FOLDS = (MESSAGES_FOLD, cost.TransactionsFold(None), *(collector.folds[0] for collector in documents.collectors()))
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def object_id(moment: datetime, number: int = 0) -> ObjectId:
    return ObjectId(int(moment.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big"))


def message(moment: datetime, number: int, **fields: Any) -> Document:
    return {
        "_id": object_id(moment, number),
        "messageId": f"m{number}",
        "user": "u1",
        "isCreatedByUser": False,
        "model": "gpt-4o",
        "tokenCount": 10,
        "createdAt": moment,
    } | fields


def counters(values: Values) -> Values:
    """What happened; what gauges under old names say may come and go."""
    happened = {
        f"{metric.name}{suffix}"
        for fold in FOLDS
        for metric in fold.metrics
        if not metric.is_windowed
        for suffix in (("_bucket", "_count", "_sum") if metric.type == "histogram" else ("",))
    }
    return {series: value for series, value in values.items() if series[0] in happened}


MESSAGES = ("librechat_messages_total", ())
TOKENS = ("librechat_output_tokens_total", ())


@FEW
@given(weird.message_lists(), st.data())
def test_folds_of_disjoint_ranges_add_up(
    client: pymongo.MongoClient[Document], database: Database[Document], messages: list[Document], data: st.DataObject
) -> None:
    database["messages"].delete_many({})
    if messages:
        database["messages"].insert_many(messages)
    librechat = LibreChat(client, database.name, None)
    guard = LabelGuard(1000, 10_000)
    cut = data.draw(weird.object_ids())

    def reading() -> Reading:
        return Reading(librechat, NOW, guard, NOW - timedelta(days=3), None, Cache(100))

    def fold(match: Document) -> tuple[Samples, Seen]:
        return MESSAGES_FOLD.fold_history(reading(), match)

    everything = {"_id": {"$gte": ObjectId("0" * 24)}}
    whole, seen = fold(everything)
    below, seen_below = fold({"_id": {"$gte": ObjectId("0" * 24), "$lt": cut}})
    above, seen_above = fold({"_id": {"$gte": cut}})
    assert {s: below.get(s, 0) + above.get(s, 0) for s in below | above} == dict(whole)
    parts = [part[SEEN] for part in (seen_below, seen_above)]
    assert {u: max(part.get(u, 0) for part in parts) for u in parts[0] | parts[1]} == seen[SEEN]
    rows = [librechat.decode(row) for _, row in librechat.rows("messages", everything, MESSAGES_FOLD.row, 1000)]
    found, seen_open = MESSAGES_FOLD.fold_open(reading(), rows, [None] * len(rows))
    each: dict[Any, float] = {}
    for one in found:
        for series, amount in one.samples.items():
            each[series] = each.get(series, 0) + amount
    assert each == dict(whole)
    assert seen_open == seen


class Life(RuleBasedStateMachine):
    """Chats come, change and go; time passes; the exporter is stopped, killed and started. Its clock is ours.

    What was ever scraped stays counted: every document by the most that a scrape saw of it.
    """

    place: tuple[str, Database[Document], Path]

    def messages(self) -> Collection[Document]:
        return self.place[1]["messages"]

    @initialize()
    def begin(self) -> None:
        self.messages().delete_many({})
        self.messages().insert_many([message(NOW - timedelta(days=3, seconds=n), n) for n in range(5)])
        self.now = NOW
        self.number = 100
        self.counted: dict[ObjectId, float] = {}
        self.sealed: set[ObjectId] = set()
        self.newest: ObjectId | None = None
        self.is_new = True
        self.shown: Values = {}
        self.state = self.place[2] / f"{time.monotonic_ns()}.sqlite"
        self.exporter: Exporter | None = None
        self.start()

    @precondition(lambda self: self.exporter is None)
    @rule()
    def start(self) -> None:
        self.exporter = Exporter(
            Settings(
                _env_file=None,  # type: ignore[call-arg]
                mongodb_uri=SecretStr(self.place[0]),
                mongodb_database=self.place[1].name,
                state_path=str(self.state),
                listen_address="127.0.0.1:0",
            )
        )
        self.exporter.daemon.librechat.now = lambda: self.now  # type: ignore[method-assign]
        self.exporter.daemon.ledger.trusted = lambda now: now  # type: ignore[method-assign]
        self.newest = max(self.counted.keys() - self.sealed, default=None)
        self.is_new = True

    @rule(tokens=st.integers(0, 100), ago=st.integers(-400, 500))
    def send(self, tokens: int, ago: int) -> None:
        self.number += 1
        self.messages().insert_one(message(self.now - timedelta(seconds=ago), self.number, tokenCount=tokens))

    @rule(tokens=st.integers(0, 300), failed=st.booleans())
    def change(self, tokens: int, failed: bool) -> None:
        newest = self.messages().find_one(sort=[("_id", -1)])
        if newest is not None:
            self.messages().update_one({"_id": newest["_id"]}, {"$set": {"tokenCount": tokens, "error": failed}})

    @rule(skip=st.integers(0, 5))
    def delete(self, skip: int) -> None:
        found = self.messages().find_one(sort=[("_id", -1)], skip=skip)
        if found is not None:
            self.messages().delete_one({"_id": found["_id"]})

    @rule()
    def clear(self) -> None:
        self.messages().delete_many({})

    @rule(seconds=st.sampled_from([1, 59, 61, 300, 599, 601, 1300, 5000]))
    def pass_time(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.exporter is not None)
    @rule(orderly=st.booleans())
    def stop(self, orderly: bool) -> None:
        assert self.exporter is not None
        if not orderly:  # what is not committed is gone, as after kill -9
            self.exporter.daemon.ledger._save = lambda *_args, **_kwargs: None  # type: ignore[method-assign]
        self.exporter.close()
        self.exporter = None

    @precondition(lambda self: self.exporter is not None)
    @rule()
    def scrape(self) -> None:
        assert self.exporter is not None
        shown = counters(self.exporter.scrape())
        for series, value in self.shown.items():
            assert shown.get(series, -1) >= value, f"{series} fell"
        self.shown = shown
        # Whatever is later, and changes, a tick sees, or the first scrape of a process.
        since = 0.0 if self.newest is None else min(self.now, self.newest.generation_time).timestamp() - 60
        for document in list(self.messages().find()):
            moment = document["_id"].generation_time.timestamp()
            if self.is_new or (document["_id"] not in self.counted and moment >= int(since)):
                self.see(document)
        self.is_new = False
        self.sealed |= {one for one in self.counted if one.generation_time < NOW - timedelta(hours=2)}  # history
        assert shown[MESSAGES] == len(self.counted)
        assert shown[TOKENS] == sum(self.counted.values())

    @precondition(lambda self: self.exporter is not None)
    @rule()
    def tick(self) -> None:
        assert self.exporter is not None
        self.scrape()
        self.exporter.daemon.ledger.tick()
        for document in self.messages().find():
            self.see(document)
        self.is_new = False
        newest = max((one.generation_time for one in self.counted), default=self.now)
        end = min(self.now, max(newest, self.now - timedelta(hours=1)))
        since = int((end - timedelta(minutes=10)).timestamp())
        self.sealed = {one for one in self.counted if one.generation_time.timestamp() < since}

    def see(self, document: Document) -> None:
        """What was sealed does not change any more."""
        if document["_id"] not in self.sealed:
            self.counted[document["_id"]] = max(self.counted.get(document["_id"], 0), document["tokenCount"])
            self.newest = max(self.newest or document["_id"], document["_id"])

    @invariant()
    def nothing_is_negative(self) -> None:
        assert all(value >= 0 for value in self.shown.values())

    def teardown(self) -> None:
        if getattr(self, "exporter", None) is not None:
            self.exporter.close()  # type: ignore[union-attr]


def test_no_interleaving_lowers_a_counter_or_loses_what_was_shown(
    mongodb_uri: str, database: Database[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tick at a time of its own would see what no scrape saw.
    monkeypatch.setattr("librechat_exporter.ledger.ledger.Ledger._tick_forever", lambda _ledger: None)
    monkeypatch.setattr(Life, "place", (mongodb_uri, database, tmp_path), raising=False)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_history_in_many_chunks_equals_a_recount(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.history.CHUNK_DOCUMENTS", (8, 24))
    monkeypatch.setattr("librechat_exporter.ledger.source.FIRST_CHUNK", 16)
    # Each question's answers follow it, some of them much later: in other pieces and chunks.
    chats = []
    for number in range(0, 400, 4):
        moment = NOW - timedelta(hours=500 - number)
        chats.append(message(moment, number, isCreatedByUser=True, model=None, tokenCount=number))
        later = NOW - timedelta(hours=(500 - number) // 2)
        for extra in (1, 2, 3):
            when = moment if extra < 3 else later
            model = f"model-{extra % 2}"
            chats.append(message(when, number + extra, parentMessageId=f"m{number}", model=model))
    database["messages"].insert_many(chats)
    values = exporter(NOW).scrape()
    wanted = Oracle({"messages": chats}, NOW).values
    assert counters(values) == pytest.approx(counters(wanted))
    assert values["librechat_exporter_history_progress_ratio", (("source", "messages"),)] == 1


def test_a_document_deleted_while_open_stays_counted_and_others_of_its_second_are_not_lost(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW)
    for number in range(20):  # all of one second: each is seen, then deleted
        database["messages"].insert_one(message(NOW, number))
        assert one.scrape()[MESSAGES] == number + 1
        database["messages"].delete_many({})
    assert one.scrape()[TOKENS] == 200


def test_late_token_counts_and_failures_are_counted_once(database: Database[Document], exporter: MakeExporter) -> None:
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1, tokenCount=None, unfinished=True))
    database["messages"].insert_one(message(NOW, 2, tokenCount=5))
    assert one.scrape()[TOKENS] == 5
    database["messages"].delete_one({"messageId": "m2"})
    database["messages"].update_one({"messageId": "m1"}, {"$set": {"tokenCount": 30, "error": True}})
    values = one.scrape()
    assert values[TOKENS] == 35
    assert values[MESSAGES] == 2
    assert values["librechat_error_messages_total", ()] == 1
    assert counters(one.scrape()) == counters(values)


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


def set_clock(one: Exporter, now: datetime) -> None:
    one.daemon.librechat.now = lambda: now  # type: ignore[method-assign]


def test_a_gap_is_folded_like_history_and_open_documents_are_not_counted_twice(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(seconds=n), n, tokenCount=1) for n in range(10)])
    assert one.scrape()[TOKENS] == 10
    one.close()
    # While it is stopped: one grows, one goes, a hundred come.
    database["messages"].update_one({"messageId": "m3"}, {"$set": {"tokenCount": 5}})
    database["messages"].delete_one({"messageId": "m4"})
    database["messages"].insert_many([message(NOW + timedelta(minutes=n), 1000 + n) for n in range(100)])
    values = exporter(NOW + timedelta(hours=3)).scrape()
    assert values[MESSAGES] == 110
    assert values[TOKENS] == 10 + 4 + 1000


def test_sums_do_not_depend_on_their_order(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    """What an exporter counts anew, after a crash without a disk, must not be less than before in the last digit."""
    shared = {"tokenType": "completion", "model": "gpt-4o", "context": "message", "rawAmount": -1}
    for number in range(100):
        moment = NOW - timedelta(seconds=number)
        database["transactions"].insert_one(
            shared | {"_id": object_id(moment, number), "tokenValue": -0.1 - 0.7 * (number % 13), "createdAt": moment}
        )
        question = {"tokenCount": 0.3, "isCreatedByUser": True, "createdAt": moment - timedelta(milliseconds=100)}
        answer = {"parentMessageId": f"m{1000 + number}", "tokenCount": 0.1 * number}
        database["messages"].insert_many(
            [message(moment, 1000 + number, **question), message(moment, number, **answer)]
        )
    shown = [
        counters(exporter(at, state_path=str(tmp_path / f"{at:%H%M%S%d}.sqlite")).scrape())
        for at in (NOW + timedelta(seconds=1), NOW + timedelta(minutes=9), NOW + timedelta(days=1))
    ]
    one = exporter(NOW, state_path=str(tmp_path / "late.sqlite"))
    for seconds in range(-90, 2, 7):
        one.daemon.librechat.now = functools.partial(lambda at: at, NOW + timedelta(seconds=seconds))  # type: ignore[method-assign]
        shown.append(counters(one.scrape()))
    assert shown[0] == shown[1] == shown[2] == shown[-1]
    for name in ("messages", "transactions"):
        totals = [total for held in one.daemon.ledger._sources[name].totals.values() for total in held.values()]
        assert totals
        assert all(float(total).is_integer() for total in totals)
    labels = (("context", "message"), ("model", "gpt-4o"), ("token_type", "output"))
    assert shown[0]["librechat_llm_cost_usd_total", labels] == 0.0004174
    assert shown[0]["librechat_answer_seconds_sum", (("model", "gpt-4o"),)] == 10


def test_counters_are_absent_until_history_is_folded(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many([message(NOW - timedelta(days=1), n) for n in range(50)])
    one = exporter(NOW)
    fold, go = MESSAGES_FOLD.fold_history, threading.Event()

    def slow(*arguments: Any) -> Any:
        go.wait(10)
        return fold(*arguments)

    source = one.daemon.ledger._sources["messages"]
    source.fold.fold_history = slow  # type: ignore[method-assign, assignment]
    try:
        values = one.scrape(timeout=0.3)
        assert MESSAGES not in values
        assert values["librechat_exporter_collector_success", (("collector", "messages"),)] == 0
        assert values["librechat_conversations_total", ()] == 0
        assert any("history of messages" in reason for reason in one.daemon.readiness())
        database["messages"].insert_one(message(NOW, 99))
        assert MESSAGES not in one.scrape(timeout=0.3)
        go.set()
        one.scrape()  # it may share the run of the one before
        assert one.scrape()[MESSAGES] == 51
        assert one.daemon.readiness() == []
    finally:
        go.set()
        del source.fold.fold_history


@pytest.fixture
def no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not known is another database, at once."""
    monkeypatch.setattr("librechat_exporter.ledger.binding.DOUBT_SECONDS", 0.0)


@pytest.mark.usefixtures("no_doubt")
def test_another_database_starts_afresh(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    database["messages"].insert_many([message(NOW - timedelta(days=1), n) for n in range(5)])
    one = exporter(NOW)
    assert one.scrape()[MESSAGES] == 5
    one.daemon.ledger.tick()
    database["messages"].drop()
    one.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 5, "a collection that is gone tells nothing"
    database["messages"].insert_many([message(NOW - timedelta(days=1), 10 + n) for n in range(3)])
    one.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 3
    one.close()
    assert exporter(NOW, tenant_id="acme").scrape()[MESSAGES] == 0
    assert [record.getMessage() for record in caplog.records if "start afresh" in record.getMessage()] == [
        "This is another database or tenant than STATE_PATH was folded from: all counters start afresh"
    ] * 2


def test_a_database_that_is_not_known_yet_shows_no_counters(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a dump is written back, what was met may not be there yet."""
    old = [message(NOW - timedelta(days=1), n) for n in range(5)]
    database["messages"].insert_many(old)
    one = exporter(NOW)
    one.scrape()
    one.daemon.ledger.tick()
    database["messages"].drop()
    database["messages"].insert_one(message(NOW - timedelta(days=2), 99))  # nobody has met this one
    with pytest.raises(HistoryPendingError, match="cannot be told yet whether"):
        one.daemon.ledger.tick()
    assert MESSAGES not in one.scrape(timeout=1)
    database["messages"].insert_many(old)
    assert one.scrape()[MESSAGES] == 5


@pytest.mark.parametrize("running", [True, False], ids=["running", "stopped"])
@pytest.mark.parametrize("way", ["written back", "renamed", "without the newest", "other name"])
def test_a_restored_database_goes_on(
    client: pymongo.MongoClient[Document],
    database: Database[Document],
    exporter: MakeExporter,
    caplog: pytest.LogCaptureFixture,
    way: str,
    running: bool,
) -> None:
    """The same documents in a new collection, some deleted: no counter falls, nothing counts twice."""
    chats = [message(NOW - timedelta(hours=5, seconds=n), n) for n in range(40)]
    chats += [message(NOW - timedelta(seconds=n), 100 + n) for n in range(10)]
    database["messages"].insert_many(chats)
    database["messages"].delete_many({"messageId": {"$in": ["m1", "m2"]}})
    one = exporter(NOW)
    assert one.scrape()[MESSAGES] == 48
    one.daemon.ledger.tick()
    if not running:
        one.close()
    kept = [chat for chat in chats if way != "without the newest" or chat["_id"].generation_time < NOW]
    name = database.name
    if way == "renamed":
        database["messages"].rename("away")
        if running:
            one.daemon.ledger.tick()
        database["away"].rename("messages")
    elif way == "other name":
        name = f"{database.name[:50]}_2"
        client[name]["messages"].insert_many(kept)
    else:
        database["messages"].drop()
        database["messages"].insert_many(kept)
    if way == "other name" and running:
        client.drop_database(name)
        return  # a running exporter reads what it was started with
    if not running:
        one = exporter(NOW, mongodb_database=name)
    one.daemon.ledger.tick()
    database.client[name]["messages"].insert_one(message(NOW, 500))
    values = one.scrape()
    client.drop_database(name)
    assert values[MESSAGES] == 49
    assert "start afresh" not in caplog.text


def test_a_database_without_messages_is_bound_when_they_come(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["users"].insert_one({"_id": object_id(NOW - timedelta(days=1))})
    one = exporter(NOW)
    users = ("librechat_registered_users_total", ())
    assert one.scrape()[users] == 1
    database["users"].delete_many({})
    database["messages"].insert_one(message(NOW, 1))
    one.daemon.ledger.tick()
    values = one.scrape()
    assert (values[users], values[MESSAGES]) == (1, 1)


def test_only_the_tenants_documents_count(database: Database[Document], exporter: MakeExporter) -> None:
    both = [message(NOW - timedelta(seconds=n), n, **({"tenantId": "acme"} if n < 3 else {})) for n in range(10)]
    database["messages"].insert_many([*both, message(NOW - timedelta(days=2), 20, tenantId="acme")])
    database["users"].insert_many([{"_id": object_id(NOW), "tenantId": "acme"}, {"_id": object_id(NOW, 1)}])
    values = exporter(NOW, tenant_id="acme").scrape()
    assert values[MESSAGES] == 4
    assert values["librechat_messages_5m", ()] == 3
    assert values["librechat_registered_users_total", ()] == 1


def test_an_agent_is_counted_under_the_model_it_had_first(database: Database[Document], exporter: MakeExporter) -> None:
    database["agents"].insert_one({"id": "agent_1", "model": "small"})
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1, model="agent_1", endpoint="agents"))
    name = "librechat_messages_per_model_total"
    assert one.scrape()[name, (("model", "small"),)] == 1
    one.close()
    database["agents"].update_one({"id": "agent_1"}, {"$set": {"model": "large"}})
    two = exporter(NOW)
    database["messages"].insert_one(message(NOW, 2, model="agent_1", endpoint="agents"))
    values = two.scrape()
    assert {labels: v for (n, labels), v in values.items() if n == name} == {
        (("model", "small"),): 1,
        (("model", "large"),): 1,
    }


def test_users_last_seen_long_ago_are_forgotten(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    database["messages"].insert_many([message(NOW, 1), message(NOW - timedelta(days=20), 2, user="u2")])
    one = exporter(NOW)
    one.scrape()
    assert one.daemon.ledger.count_seen(SEEN, NOW - SEEN_KEPT) == 2
    one.close()
    later = exporter(NOW + timedelta(days=20))
    later.daemon.ledger.tick()
    later.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        assert connection.execute("SELECT kind, user FROM last_seen").fetchall() == [(SEEN, "u1")]


def test_documents_with_a_foreign_id_are_named_in_one_warning(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    database["messages"].insert_many([{"_id": "text"}, {"_id": 5}, message(NOW - timedelta(days=1), 1)])
    assert exporter(NOW).scrape()[MESSAGES] == 1
    assert sum("not an ObjectId" in record.getMessage() for record in caplog.records) == 1


def test_the_state_is_refused_to_a_second_process(exporter: MakeExporter, tmp_path: Path) -> None:
    exporter(NOW)
    with pytest.raises(StateInUseError, match=r"ledger\.sqlite is in use by another exporter"):
        State(str(tmp_path / "ledger.sqlite"))


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A path that cannot be made, also not by root."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "ledger.sqlite"


def test_without_a_writable_path_the_state_is_in_memory(
    database: Database[Document], exporter: MakeExporter, unwritable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database["messages"].insert_one(message(NOW, 1))
    values = exporter(NOW, state_path=str(unwritable)).scrape()
    assert values[MESSAGES] == 1
    assert values["librechat_exporter_state_persistent", ()] == 0
    assert sum("cannot be written" in record.getMessage() for record in caplog.records) == 1


def test_a_state_in_memory_returns_to_a_disk_that_can_be_written_again(
    database: Database[Document], exporter: MakeExporter, unwritable: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    database["messages"].insert_one(message(NOW, 1))
    one = exporter(NOW, state_path=str(unwritable))
    assert one.scrape()[MESSAGES] == 1
    one.daemon.ledger.tick()
    assert one.scrape()["librechat_exporter_state_persistent", ()] == 0
    unwritable.parent.unlink()
    one.daemon.ledger.tick()
    database["messages"].insert_one(message(NOW, 2))
    values = one.scrape()
    assert values["librechat_exporter_state_persistent", ()] == 1
    assert values[MESSAGES] == 2
    assert sum("can be written now" in record.getMessage() for record in caplog.records) == 1
    one.close()
    database["messages"].delete_many({})
    assert exporter(NOW, state_path=str(unwritable)).scrape()[MESSAGES] == 2


def test_a_volume_that_comes_late_is_not_overwritten(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    volume, mounted = tmp_path / "volume", tmp_path / "mounted"
    database["messages"].insert_many([message(NOW, number) for number in range(3)])
    one = exporter(NOW, state_path=str(volume / "ledger.sqlite"))
    assert one.scrape()[MESSAGES] == 3
    one.close()
    database["messages"].delete_many({})
    mounted.write_text("")
    two = exporter(NOW, state_path=str(mounted / "ledger.sqlite"))
    assert two.scrape()[MESSAGES] == 0
    mounted.unlink()
    volume.rename(mounted)
    two.daemon.ledger.tick()
    assert two.scrape()["librechat_exporter_state_persistent", ()] == 0
    two.close()
    assert exporter(NOW, state_path=str(mounted / "ledger.sqlite")).scrape()[MESSAGES] == 3


@pytest.mark.parametrize(
    "content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\0" * 5000], ids=["garbage", "truncated"]
)
def test_a_damaged_state_is_set_aside(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path, content: bytes
) -> None:
    database["messages"].insert_one(message(NOW, 1))
    (tmp_path / "ledger.sqlite").write_bytes(content)
    values = exporter(NOW).scrape()
    assert values[MESSAGES] == 1
    assert values["librechat_exporter_state_persistent", ()] == 1
    [aside] = tmp_path.glob("ledger.sqlite.damaged-*")
    assert aside.read_bytes() == content


def test_a_disk_that_fills_up_loses_nothing(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = exporter(NOW)
    assert one.scrape()["librechat_exporter_state_persistent", ()] == 1
    connection = one.daemon.ledger._state._connection
    [(pages,)] = connection.execute("PRAGMA page_count").fetchall()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    database["messages"].insert_many([message(NOW, n, model="x" * 150 + str(n), user=f"user{n}") for n in range(150)])
    for _ in range(3):
        values = one.scrape()
        assert values[MESSAGES] == 150
        assert values["librechat_exporter_state_persistent", ()] == 0
    connection.execute("PRAGMA max_page_count = 1000000")
    database["messages"].delete_many({})
    assert one.scrape()["librechat_exporter_state_persistent", ()] == 1
    one.close()
    assert exporter(NOW).scrape()[MESSAGES] == 150
    messages = [record.getMessage() for record in caplog.records]
    assert sum("STATE_PATH cannot be written" in text for text in messages) == 1
    assert sum("nothing was lost" in text for text in messages) == 1


def test_labels_beyond_the_limit_are_other_also_after_a_restart(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_many([message(NOW, n, model=f"model-{n}") for n in range(10)])
    name = "librechat_messages_per_model_total"

    def per_model(values: Values) -> dict[str, float]:
        return {labels[0][1]: value for (metric, labels), value in values.items() if metric == name}

    one = exporter(NOW, max_label_values=4)
    first = one.scrape()
    assert len(per_model(first)) == 5
    assert per_model(first)["other"] == 6
    assert first["librechat_exporter_label_values_dropped_total", (("label", "model"),)] == 6
    one.close()
    database["messages"].insert_one(message(NOW, 20, model="new"))
    second = exporter(NOW, max_label_values=4).scrape()
    assert per_model(second) == per_model(first) | {"other": 7}


def test_utc_now_is_the_servers(client: pymongo.MongoClient[Document], database: Database[Document]) -> None:
    assert abs(LibreChat(client, database.name, None).now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_clock_that_is_ahead_for_a_while_loses_nothing(database: Database[Document], exporter: MakeExporter) -> None:
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1))
    assert one.scrape()[MESSAGES] == 1
    one.daemon.librechat.now = lambda: NOW + timedelta(hours=1)  # type: ignore[method-assign]
    one.scrape()
    one.daemon.librechat.now = lambda: NOW + timedelta(seconds=5)  # type: ignore[method-assign]
    one.scrape()
    database["messages"].insert_many([message(NOW + timedelta(seconds=n), 10 + n) for n in range(5)])
    assert one.scrape()[MESSAGES] == 6


@pytest.mark.usefixtures("no_doubt")
def test_another_database_in_the_middle_of_history(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.history.CHUNK_DOCUMENTS", (8, 8))
    monkeypatch.setattr("librechat_exporter.ledger.source.FIRST_CHUNK", 8)
    old = NOW - timedelta(days=1)
    database["messages"].insert_many([message(old - timedelta(seconds=n), n) for n in range(400)])
    database["spare"].insert_many([message(old - timedelta(seconds=n), 1000 + n) for n in range(30)])
    one = exporter(NOW)
    assert MESSAGES not in one.scrape(timeout=0.25)
    database["spare"].rename("messages", dropTarget=True)
    one.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 30


def test_more_open_documents_than_one_answer_of_the_server_holds(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.ledger._READ_AT_ONCE", 7)
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(seconds=n), n) for n in range(100)])
    assert one.scrape()[MESSAGES] == 100
    database["messages"].insert_many([message(NOW, 200 + n, parentMessageId="x" * 3_000_000) for n in range(6)])
    values = one.scrape()
    assert values[MESSAGES] == 106
    assert values["librechat_messages_5m", ()] == 106


@pytest.mark.usefixtures("no_doubt")
def test_after_another_database_labels_begin_anew(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many([message(NOW - timedelta(days=1), n, model=f"old-{n}") for n in range(4)])
    one = exporter(NOW, max_label_values=4)
    one.scrape()
    database["messages"].drop()
    database["messages"].insert_many([message(NOW, n, model=f"new-{n}") for n in range(4)])
    one.daemon.ledger.tick()
    values = one.scrape()
    one.close()
    again = exporter(NOW, max_label_values=4).scrape()
    for shown in (values, again):
        per_model = {
            labels[0][1]: v for (name, labels), v in shown.items() if name == "librechat_messages_per_model_total"
        }
        assert per_model == {f"new-{n}": 1 for n in range(4)}


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
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["messages"].insert_one(message(NOW, 1))
    one = exporter(NOW)
    one.scrape()
    [fold] = [fold for fold in one.daemon.runner._collectors[0].folds if fold.name == "messages"]

    def broken(*_arguments: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(fold, "fold_open", broken)
    database["users"].insert_one({"_id": ObjectId.from_datetime(NOW)})
    database["messages"].insert_one(message(NOW, 2))
    with pytest.raises(KeyError):
        one.daemon.ledger.tick()
    assert one.daemon.ledger.values(documents.REGISTERED_USERS) == {(): 1}


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
    rows, messages = LibreChat.rows, LibreChat.messages

    def refused_rows(self: LibreChat, collection: str, match: Document, *rest: Any) -> Any:
        refuse(match)
        return rows(self, collection, match, *rest)

    def refused_messages(self: LibreChat, match: Document, **given: Any) -> Any:
        refuse(match)
        return messages(self, match, **given)

    monkeypatch.setattr(LibreChat, "rows", refused_rows)
    monkeypatch.setattr(LibreChat, "messages", refused_messages)
    database["messages"].insert_many(chats)
    two = exporter(NOW, state_path=str(Path(one.daemon.settings.state_path).with_name("two.sqlite"))).folded()
    assert two.scrape()[MESSAGES] == 49
    assert two.scrape()["librechat_exporter_unreadable_documents_total", (("source", "messages"),)] == 1
    before = len(tried)
    two.scrape()
    assert len(tried) == before
    assert sum("cannot be read and is passed over" in record.getMessage() for record in caplog.records) == 1


def test_a_fault_of_the_server_passes_no_document_over() -> None:
    refused = [OperationFailure("", code) for code in (13, 50, 91, 241, 11600)]
    assert not any(is_documents_fault(error) for error in (*refused, AutoReconnect("away"), KeyError()))
    assert is_documents_fault(OperationFailure("", 10334))


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


def test_what_is_sealed_while_it_is_read_counts_once(database: Database[Document], exporter: MakeExporter) -> None:
    """A scrape may have asked for a document whose cell the ticker drops before the answer is there."""
    one = exporter(NOW)
    database["messages"].insert_one(message(NOW, 1))
    assert one.scrape()[MESSAGES] == 1
    source, ledger = one.daemon.ledger._sources["messages"], one.daemon.ledger
    ids = list(source.order)
    with ledger._lock:
        source.seal(object_id(NOW + timedelta(seconds=1)).binary, ())
    ledger._read(source, ids, NOW)
    assert one.scrape()[MESSAGES] == 1


def test_what_is_read_while_another_database_comes_counts_once(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(days=1), n) for n in range(5)])
    one.folded()
    source, ledger = one.daemon.ledger._sources["messages"], one.daemon.ledger
    with ledger._lock, source.folding:
        source.begin(None)
        ledger._read(source, [chat["_id"].binary for chat in database["messages"].find()], NOW)
        assert source.values(messages.MESSAGES) == {}
    one.folded()
    assert one.scrape()[MESSAGES] == 5


def test_where_much_is_new_it_is_read_before_a_scrape(database: Database[Document], exporter: MakeExporter) -> None:
    one = exporter(NOW)
    one.scrape()
    source = one.daemon.ledger._sources["messages"]
    database["messages"].insert_many([message(NOW, n) for n in range(200)])
    one.scrape()
    assert source.is_busy
    database["messages"].insert_many([message(NOW, 1000 + n) for n in range(50)])
    end = time.monotonic() + 10
    while len(source.order) < 250:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert one.scrape()[MESSAGES] == 250

"""The ledger's invariants, on a real server."""

import sqlite3
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId
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

from librechat_exporter.folds.messages import SEEN, MessagesFold
from librechat_exporter.ledger.fold import Cache, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.ledger.windowed import HOURS_KEPT
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.page.health import readiness
from librechat_exporter.settings import Settings
from tests import weird
from tests.chats import MESSAGES, MESSAGES_FOLD, NOW, TOKENS, counters, message, object_id
from tests.conftest import Document, Exporter, MakeExporter
from tests.meanings import Values, text
from tests.oracle import Oracle

FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@FEW
@given(weird.message_lists(), st.data())
def test_folds_of_disjoint_ranges_add_up(
    client: pymongo.MongoClient[Document], database: Database[Document], messages: list[Document], data: st.DataObject
) -> None:
    database["messages"].delete_many({})
    # An answer that may still get a model counts otherwise as long as it is open.
    messages = [one | {"unfinished": False} if text(one.get("model")) is None else one for one in messages]
    if messages:
        database["messages"].insert_many(messages)
    librechat = LibreChat(client, database.name, None)
    guard = LabelGuard(1000, 10_000)
    cut = data.draw(weird.object_ids())

    def reading() -> Reading:
        later = NOW.replace(year=2107)  # what names a sub-agent's thread is waited for by no `_id` then
        return Reading(librechat, NOW, later, NOW, guard, NOW - timedelta(days=3), None, Cache(100))

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
        self.coming: set[ObjectId] = set()
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
                mongodb_uri=SecretStr(self.place[0]),
                mongodb_database=self.place[1].name,
                state_path=str(self.state),
                listen_address="127.0.0.1:0",
            ),
            self.now,
        )
        self.newest = max(self.counted.keys() - self.sealed, default=None)
        self.coming.clear()
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
        if self.exporter is not None:
            self.exporter.at = self.now

    @precondition(lambda self: self.exporter is not None)
    @rule(orderly=st.booleans())
    def stop(self, orderly: bool) -> None:
        assert self.exporter is not None
        if not orderly:  # what is not committed is gone, as after kill -9
            self.exporter.daemon.ledger._saving.save = lambda *_args: None  # type: ignore[method-assign]
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
        # Whatever is later, and changes, a tick sees, or the first scrape of a process; but what was made ahead of the
        # clock the next scrape reads again.
        since = 0.0 if self.newest is None else min(self.now, self.newest.generation_time).timestamp() - 180
        for document in list(self.messages().find()):
            moment = document["_id"].generation_time.timestamp()
            is_coming = document["_id"] in self.coming
            if self.is_new or is_coming or (document["_id"] not in self.counted and moment >= int(since)):
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
        """A document that was sealed does not change any more."""
        if document["_id"] not in self.sealed:
            self.counted[document["_id"]] = max(self.counted.get(document["_id"], 0), document["tokenCount"])
            self.newest = max(self.newest or document["_id"], document["_id"])
            ahead = (document["createdAt"] - self.now).total_seconds()
            (self.coming.add if 0 < ahead <= 60 else self.coming.discard)(document["_id"])

    @invariant()
    def nothing_is_negative(self) -> None:
        assert all(value >= 0 for value in self.shown.values())

    def teardown(self) -> None:
        if getattr(self, "exporter", None) is not None:
            self.exporter.close()  # type: ignore[union-attr]


@pytest.mark.no_cover
def test_no_interleaving_lowers_a_counter_or_loses_what_was_shown(
    mongodb_uri: str, database: Database[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A tick at a time of its own would see what no scrape saw.
    monkeypatch.setattr("librechat_exporter.ledger.background.Background._repeat", lambda *_arguments: None)
    monkeypatch.setattr(Life, "place", (mongodb_uri, database, tmp_path), raising=False)
    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def test_a_process_that_was_never_asked_decides_nothing(database: Database[Document], exporter: MakeExporter) -> None:
    """The next process decides what is history, and does not read all of it one by one."""
    database["messages"].insert_many([message(NOW - timedelta(days=3, seconds=n), n) for n in range(5)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("librechat_exporter.ledger.background.Background._repeat", lambda *_arguments: None)
        exporter(NOW).close()
        one = exporter(NOW)
    assert one.scrape()[MESSAGES] == 5
    assert not one.daemon.ledger._sources["messages"].cells


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
    """A count made anew, after a crash without a disk, must not be less than before in the last digit."""
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
        one.at = NOW + timedelta(seconds=seconds)
        shown.append(counters(one.scrape()))
    assert shown[0] == shown[1] == shown[2] == shown[-1]
    for name in ("messages", "transactions"):
        totals = [total for held in one.daemon.ledger._sources[name].totals.values() for total in held.values()]
        assert totals
        assert all(float(total).is_integer() for total in totals)
    labels = (("context", "message"), ("model", "gpt-4o"), ("token_type", "output"))
    assert shown[0]["librechat_llm_cost_usd_total", labels] == 0.0004174
    assert shown[0]["librechat_answer_seconds_sum", (("model", "gpt-4o"),)] == 10


def test_counters_are_absent_until_history_is_folded(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["messages"].insert_many([message(NOW - timedelta(days=1), n) for n in range(50)])
    fold, go = MessagesFold.fold_history, threading.Event()

    def slow(*arguments: Any) -> Any:
        go.wait(30)
        return fold(*arguments)

    monkeypatch.setattr(MessagesFold, "fold_history", slow)
    one = exporter(NOW)
    try:
        values = one.scrape(timeout=1)
        assert MESSAGES not in values
        assert values["librechat_exporter_collector_success", (("collector", "messages"),)] == 0
        assert values["librechat_conversations_total", ()] == 0
        assert any("history of messages" in reason for reason in readiness(one.daemon))
        database["messages"].insert_one(message(NOW, 99))
        assert MESSAGES not in one.scrape(timeout=1)
        go.set()
        one.scrape()  # it may share the run of the one before
        assert one.scrape()[MESSAGES] == 51
        assert readiness(one.daemon) == []
    finally:
        go.set()


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
    assert one.daemon.ledger.totals.count_seen(SEEN, NOW - HOURS_KEPT) == 2
    one.close()
    later = exporter(NOW + timedelta(days=20))
    later.daemon.ledger.tick()
    later.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        assert connection.execute("SELECT kind, user FROM last_seen").fetchall() == [(SEEN, "u1")]


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

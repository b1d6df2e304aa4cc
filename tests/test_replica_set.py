"""A replica set that loses members, elects, rolls back and lags: no counter falls, nothing counts twice or never."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pydantic import SecretStr
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.write_concern import WriteConcern

from librechat_exporter.ledger import restoring
from librechat_exporter.librechat.database import LibreChat
from tests.chats import MESSAGES, NOW, counters, message, set_clock
from tests.conftest import Document, Exporter, MakeExporter, MakeProcess, Process
from tests.meanings import Values
from tools.mongod import ReplicaSet
from tools.simulator import Simulator

DATABASE = "chats"
EVERYWHERE = WriteConcern(w=3)
UP = ("librechat_up", ())
SUCCESS = "librechat_exporter_collector_success"
PROGRESS = "librechat_exporter_history_progress_ratio"


@pytest.fixture
def members() -> Iterator[ReplicaSet]:
    """A replica set of the test's own."""
    if os.environ.get("MONGODB_TEST_URI"):
        pytest.skip("MONGODB_TEST_URI names a server that may not be broken")
    with ReplicaSet() as one:
        yield one


@pytest.fixture
def messages(members: ReplicaSet) -> Iterator[Collection[Document]]:
    """LibreChat writes to this; a majority of members acknowledges it."""
    with pymongo.MongoClient[Document](members.uri) as client:
        collection = client[DATABASE]["messages"]
        yield collection.with_options(write_concern=WriteConcern(w="majority"))


class Watched:
    """An exporter, none of whose counters may ever fall."""

    def __init__(self, one: Exporter) -> None:
        self.exporter = one
        self.shown: Values = {}

    def scrape(self) -> Values:
        """Series that were shown may be absent while MongoDB is away."""
        values = self.exporter.scrape()
        found = counters(values)
        for series, value in found.items():
            assert value >= self.shown.get(series, 0), f"{series} fell"
        if values[UP] and is_whole(values):
            assert self.shown.keys() <= found.keys()
        self.shown |= found
        return values

    def wait(self, what: str, is_so: Callable[[Values], bool]) -> Values:
        """Scrapes until it is so."""
        last: list[Values] = []

        def holds() -> bool:
            last.append(self.scrape())
            return is_so(last[-1])

        try:
            ReplicaSet.wait(what, holds)
        except RuntimeError:
            pytest.fail(f"{what}: not with {last[-1].get(MESSAGES)} messages, up {last[-1][UP]}")
        return last[-1]

    def wait_for(self, count: int) -> None:
        self.wait(f"{count} messages", lambda values: values.get(MESSAGES, -1) >= count)
        assert self.shown[MESSAGES] == count


MakeWatched = Callable[..., Watched]


@pytest.fixture
def watched(members: ReplicaSet, exporter: MakeExporter) -> MakeWatched:
    """Makes exporters of the replica set, or of the member that `uri` names."""

    def make(uri: str | None = None, at: datetime | None = None, **settings: Any) -> Watched:
        of_set = {"mongodb_uri": SecretStr(uri or members.uri), "mongodb_database": DATABASE}
        return Watched(exporter(at, **(of_set | settings)))

    return make


def is_whole(values: Values) -> bool:
    """Every collector measured, and all history is in."""
    return all(value == 1 for (name, _), value in values.items() if name in (SUCCESS, PROGRESS))


def names(values: Values) -> set[str]:
    return {name for name, _ in values if name.startswith("librechat_")}


def whole(one: Process) -> Values:
    """The first scrape that has everything."""
    found: list[Values] = []

    def has_everything() -> bool:
        found.append(one.scrape())
        return is_whole(found[-1])

    ReplicaSet.wait("everything is measured", has_everything)
    return found[-1]


def test_without_a_primary_a_secondary_serves_everything(
    members: ReplicaSet, process: MakeProcess, tmp_path: Path
) -> None:
    with pymongo.MongoClient[Document](members.uri) as client:
        simulator = Simulator(client.get_database(DATABASE, write_concern=EVERYWHERE), users=5)
        simulator.fill(300, days=3)
        for _ in range(5):
            simulator.chat()
            simulator.rate()
        simulator.upload()
    environment = {
        "MONGODB_URI": members.uri,
        "MONGODB_DATABASE": DATABASE,
        "MONGO_READ_PREFERENCE": "secondary",
        "STATE_REFRESH": "1",
    }
    one = process(**environment).start()
    before = whole(one)
    assert before[MESSAGES] > 300

    members.primary().kill()
    gone, *_ = members.secondaries()
    gone.kill()
    [left] = (member for member in members.members if member.process is not None)
    members.wait("no primary", lambda: left in members.secondaries())

    def check(values: Values) -> None:
        assert values[UP] == 1
        assert is_whole(values), {series: value for series, value in values.items() if series[0] == SUCCESS}
        assert names(before) - names(values) == set()
        assert counters(values) == counters(before)
        assert one.get("/ready")[0] == 200

    whole(one)  # the driver has to learn first who is gone
    check(one.scrape())
    one.stop()
    one.start()
    whole(one)
    check(one.scrape())
    assert left in members.secondaries(), "there was no primary all the time"
    one.stop()
    assert "Traceback" not in one.log
    assert "start afresh" not in one.log

    fresh = process(**environment | {"STATE_PATH": str(tmp_path / "fresh.sqlite")}).start()
    values = whole(fresh)
    assert names(before) - names(values) == set()
    assert counters(values) == counters(before)


@pytest.mark.slow
def test_a_wrong_database_name_is_told_without_a_primary(process: MakeProcess) -> None:
    with ReplicaSet(1) as alone:
        with alone.direct(alone.members[0]) as client:
            client[DATABASE]["messages"].insert_one({"messageId": "m1"})
            client.admin.command("replSetStepDown", 600, force=True)
        one = process(MONGODB_URI=alone.uri, MONGODB_DATABASE="misspelt", MONGO_READ_PREFERENCE="secondary").start()
        assert one.scrape()[UP] == 1
        told = f"'misspelt' has no collection `messages`; name one that has in MONGODB_DATABASE: {DATABASE}"
        end = time.monotonic() + 10
        while told not in one.log:
            assert time.monotonic() < end, one.log
            time.sleep(0.05)
        one.stop()


class Traffic:
    """Messages, each sent until it is acknowledged, as by an application that does not give up."""

    def __init__(self, messages: Collection[Document]) -> None:
        self.acknowledged = 0
        self._messages = messages
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._send({"_id": ObjectId(), "messageId": f"m{self.acknowledged}", "tokenCount": 1})

    def _send(self, document: Document) -> None:
        end = time.monotonic() + 30
        while True:
            try:
                self._messages.insert_one(document)
            except DuplicateKeyError:  # it had been written when the connection broke
                break
            except PyMongoError:
                if time.monotonic() > end:
                    raise
            else:
                break
        self.acknowledged += 1


def test_a_primary_is_killed_and_another_elected_while_messages_come(
    members: ReplicaSet,
    messages: Collection[Document],
    watched: MakeWatched,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0.0)
    both = [
        watched(mongo_read_preference=preference, state_path=str(tmp_path / f"{preference}.sqlite"))
        for preference in ("primary", "secondaryPreferred")
    ]

    def watch_until_sent(count: int) -> None:
        def is_sent() -> bool:
            for one in both:
                one.scrape()
            return traffic.acknowledged >= count and all(one.shown.get(MESSAGES, 0) >= count for one in both)

        ReplicaSet.wait(f"{count} messages", is_sent)

    with Traffic(messages) as traffic:
        watch_until_sent(50)
        killed = members.primary()
        killed.kill()
        watch_until_sent(traffic.acknowledged + 50)
    assert members.primary() is not killed
    assert messages.count_documents({}) == traffic.acknowledged
    for one in both:
        one.wait_for(traffic.acknowledged)
    killed.start()
    with members.direct(killed) as client:  # only when it has rolled back what it must can it have them all
        there = client[DATABASE]["messages"]
        members.wait("all messages", lambda: there.count_documents({}) == traffic.acknowledged)
    for one in both:
        one.exporter.daemon.ledger.tick()
        assert one.scrape()[MESSAGES] == traffic.acknowledged


def test_what_was_counted_and_rolled_back_stays_counted(
    members: ReplicaSet, messages: Collection[Document], watched: MakeWatched
) -> None:
    messages.with_options(write_concern=EVERYWHERE).insert_many([{"messageId": f"m{number}"} for number in range(3)])
    one = watched()
    one.wait_for(3)
    old = members.primary()
    lost = {"_id": ObjectId(), "messageId": "m3"}
    with members.cut_off(*members.secondaries()):
        # On disk, so that it is there to be rolled back when the member comes again.
        messages.with_options(write_concern=WriteConcern(w=1, j=True)).insert_one(lost)
        one.wait_for(4)
        old.kill()
    new = members.primary()
    assert new is not old
    messages.insert_many([{"messageId": "m3"}, {"messageId": "m4"}, {"messageId": "m5"}])
    one.wait_for(7)

    old.start()
    members.wait("all members", lambda: len(members.secondaries()) == 2)
    with members.direct(old) as client:
        there = client[DATABASE]["messages"]
        members.wait("a rollback", lambda: {row["messageId"] for row in there.find()} == {f"m{n}" for n in range(6)})
        members.wait("the lost one is gone", lambda: there.find_one({"_id": lost["_id"]}) is None)
    assert list((old.folder / "data" / "rollback").rglob("*.bson")), "the server tells what it has rolled back"
    one.exporter.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 7

    members.step_up(old)
    messages.insert_one({"messageId": "m6"})
    one.wait_for(8)
    one.exporter.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 8
    one.exporter.close()
    again = watched()
    again.shown = one.shown
    again.wait_for(8)


def test_a_secondary_that_lags_has_all_messages_counted_once(
    members: ReplicaSet, messages: Collection[Document], watched: MakeWatched, tmp_path: Path
) -> None:
    """It lags by longer than documents are open, and the ticks of two exporters pass; one of them is restarted."""
    messages.with_options(write_concern=EVERYWHERE).insert_one(message(NOW, 0))
    lagging, *_ = members.secondaries()

    def start(name: str, at: datetime, before: Watched | None = None) -> Watched:
        uri = f"{lagging.uri}?directConnection=true"
        one = watched(uri, at, mongo_read_preference="secondaryPreferred", state_path=str(tmp_path / f"{name}.sqlite"))
        one.shown = before.shown if before is not None else {}
        return one

    both = {name: start(name, NOW) for name in ("runs on", "is restarted")}
    for one in both.values():
        one.wait_for(1)
    with members.cut_off(lagging):
        for minute in range(1, 41):
            now = NOW + timedelta(minutes=minute)
            messages.insert_many([message(now - timedelta(seconds=20), 2 * minute + late) for late in range(2)])
            for name, one in both.items():
                if minute == 20 and name == "is restarted":
                    one.exporter.close()
                    both[name] = one = start(name, now, one)
                set_clock(one.exporter, now)
                one.exporter.daemon.ledger.tick()
                assert one.scrape()[MESSAGES] == 1
    for name, one in both.items():
        one.wait_for(81)
        one.exporter.daemon.ledger.tick()
        values = one.scrape()
        assert is_whole(values)
        assert values[MESSAGES] == messages.count_documents({}) == 81
        assert values["librechat_output_tokens_total", ()] == 810
        one.exporter.close()
        again = start(name, NOW + timedelta(minutes=41), one)
        assert counters(again.scrape()) == counters(values)


@pytest.mark.slow
def test_history_is_whole_if_one_member_tells_of_the_newest_and_one_that_lags_is_read(
    exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `secondary` or `nearest`, where any member answers. It lags by less than an hour."""
    with (
        ReplicaSet(2) as pair,
        pymongo.MongoClient[Document](pair.uri) as client,
        contextlib.ExitStack() as closing,  # before the servers are gone, for which it would wait
    ):
        messages = client.get_database(DATABASE, write_concern=WriteConcern(w=2))["messages"]
        messages.insert_many([message(NOW - timedelta(days=2, seconds=number), 100 + number) for number in range(10)])
        [lagging] = pair.secondaries()
        fresh = LibreChat(client, DATABASE, None)
        with pair.cut_off(lagging), monkeypatch.context() as patched:
            late = messages.with_options(write_concern=WriteConcern(w=1))
            late.insert_many([message(NOW - timedelta(minutes=number), number) for number in range(1, 41)])
            newest = fresh.newest_id
            patched.setattr(LibreChat, "newest_id", lambda _self, collection: newest(collection))
            uri = SecretStr(f"{lagging.uri}?directConnection=true&readPreference=secondary")
            one = Watched(exporter(NOW, mongodb_uri=uri, mongodb_database=DATABASE))
            closing.enter_context(contextlib.closing(one.exporter))
            one.exporter.folded()
            one.wait_for(10)
        with pair.direct(lagging) as reader:
            there = reader[DATABASE]["messages"]
            pair.wait("all messages", lambda: there.count_documents({}) == 50)
        one.exporter.daemon.ledger.tick()
        assert one.scrape()[MESSAGES] == 50

"""The state knows its database again, and starts afresh with another one."""

import sqlite3
import time
from datetime import timedelta

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter.faults import HistoryPendingError
from librechat_exporter.ledger import restoring
from librechat_exporter.ledger.state_file import State
from tests.chats import MESSAGES, NOW, message, object_id
from tests.conftest import Document, Exporter, MakeExporter


@pytest.fixture
def no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that is not known is another one, at once, and a collection that has not changed is whole."""
    monkeypatch.setattr("librechat_exporter.ledger.binding.DOUBT_SECONDS", 0.0)
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0.0)


def bereft(database: Database[Document], exporter: MakeExporter) -> Exporter:
    """It has counted five messages, which are gone."""
    database["messages"].insert_many([message(NOW - timedelta(days=1), n) for n in range(5)])
    one = exporter(NOW)
    assert one.scrape()[MESSAGES] == 5
    one.daemon.ledger.tick()
    database["messages"].drop()
    return one


def notice(one: Exporter) -> None:
    """It finds another database, of which history waits at first."""
    one.daemon.ledger.tick()
    assert one.daemon.ledger.totals.progress()["messages"] == 0


@pytest.mark.usefixtures("no_doubt")
def test_another_database_starts_afresh(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    one = bereft(database, exporter)
    one.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 5, "a collection that is gone tells nothing"
    database["messages"].insert_many([message(NOW - timedelta(days=1), 10 + n) for n in range(3)])
    notice(one)
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


@pytest.fixture
def history(database: Database[Document], monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """A thousand messages of yesterday are folded slowly. What is written back is at rest when the test says so."""
    monkeypatch.setattr("librechat_exporter.ledger.history.CHUNK_DOCUMENTS", (8, 8))
    monkeypatch.setattr("librechat_exporter.ledger.source.FIRST_CHUNK", 8)
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 3600)
    chats = [message(NOW - timedelta(days=1) + timedelta(seconds=n), n) for n in range(1000)]
    database["messages"].insert_many(chats)
    return chats


def wait_for_half(one: Exporter) -> None:
    end = time.monotonic() + 20
    while not 0 < one.daemon.ledger.totals.progress()["messages"] < 1:
        assert time.monotonic() < end
        time.sleep(0.001)
    one.daemon.ledger.tick()


@pytest.mark.parametrize("way", ["renamed", "written back"])
def test_history_waits_while_its_collection_is_away(
    database: Database[Document],
    exporter: MakeExporter,
    history: list[Document],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    one = exporter(NOW)
    wait_for_half(one)
    if way == "renamed":
        database["messages"].rename("away")
        time.sleep(0.5)
        database["away"].rename("messages")
    else:
        database["messages"].drop()
        time.sleep(0.5)
        for start in range(0, 1000, 250):
            database["messages"].insert_many(history[start : start + 250])
            one.daemon.ledger.tick()
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0)
    assert one.folded().scrape()[MESSAGES] == 1000


@pytest.mark.usefixtures("history")
def test_a_collection_that_is_waited_for_keeps_no_other_waiting(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["transactions"].insert_one({"_id": object_id(NOW - timedelta(days=1), 1)})
    database["transactions"].insert_one({"_id": object_id(NOW, 2)})
    is_whole = restoring.Restoring.is_whole
    monkeypatch.setattr(
        restoring.Restoring, "is_whole", lambda one, name: name != "transactions" and is_whole(one, name)
    )
    one = exporter(NOW)
    one.scrape()
    end = time.monotonic() + 20
    while one.daemon.ledger.totals.progress()["messages"] < 1:
        assert time.monotonic() < end, one.daemon.ledger.totals.progress()
        time.sleep(0.01)
    assert one.daemon.ledger.totals.progress()["transactions"] < 1


@pytest.mark.parametrize("there", [0, 250])
def test_history_waits_for_what_is_written_back_since_a_start(
    database: Database[Document],
    exporter: MakeExporter,
    history: list[Document],
    monkeypatch: pytest.MonkeyPatch,
    there: int,
) -> None:
    one = exporter(NOW)
    wait_for_half(one)
    one.close()
    database["messages"].drop()
    if there:
        database["messages"].insert_many(history[:there])
    two = exporter(NOW)
    assert MESSAGES not in two.scrape(timeout=0.5)
    database["messages"].insert_many(history[there:])
    two.daemon.ledger.tick()
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0)
    assert two.folded().scrape()[MESSAGES] == 1000


@pytest.mark.parametrize("there", [0, 50])
def test_what_came_unseen_is_counted_when_it_is_written_back_on_another_server(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch, there: int
) -> None:
    """After the exporter was stopped 50 messages came; the dump is written back hours later, while it runs."""
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 3600)
    chats = [message(NOW - timedelta(hours=5, seconds=n), n) for n in range(40)]
    chats += [message(NOW - timedelta(seconds=n), 100 + n) for n in range(10)]
    database["messages"].insert_many(chats)
    one = exporter(NOW)
    assert one.scrape()[MESSAGES] == 50
    one.daemon.ledger.tick()
    one.close()
    database["messages"].drop()
    chats += [message(NOW + timedelta(seconds=1 + 6 * n), 1000 + n) for n in range(50)]
    if there:
        database["messages"].insert_many(chats[:there])
    two = exporter(NOW + timedelta(hours=2))
    two.daemon.ledger.tick()
    database["messages"].insert_many(chats[there:])
    two.daemon.ledger.tick()
    assert two.scrape()[MESSAGES] == 100
    source = two.daemon.ledger._sources["messages"]
    opening = source.open_from
    two.daemon.ledger.tick()
    assert source.open_from == opening
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0)
    two.daemon.ledger.tick()
    assert source.open_from > opening, "it is whole, and is sealed as always"
    assert two.folded().scrape()[MESSAGES] == 100


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
    wait_for_half(one)
    database["spare"].rename("messages", dropTarget=True)
    notice(one)
    assert one.scrape()[MESSAGES] == 30


@pytest.mark.usefixtures("no_doubt")
def test_another_database_is_not_known_by_its_own_documents(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_many([message(NOW, n) for n in range(5)])
    database["spare"].insert_many([message(NOW, 10 + n) for n in range(3)])
    one = exporter(NOW)
    assert one.folded().scrape()[MESSAGES] == 5
    one.daemon.ledger.tick()
    database["spare"].rename("messages", dropTarget=True)
    one.scrape()
    assert not one.daemon.ledger._binding.remember(), "documents of another database"
    notice(one)
    assert one.scrape()[MESSAGES] == 3


@pytest.mark.usefixtures("no_doubt")
def test_after_another_database_labels_begin_anew(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_many([message(NOW - timedelta(days=1), n, model=f"old-{n}") for n in range(4)])
    one = exporter(NOW, max_label_values=4)
    one.scrape()
    database["messages"].drop()
    database["messages"].insert_many([message(NOW, n, model=f"new-{n}") for n in range(4)])
    notice(one)
    values = one.scrape()
    one.close()
    again = exporter(NOW, max_label_values=4).scrape()
    for shown in (values, again):
        per_model = {
            labels[0][1]: v for (name, labels), v in shown.items() if name == "librechat_messages_per_model_total"
        }
        assert per_model == {f"new-{n}": 1 for n in range(4)}


def test_what_is_read_while_another_database_comes_counts_once(
    database: Database[Document], exporter: MakeExporter
) -> None:
    one = exporter(NOW)
    database["messages"].insert_many([message(NOW - timedelta(days=1), n) for n in range(5)])
    one.folded()
    source, ledger = one.daemon.ledger._sources["messages"], one.daemon.ledger
    with ledger._lock, source.folding:
        source.begin(None)
        ledger._open.read(source, [chat["_id"].binary for chat in database["messages"].find()], NOW)
        assert source.totals["librechat_messages_total"] == {}
    one.folded()
    assert one.scrape()[MESSAGES] == 5


def test_a_tenant_without_documents_keeps_nothing_from_being_remembered(
    database: Database[Document], exporter: MakeExporter
) -> None:
    database["messages"].insert_one(message(NOW, 1, tenantId="other"))
    one = exporter(NOW, tenant_id="acme")
    one.daemon.ledger.tick()
    assert one.scrape()[MESSAGES] == 0


@pytest.mark.usefixtures("no_doubt")
@pytest.mark.parametrize("before", ["nothing", "another database"])
def test_a_dump_that_is_written_while_it_runs_is_counted_whole(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Into a database that was empty, or in place of another one; not in the order of the `_id`s."""
    if before == "another database":
        database["messages"].insert_many([message(NOW - timedelta(days=9), 2000 + n) for n in range(5)])
        exporter(NOW).folded().close()
    database["messages"].drop()
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 3600)
    one = exporter(NOW)
    assert MESSAGES not in one.scrape(timeout=1) or before == "another database"
    dump = [message(NOW - timedelta(days=1) + timedelta(seconds=n), n) for n in reversed(range(1000))]
    for start in range(0, 1000, 250):
        database["messages"].insert_many(dump[start : start + 250])
        notice(one)
    monkeypatch.setattr(restoring, "_AT_REST_SECONDS", 0)
    assert one.folded().scrape()[MESSAGES] == 1000


@pytest.mark.usefixtures("no_doubt")
@pytest.mark.parametrize("failing", ["forget_all", "bind", "forget_active_days"])
def test_starting_afresh_that_fails_half_way_is_done_again(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    one = bereft(database, exporter)
    database["messages"].insert_many([message(NOW - timedelta(days=1), 10 + n) for n in range(3)])

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(State, failing, fail)
        with pytest.raises(sqlite3.OperationalError):
            one.daemon.ledger.tick()
    assert one.folded().scrape()[MESSAGES] == 3

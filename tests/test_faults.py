"""MongoDB away, paused, slow, failing, refusing; what the exporter says then, and how it comes back."""

import http.client
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pymongo.database import Database

from tests.conftest import Document, MakeProcess, Process, with_read_only
from tests.meanings import Values
from tools.mongod import Mongod

MESSAGES = ("librechat_messages_total", ())
UP = ("librechat_up", ())


def success(values: Values, collector: str) -> float:
    return values["librechat_exporter_collector_success", (("collector", collector),)]


def errors(values: Values, collector: str, reason: str) -> float:
    labels = (("collector", collector), ("reason", reason))
    return values["librechat_exporter_collector_errors_total", labels]


def timed(one: Process, timeout: float) -> tuple[Values, float]:
    started = time.monotonic()
    values = one.scrape(timeout)
    return values, time.monotonic() - started


@contextmanager
def failing(client: pymongo.MongoClient[Document], **data: Any) -> Iterator[None]:
    """Makes the server fail commands of the exporter."""
    client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    try:
        yield
    finally:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def lone(private_mongod: Mongod, process: MakeProcess) -> Process:
    """An exporter of the private server, with one message."""
    with pymongo.MongoClient[Document](private_mongod.uri, journal=True) as client:
        client["lone"]["messages"].insert_one({"messageId": "m1", "user": "u1", "createdAt": datetime.now(UTC)})
    return process(MONGODB_URI=private_mongod.uri, MONGODB_DATABASE="lone")


def test_mongodb_absent_at_the_start_killed_and_restarted(private_mongod: Mongod, lone: Process) -> None:
    private_mongod.kill()
    lone.start()
    values, seconds = timed(lone, 2)
    assert values[UP] == 0
    assert MESSAGES not in values
    assert success(values, "messages") == success(values, "recent") == 0
    assert seconds < 2
    assert errors(timed(lone, 5)[0], "messages", "unavailable") >= 1
    assert lone.get("/health")[0] == 200
    status, _, body = lone.get("/ready")
    assert status == 503
    assert b"MongoDB does not answer" in body

    private_mongod.start()
    values, _ = timed(lone, 10)
    assert (values[UP], values[MESSAGES]) == (1, 1)
    assert lone.get("/ready")[0] == 200

    private_mongod.kill()
    values, seconds = timed(lone, 10)
    assert values[UP] == 0
    assert seconds < 4, "it need not wait for the deadline to know"
    assert b"MongoDB does not answer" in lone.get("/", {"Accept": "text/html"})[2]
    private_mongod.start()
    assert timed(lone, 10)[0][MESSAGES] == 1
    assert lone.log.count("MongoDB failed (unavailable)") == 2, lone.log
    assert lone.log.count("MongoDB works again") == 2
    assert "Traceback" not in lone.log


def test_mongodb_paused(private_mongod: Mongod, lone: Process) -> None:
    lone.start()
    assert lone.scrape()[MESSAGES] == 1
    private_mongod.pause()
    try:
        results: list[tuple[Values, float]] = []
        threads = [threading.Thread(target=lambda: results.append(timed(lone, 2))) for _ in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        assert lone.get("/health")[0] == 200
        assert time.monotonic() - started < 1, "the health check must not wait for scrapes"
        for thread in threads:
            thread.join()
        assert len(results) == 20
        for values, seconds in results:
            assert values[UP] == 0
            assert MESSAGES not in values
            assert seconds < 5  # without a deadline it would be 30
        assert lone.stop() < 5
    finally:
        private_mongod.resume()
    lone.start()
    assert lone.scrape()[MESSAGES] == 1


def test_one_command_fails_or_is_slow(private_mongod: Mongod, lone: Process) -> None:
    lone.start()
    lone.scrape()
    with pymongo.MongoClient[Document](private_mongod.uri) as client:
        with failing(client, failCommands=["aggregate"], errorCode=8000, namespace="lone.conversations"):
            client["lone"]["conversations"].insert_one({})  # which ones are new is asked for together with all others
            values = lone.scrape()
            assert success(values, "conversations") == 0
            assert errors(values, "conversations", "query") >= 1
            assert ("librechat_conversations_total", ()) not in values
            assert (values[UP], values[MESSAGES]) == (1, 1)
        assert lone.scrape()["librechat_conversations_total", ()] == 1
        with failing(
            client, failCommands=["aggregate"], blockConnection=True, blockTimeMS=4000, namespace="lone.messages"
        ):
            values, seconds = timed(lone, 1.5)
            assert seconds < 2
            assert success(values, "recent") == 0
            assert values["librechat_conversations_total", ()] == 1
        values = lone.scrape()
        assert values[MESSAGES] == 1
        assert success(values, "recent") == 1
    assert "Collector conversations failed (query): MongoDB refused the command with error 8000" in lone.log
    assert "Traceback" not in lone.log


def test_history_goes_on_after_failures(private_mongod: Mongod, lone: Process) -> None:
    with pymongo.MongoClient[Document](private_mongod.uri) as client:
        old = datetime.now(UTC) - timedelta(days=1)
        ids = [ObjectId.from_datetime(old - timedelta(seconds=n)) for n in range(1000)]
        client["lone"]["messages"].insert_many([{"_id": one} for one in ids])
        with failing(client, failCommands=["aggregate"], errorCode=8000, namespace="lone.messages"):
            lone.start()
            assert MESSAGES not in lone.scrape(2)
        assert lone.scrape(30)[MESSAGES] == 1001
        assert "Folding the history of messages failed (query)" in lone.log
        assert "Folding the history of messages works again" in lone.log


def test_authentication(tmp_path: Any, process: MakeProcess) -> None:
    with Mongod("--auth") as server:
        with pymongo.MongoClient[Document](server.uri) as client:
            roles = [{"role": "root", "db": "admin"}]
            client.admin.command("createUser", "root", pwd="s3cret-root", roles=roles)
        address = f"127.0.0.1:{server.port}/"
        with pymongo.MongoClient[Document](f"mongodb://root:s3cret-root@{address}") as client:
            client["lone"]["messages"].insert_one({"messageId": "m1"})
            collections = ("messages", "conversations", "users", "files", "agents")
            client.admin.command(
                "createRole",
                "librechatExporter",
                privileges=[
                    {"resource": {"db": "lone", "collection": name}, "actions": ["find", "listIndexes"]}
                    for name in collections
                ]
                + [{"resource": {"db": "lone", "collection": ""}, "actions": ["listCollections"]}],
                roles=[],
            )
            client.admin.command("createUser", "exporter", pwd="s3cret-reader", roles=["librechatExporter"])
        one = process(MONGODB_URI=f"mongodb://exporter:wr0ng-word@{address}", MONGODB_DATABASE="lone").start()
        values = one.scrape(5)
        assert values[UP] == 0
        one.stop()
        good = process(MONGODB_URI=f"mongodb://exporter:s3cret-reader@{address}", MONGODB_DATABASE="lone").start()
        assert good.scrape()[MESSAGES] == 1
        good.stop()
        for secret in ("wr0ng-word", "s3cret-reader"):
            assert secret not in good.log
        assert "AuthenticationFailed" in good.log


def test_a_replica_set(tmp_path: Any, process: MakeProcess) -> None:
    with Mongod("--replSet", "rs") as server:
        with pymongo.MongoClient[Document](server.uri, directConnection=True) as client:
            members = [{"_id": 0, "host": f"127.0.0.1:{server.port}"}]
            client.admin.command("replSetInitiate", {"_id": "rs", "members": members})
        uri = f"{server.uri}?replicaSet=rs"
        with pymongo.MongoClient[Document](uri) as client:
            client["lone"]["messages"].insert_one({"messageId": "m1"})
        one = process(MONGODB_URI=uri, MONGODB_DATABASE="lone", MONGO_READ_PREFERENCE="secondaryPreferred").start()
        assert one.scrape()[MESSAGES] == 1


def test_a_wrong_database_name(
    process: MakeProcess, database: Database[Document], client: pymongo.MongoClient[Document]
) -> None:
    database["messages"].insert_one({"messageId": "m1"})
    one = process(MONGODB_DATABASE="librechat_misspelt").start()
    assert MESSAGES not in one.scrape()
    wait_for_line(one, "has no collection")
    one.stop()
    [line] = [line for line in one.log.splitlines() if "has no collection" in line]
    assert "The database 'librechat_misspelt' has no collection `messages`" in line
    assert database.name in line
    assert "librechat_misspelt" not in client.list_database_names()


def wait_for_line(one: Process, text: str) -> None:
    end = time.monotonic() + 20
    while text not in one.log:
        assert time.monotonic() < end, one.log
        time.sleep(0.05)


def test_without_librechats_indexes(process: MakeProcess, database: Database[Document]) -> None:
    database["messages"].insert_one({"messageId": "m1", "createdAt": datetime.now(UTC)})
    database["messages"].create_index("createdAt")
    one = process().start()
    assert one.scrape()["librechat_messages_5m", ()] == 1
    wait_for_line(one, "has no index")
    one.stop()
    assert one.log.count("has no index") == 1
    assert "messages.messageId has no index" in one.log


def test_killed_at_any_moment_no_counter_falls(process: MakeProcess, database: Database[Document]) -> None:
    """kill -9 while messages come, a dozen times: what was shown is never taken back, and nothing is counted twice."""
    stop, sent = threading.Event(), [0]

    def traffic() -> None:
        while not stop.is_set():
            sent[0] += 1
            database["messages"].insert_one({"messageId": f"m{sent[0]}", "isCreatedByUser": False, "tokenCount": 3})
            time.sleep(0.002)  # on a slow machine, too, no more than a scrape reads in its time

    one = process().start()
    one.scrape()
    thread = threading.Thread(target=traffic)
    thread.start()
    shown = 0.0
    try:
        for round_ in range(0, 12, 2):
            scrapes = threading.Thread(target=_scrape_until_it_dies, args=(one,))
            scrapes.start()
            time.sleep(0.02 + 0.03 * round_)
            one.stop(9)
            scrapes.join()
            one.start()
            value = shown_messages(one)
            assert value >= shown
            shown = value
    finally:
        stop.set()
        thread.join()
    shown_messages(one)
    values = one.scrape()
    assert values[MESSAGES] == sent[0]
    assert values["librechat_output_tokens_total", ()] == 3 * sent[0]
    database["messages"].delete_many({})
    one.stop(9)
    assert one.start().scrape()[MESSAGES] == sent[0]
    one.stop(9)
    with closing(sqlite3.connect(one.folder / "ledger.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def shown_messages(one: Process) -> float:
    """As soon as a scrape is not late."""
    end = time.monotonic() + 60
    while MESSAGES not in (values := one.scrape()):
        assert time.monotonic() < end, one.log
    return values[MESSAGES]


def _scrape_until_it_dies(one: Process) -> None:
    try:
        while True:
            one.scrape()
    except (OSError, ValueError, http.client.HTTPException):  # refused, or broken off within an answer
        return


def test_a_disk_that_has_become_read_only(process: MakeProcess, database: Database[Document], tmp_path: Path) -> None:
    """After a kill, so that the latest totals are in the write-ahead log alone."""
    state = tmp_path / "state"
    one = process(STATE_PATH=str(state / "ledger.sqlite")).start()
    database["messages"].insert_many([{"messageId": f"m{number}"} for number in range(3)])
    assert one.scrape()[MESSAGES] == 3
    one.stop(9)
    database["messages"].delete_many({})
    written = {path: path.read_bytes() for path in state.iterdir()}
    one.command = with_read_only(state, one.command)
    one.start()
    assert one.scrape()[MESSAGES] == 3
    database["messages"].insert_one({"messageId": "m3"})
    values = one.scrape()
    assert values[MESSAGES] == 4
    assert values["librechat_exporter_state_persistent", ()] == 0
    assert one.log.count("cannot be written") == 1
    assert "starting afresh" not in one.log
    assert {path: path.read_bytes() for path in state.iterdir()} == written


def test_a_disk_that_is_read_only_and_damaged(
    process: MakeProcess, database: Database[Document], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "ledger.sqlite").write_bytes(b"garbage" * 1000)
    database["messages"].insert_one({"messageId": "m1"})
    one = process(STATE_PATH=str(state / "ledger.sqlite"))
    one.command = with_read_only(state, one.command)
    assert one.start().scrape()[MESSAGES] == 1
    assert "cannot be read either" in one.log

"""The state file: where it cannot be kept, whose it is, who may read it, and what can be taken out of it."""

import fcntl
import itertools
import logging
import sqlite3
import time
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest
from bson import ObjectId
from pymongo.database import Database

from librechat_exporter.cli import forget_label
from librechat_exporter.ledger.state_file import State, StateError, StateInUseError
from librechat_exporter.settings import Settings
from tests.chats import MESSAGES, NOW, message, object_id, set_clock
from tests.conftest import Document, Exporter, MakeExporter, MakeProcess
from tests.meanings import Values

PERSISTENT = ("librechat_exporter_state_persistent", ())


def test_a_state_in_memory_says_so(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    database["messages"].insert_one(message(NOW, 1))
    one = exporter(NOW, state_path=":memory:")
    one.daemon.ledger.tick()
    values = one.scrape()
    assert (values[MESSAGES], values[PERSISTENT]) == (1, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_share_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There SQLite says what it says of a file that is in use."""
    path = tmp_path / "unlocked" / "ledger.sqlite"

    def locked(*_arguments: Any) -> sqlite3.Connection:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    def no_lock(*_arguments: Any) -> None:
        raise OSError(37, "No locks available")

    open_file = State._open
    monkeypatch.setattr(
        State, "_open", staticmethod(lambda path: open_file(path) if path == ":memory:" else locked(path))
    )
    with pytest.raises(StateInUseError, match="is in use by another exporter"):
        State(str(path))
    monkeypatch.setattr(fcntl, "lockf", no_lock)
    state = State(str(path))
    assert not state.on_disk
    assert "files on this share cannot be locked" in caplog.text
    state.close()


def test_a_path_that_cannot_be_written_is_not_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "locked").write_text("")
    state = State(str(tmp_path / "locked" / "ledger.sqlite"))
    assert not state.on_disk
    assert "cannot be written" in caplog.text
    state.close()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    State(str(path)).close()
    path.chmod(0o644)
    state = State(str(path))
    state.keep("a", "b")
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    state.close()


def per_model(values: Values) -> dict[str, float]:
    name = "librechat_messages_per_model_total"
    return {labels[0][1]: value for (metric, labels), value in values.items() if metric == name}


def test_a_label_value_gives_its_place_back(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    nowhere = Settings(state_path=str(tmp_path / "none.sqlite"))
    with pytest.raises(StateError, match=r"none\.sqlite is not there"):
        forget_label(nowhere, "model", "model-0")
    with pytest.raises(StateError, match=r"cannot be read \(File name too long\)"):
        forget_label(Settings(state_path="x" * 300), "model", "model-0")
    assert list(tmp_path.iterdir()) == []
    settings: dict[str, Any] = {"max_label_values": 2}
    database["messages"].insert_many([message(NOW, n, model=f"model-{n}") for n in range(3)])
    one = exporter(NOW, **settings)
    assert per_model(one.scrape()) == {"model-0": 1, "model-1": 1, "other": 1}
    given = Settings(state_path=str(tmp_path / "ledger.sqlite"))
    with pytest.raises(StateInUseError):
        forget_label(given, "model", "model-0")
    one.close()
    with pytest.raises(StateError, match="The label model has no value 'model-9': it has 'model-0', 'model-1'"):
        forget_label(given, "model", "model-9")
    with pytest.raises(StateError, match="there is no such label"):
        forget_label(given, "colour", "red")
    database["messages"].delete_one({"model": "model-0"})
    assert forget_label(given, "model", "model-0") == 0
    two = exporter(NOW, **settings)
    assert per_model(two.scrape()) == {"model-1": 1, "other": 1}
    database["messages"].insert_one(message(NOW, 7, model="new"))
    values = two.scrape()
    assert per_model(values) == {"model-1": 1, "other": 1, "new": 1}
    assert values[MESSAGES] == 4


@pytest.mark.parametrize("limit", [{"max_label_values": 2}, {"max_series": 2}], ids=["values", "series"])
def test_what_is_open_counts_once_when_a_limit_is_raised(
    database: Database[Document], exporter: MakeExporter, limit: dict[str, Any]
) -> None:
    """What counted under `other` stays there, also what is written later of the same answers."""
    messages = [message(NOW, number, model=f"model-{number}", tokenCount=10) for number in range(5)]
    billed = {"user": ObjectId(), "tokenType": "completion", "context": "message", "createdAt": NOW}
    bills = [
        billed | {"_id": object_id(NOW, n), "model": f"model-{n}", "rawAmount": -100, "tokenValue": -1_000_000}
        for n in range(5)
    ]
    database["messages"].insert_many(messages)
    database["transactions"].insert_many(bills)

    def told(one: Exporter) -> tuple[float, ...]:
        values = one.scrape()
        one.daemon.ledger.tick()
        values = one.scrape()
        one.close()
        names = ("messages_per_model", "output_tokens_per_model", "llm_cost_usd")
        sums: dict[str, float] = defaultdict(float)
        for (name, _), value in values.items():
            sums[name] += value
        return tuple(sums[f"librechat_{name}_total"] for name in names)

    assert told(exporter(NOW, **limit)) == (5, 50, 5)
    assert told(exporter(NOW)) == (5, 50, 5)
    database["messages"].update_many({}, {"$set": {"tokenCount": 12}})
    assert told(exporter(NOW)) == (5, 60, 5)
    assert told(exporter(NOW, **limit)) == (5, 60, 5)


def test_the_command_line_forgets_a_label_value(database: Database[Document], process: MakeProcess) -> None:
    database["messages"].insert_one({"messageId": "m", "model": "old", "isCreatedByUser": False})
    one = process().start()
    assert per_model(one.scrape()) == {"old": 1}
    for argument, code, said in (
        ("model", 2, "--forget-label takes NAME=VALUE"),
        ("model=old", 2, "is in use by another exporter"),
    ):
        assert said in one.run(code, "--forget-label", argument)
    one.stop()
    assert "series of model=old are forgotten" in one.run(0, "--forget-label", "model=old")
    database["messages"].delete_many({})  # as long as it is open, it would count again
    one.start()
    values = one.scrape()
    assert (per_model(values), values[MESSAGES]) == ({}, 1)


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
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("cannot be written" in warning for warning in warnings) == 1


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
    with two.daemon.ledger._lock:  # else its ticker may write meanwhile
        mounted.unlink()
        volume.rename(mounted)
    two.daemon.ledger.tick()
    assert two.scrape()["librechat_exporter_state_persistent", ()] == 0
    two.close()
    assert exporter(NOW, state_path=str(mounted / "ledger.sqlite")).scrape()[MESSAGES] == 3


def test_a_volume_that_comes_while_the_file_is_tried_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume, mounted = tmp_path / "volume", tmp_path / "mounted"
    one = State(str(volume / "ledger.sqlite"))
    one.keep("which", "the volume's")
    one.close()
    mounted.write_text("")
    two = State(str(mounted / "ledger.sqlite"))
    looks, look = itertools.count(), State._file

    def come(state: State) -> object:
        if next(looks) == 1:
            mounted.unlink()
            volume.rename(mounted)
        return look(state)

    monkeypatch.setattr(State, "_file", come)
    assert not two.return_to_disk()
    assert not two.return_to_disk()
    two.close()
    assert State(str(mounted / "ledger.sqlite")).kept("which") == "the volume's"


@pytest.mark.parametrize("path", ["/dev/full", "/dev/zero", "."])
def test_a_device_is_no_state_file(exporter: MakeExporter, caplog: pytest.LogCaptureFixture, path: str) -> None:
    """It may have no end, and is copied nowhere."""
    one = exporter(NOW, state_path=path)
    assert one.scrape()[PERSISTENT] == 0
    assert f"STATE_PATH {path} cannot be read either (it is no file)" in caplog.text


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


def wait_for_the_disk(one: Exporter) -> Values:
    """After attempts that failed there is a pause. The values that are on disk."""
    end = time.monotonic() + 20
    while (values := one.scrape())[PERSISTENT] != 1:
        assert time.monotonic() < end
        time.sleep(0.01)
    return values


def test_a_disk_that_fails_for_hours_leaves_no_cells_of_what_was_sealed_meanwhile(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_state: State) -> NoReturn:
        raise sqlite3.OperationalError("disk I/O error")

    one = exporter(NOW)
    database["messages"].insert_many([message(NOW, n) for n in range(5)])
    one.scrape()
    one.daemon.ledger.tick()
    with monkeypatch.context() as patch:
        patch.setattr(State, "transaction", fail)
        for hour in range(1, 5):
            set_clock(one, NOW + timedelta(hours=hour))
            database["messages"].insert_many([message(NOW + timedelta(hours=hour), 5 * hour + n) for n in range(5)])
            assert one.scrape()[PERSISTENT] == 0
            one.daemon.ledger.tick()
    wait_for_the_disk(one)
    ledger = one.daemon.ledger
    [(cells,)] = ledger._state._connection.execute("SELECT count(*) FROM open WHERE source = 'messages'")
    assert cells == len(ledger._sources["messages"].cells) == 5
    one.close()
    assert exporter(NOW + timedelta(hours=4)).scrape()[MESSAGES] == 25


def test_a_disk_that_is_slow_to_fail_is_not_tried_by_each_scrape(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = 0

    def fail(_state: State) -> NoReturn:
        nonlocal tried
        tried += 1
        time.sleep(0.5)
        raise sqlite3.OperationalError("disk I/O error")

    # A tick of its own would tidy the file meanwhile.
    monkeypatch.setattr("librechat_exporter.ledger.background.Background._repeat", lambda *_arguments: None)
    one = exporter(NOW)
    one.scrape()
    with monkeypatch.context() as patch:
        patch.setattr(State, "transaction", fail)
        for number in range(5):
            database["messages"].insert_one(message(NOW, number))
            values = one.scrape()
        assert tried == 1
    assert (values[MESSAGES], values[PERSISTENT]) == (5, 0)
    one.close()
    assert exporter(NOW).scrape()[MESSAGES] == 5


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
    wait_for_the_disk(one)
    one.close()
    assert exporter(NOW).scrape()[MESSAGES] == 150
    messages = [record.getMessage() for record in caplog.records]
    assert sum("STATE_PATH cannot be written" in text for text in messages) == 1
    assert sum("nothing was lost" in text for text in messages) == 1

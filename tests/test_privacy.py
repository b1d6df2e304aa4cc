"""Nothing of people leaves: texts, names, addresses and ids are marked, and looked for wherever the exporter writes."""

import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter.ledger.state_file import State
from librechat_exporter.user_ids import keyed_hash
from tests.conftest import Document, MakeExporter, MakeProcess, Process
from tests.people import MARK, USER, fill, within_a_month
from tools.mongod import Mongod

SALT = "0123456789abcdef-salt"


def leaks(text: str | bytes) -> bool:
    text = text if isinstance(text, bytes) else text.encode()
    return MARK.encode() in text or str(USER).encode() in text or USER.binary in text


def served(one: Process) -> dict[str, str | bytes]:
    """All that it says to anybody."""
    found: dict[str, str | bytes] = {"log": one.log}
    for path in ("/metrics", "/ready", "/health", "/nowhere"):
        found[path] = one.get(path)[2]
    found["page"] = one.get("/", {"Accept": "text/html"})[2]
    return found


def test_nothing_of_people_is_told(process: MakeProcess, database: Database[Document], tmp_path: Path) -> None:
    """Not even of who uses it and who pays, with all of that on."""
    fill(database, within_a_month())
    environment = {"LOGGING_LEVEL": "debug", "DOMAIN_METRICS": "true", "EXTERNAL_MODEL_REGEX": "gpt"}
    environment |= {"GROUP_METRICS": "true", "PER_USER_METRICS": "hash", "MODEL_PRICES": "genai-prices"}
    salted = {"STATE_USER_IDS": "hash", "USER_ID_SALT": SALT}
    one = process(**environment, **salted).start()
    values = one.scrape()
    assert values["librechat_messages_total", ()] == 8
    assert values["librechat_monthly_unique_users", ()] == 1
    assert values["librechat_active_users_by_domain", (("domain", "example.org"), ("window", "1d"))] == 1
    assert values["librechat_group_messages_total", (("group", "Physics"),)] == 7
    assert {value for (name, _), value in values.items() if name == "librechat_user_messages_total"} == {1, 7}
    found = served(one)
    one.stop()
    found["log at the end"] = one.log
    found["--check"] = one.run(0, "--check")
    found["--print-prices"] = one.run(0, "--print-prices")
    for path in tmp_path.glob("ledger.sqlite*"):
        found[path.name] = path.read_bytes()
    assert len(found) >= 8
    assert {name for name, content in found.items() if leaks(content)} == set()
    assert SALT not in one.log


def test_user_ids_are_in_the_state_file_alone_unless_they_are_hashed(
    process: MakeProcess, database: Database[Document], tmp_path: Path
) -> None:
    fill(database, datetime.now(UTC))
    one = process(LOGGING_LEVEL="debug").start()
    one.scrape()
    found = served(one)
    one.stop()
    assert not any(leaks(content) for content in found.values())
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        assert set(connection.execute("SELECT user FROM last_seen")) == {(str(USER),)}
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        others = {
            name: connection.execute(f"SELECT * FROM {name}").fetchall()  # noqa: S608
            for name in tables
            if name != "last_seen"
        }
    assert not leaks(str(others))


@pytest.mark.parametrize("mode", ["error", "delay"])
def test_faults_quote_nothing(mode: str, tmp_path: Path, process: MakeProcess) -> None:
    """MongoDB's own messages quote documents; ours do not."""
    with Mongod() as server, pymongo.MongoClient[Document](server.uri) as client:
        fill(client["private"], datetime.now(UTC))
        one = process(MONGODB_URI=server.uri, MONGODB_DATABASE="private", LOGGING_LEVEL="debug").start()
        one.scrape()
        fault: dict[str, Any] = {"failCommands": ["aggregate", "find"]}
        fault |= {"errorCode": 241} if mode == "error" else {"blockConnection": True, "blockTimeMS": 2000}
        client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": fault})
        one.scrape(1.5)
        assert not any(leaks(content) for content in served(one).values())
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def test_hashes_follow_the_setting(
    database: Database[Document],
    exporter: MakeExporter,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ids become hashes at the next start; from hashes there is no way back, and that is said."""
    fill(database, within_a_month())
    unique = ("librechat_monthly_unique_users", ())

    def refuse(*_arguments: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def seen(**settings: Any) -> tuple[float, set[str]]:
        one = exporter(**settings)
        value = one.scrape()[unique]
        held = set(one.daemon.ledger.totals.seen("messages"))
        one.close()
        return value, held

    hashed = {"state_user_ids": "hash", "user_id_salt": SALT}
    assert seen() == (1, {str(USER)})
    stored = list(database["messages"].find())
    database["messages"].delete_many({})
    with monkeypatch.context() as patch, suppress(sqlite3.OperationalError):
        patch.setattr(State, "keep", refuse)  # it is not hashed twice because of that
        seen(**hashed)
    value, held = seen(**hashed)
    assert value == 1
    assert held == {keyed_hash(SALT)(str(USER))}
    assert seen(**hashed) == (1, held)
    other = {"state_user_ids": "hash", "user_id_salt": SALT + "other"}
    one = exporter(**other)
    assert one.folded().scrape()[unique] == 0, "the chats are gone"
    one.close()
    database["messages"].insert_many(stored)
    one = exporter()
    assert one.folded().scrape()[unique] == 1, "it is counted anew from what is stored"
    one.close()
    assert "unique users are counted anew from what is stored" in caplog.text

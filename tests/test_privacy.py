"""Nothing of people leaves: texts, names, addresses and ids are marked, and looked for wherever the exporter writes."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pymongo.database import Database

from tests.conftest import Document, MakeExporter, MakeProcess, Process
from tools.mongod import Mongod

MARK = "MARKED"
USER = ObjectId("4d41524b4544" + "0" * 12)  # its first bytes are the mark as well
SALT = "0123456789abcdef-salt"


def marked(what: str) -> str:
    return f"{MARK}-{what}"


def people(now: datetime) -> dict[str, list[Document]]:
    """Documents of every collection, in which whatever is of a person is marked. Models and tools are not."""
    text = marked("text") + ' "type":"' + marked("type") + '" in it'
    call = {"name": "search", "args": marked("args"), "output": f"Error processing tool: {marked('output')}"}
    feedback = {"rating": "thumbsUp", "tag": "inaccurate", "text": marked("feedback")}
    shared: Document = {
        "user": str(USER),
        "conversationId": marked("conversation"),
        "createdAt": now,
        "updatedAt": now,
        "sender": marked("sender"),
        "text": text,
        "title": marked("title"),
    }
    question = shared | {"messageId": marked("question"), "isCreatedByUser": True, "tokenCount": 5}
    answers = [
        shared
        | {
            "messageId": marked(f"answer{number}"),
            "parentMessageId": marked("question"),
            "isCreatedByUser": False,
            "model": "gpt-4o",
            "endpoint": "openAI",
            "error": bool(number % 2),
            "content": [
                {"type": "text", "text": text},
                {"type": "tool_call", "tool_call": call},
                {"type": "error", "error": text},
            ],
            "feedback": feedback,
        }
        for number in range(3)
    ]
    billed = {"tokenType": "prompt", "model": "gpt-4o", "context": "message", "rawAmount": -5, "tokenValue": -10}
    user = {
        "_id": USER,
        "name": marked("name"),
        "username": marked("username"),
        "email": f"{marked('ann')}@example.org",
    }
    return {
        "messages": [question, *answers, {"user": {MARK: MARK}, "tokenCount": marked("tokens"), "createdAt": MARK}],
        "conversations": [shared | {"messages": [ObjectId()]}],
        "users": [user | {"provider": "local", "role": "USER", "createdAt": now}],
        "transactions": [billed | {"user": USER, "createdAt": now, "conversationId": marked("conversation")}],
        "files": [{"user": USER, "filename": marked("file"), "source": "local", "type": "text/plain", "bytes": 5}],
        "agents": [{"id": "agent_x", "author": USER, "authorName": marked("author"), "instructions": marked("prompt")}],
        "balances": [{"user": USER, "tokenCredits": 5}],
        "sessions": [
            {"user": USER, "expiration": datetime(2999, 1, 1, tzinfo=UTC), "refreshTokenHash": marked("token")}
        ],
        "memoryentries": [{"userId": USER, "key": marked("key"), "value": marked("memory")}],
        "auditlogs": [{"category": "auth", "outcome": "success", "actor": {"name": marked("actor")}}],
        "bans": [{"key": f"BANS:{marked('address')}", "value": marked("ban")}],
        "scheduleruns": [{"user": USER, "status": "error", "error": marked("run"), "createdAt": now}],
    }


def fill(database: Database[Document]) -> None:
    for name, documents in people(datetime.now(UTC)).items():
        database[name].insert_many(documents)


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
    fill(database)
    environment = {"LOGGING_LEVEL": "debug", "DOMAIN_METRICS": "true", "EXTERNAL_MODEL_REGEX": "gpt"}
    salted = {"STATE_USER_IDS": "hash", "USER_ID_SALT": SALT}
    one = process(**environment, **salted).start()
    values = one.scrape()
    assert values["librechat_messages_total", ()] == 5
    assert values["librechat_monthly_unique_users", ()] == 1
    assert values["librechat_active_users_by_domain", (("domain", "example.org"), ("window", "1d"))] == 1
    found = served(one)
    one.stop()
    found["log at the end"] = one.log
    for path in tmp_path.glob("ledger.sqlite*"):
        found[path.name] = path.read_bytes()
    assert len(found) >= 8
    assert {name for name, content in found.items() if leaks(content)} == set()
    assert SALT not in one.log


def test_user_ids_are_in_the_state_file_alone_unless_they_are_hashed(
    process: MakeProcess, database: Database[Document], tmp_path: Path
) -> None:
    fill(database)
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
        fill(client["private"])
        one = process(MONGODB_URI=server.uri, MONGODB_DATABASE="private", LOGGING_LEVEL="debug").start()
        one.scrape()
        fault: dict[str, Any] = {"failCommands": ["aggregate", "find"]}
        fault |= {"errorCode": 241} if mode == "error" else {"blockConnection": True, "blockTimeMS": 3000}
        client.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": fault})
        one.scrape(1.5)
        assert not any(leaks(content) for content in served(one).values())
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


def test_hashes_follow_the_setting(
    database: Database[Document], exporter: MakeExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids become hashes at the next start; from hashes there is no way back, and that is said."""
    fill(database)
    unique = ("librechat_monthly_unique_users", ())

    def seen(**settings: Any) -> tuple[float, set[str]]:
        one = exporter(**settings)
        value = one.scrape()[unique]
        held = set(one.daemon.ledger.seen("messages"))
        one.close()
        return value, held

    hashed = {"state_user_ids": "hash", "user_id_salt": SALT}
    assert seen() == (1, {str(USER)})
    database["messages"].delete_many({})
    value, held = seen(**hashed)
    assert value == 1
    assert held
    assert str(USER) not in held
    assert seen(**hashed) == (1, held)
    assert seen(state_user_ids="hash", user_id_salt=SALT + "other")[0] == 0
    assert "the unique users of the past are forgotten" in caplog.text

"""`metrics.py --check`: all that a start needs, tried and told."""

import contextlib
import io
import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pymongo
import pytest
from bson import ObjectId
from pymongo.database import Database
from pymongo.errors import ExecutionTimeout

from librechat_exporter import check
from librechat_exporter.librechat.fields import COLLECTIONS
from tests.conftest import METRICS_PY, Document, MakeExporter, MakeLibreChat
from tools.mongod import Mongod
from tools.private_server import free_port


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def run(folder: Path, *arguments: str, **environment: str) -> Ended:
    """In this process, whose log is as it was after it."""
    given = {"PATH": os.environ["PATH"], "STATE_PATH": "s.sqlite", "LISTEN_ADDRESS": f"127.0.0.1:{free_port()}"}
    output, errors = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, given | environment, clear=True),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        try:
            code = check.main(as_json="--json" in arguments)
        finally:
            logging.disable(logging.NOTSET)
    return Ended(code, output.getvalue(), errors.getvalue())


def test_the_command(tmp_path: Path, right: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, METRICS_PY, "--check"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "LISTEN_ADDRESS": "127.0.0.1:0"} | right,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "The exporter would start."


def findings(folder: Path, code: int, **environment: str) -> dict[str, list[tuple[str, str]]]:
    """Verdict and text by subject, as JSON tells them."""
    ended = run(folder, "--json", **environment)
    assert ended.stderr == ""
    told: dict[str, Any] = json.loads(ended.stdout)
    assert (told["exit_code"], ended.returncode) == (code, code), ended.stdout
    found: dict[str, list[tuple[str, str]]] = {}
    for one in told["findings"]:
        assert one.keys() == {"verdict", "subject", "text"}
        found.setdefault(one["subject"], []).append((one["verdict"], one["text"]))
    return found


@pytest.fixture
def right(mongodb_uri: str, database: Database[Document]) -> dict[str, str]:
    """Settings of which nothing is to be said."""
    database["messages"].insert_one({"messageId": "m1"})
    for field in ("createdAt", "messageId"):
        database["messages"].create_index(field)
    return {"MONGODB_URI": f"{mongodb_uri}{database.name}"}


def test_a_person_can_read_it(tmp_path: Path, right: dict[str, str], database: Database[Document]) -> None:
    ended = run(tmp_path, **right)
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["ok", "settings", "valid"]
    assert f"{database.name} has messages" in ended.stdout
    assert "warning" not in ended.stdout
    assert lines[-1] == "The exporter would start."
    assert list(tmp_path.iterdir()) == [], "it leaves nothing"


def test_what_keeps_it_from_starting(tmp_path: Path, right: dict[str, str], exporter: MakeExporter) -> None:
    exporter()
    (tmp_path / "web.yml").write_text("oops: 1\n")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = findings(
            tmp_path, 2, **right, STATE_PATH="ledger.sqlite", WEB_CONFIG_FILE="web.yml", LISTEN_ADDRESS=address
        )
    [(verdict, text)] = found["STATE_PATH"]
    assert (verdict, "is in use by another exporter" in text) == ("error", True)
    [(verdict, text)] = found["WEB_CONFIG_FILE"]
    assert (verdict, "oops: is not a key of the format" in text) == ("error", True)
    [(verdict, text)] = found["LISTEN_ADDRESS"]
    assert (verdict, text[: len(address)]) == ("error", address)
    assert "cannot be served: Address already in use" in text
    assert found["MongoDB"] == [("ok", "answers")], "all is told at once"


def test_settings_that_are_wrong(tmp_path: Path, right: dict[str, str]) -> None:
    found = findings(tmp_path, 2, **right, SCRAPE_TIMEOUT="soon", STATE_USER_IDS="hash")
    assert found.keys() == {"SCRAPE_TIMEOUT", "STATE_USER_IDS"}
    (tmp_path / ".env").mkdir()
    assert findings(tmp_path, 2, **right)["settings"] == [("error", ".env cannot be read: Is a directory")]
    (tmp_path / ".env").rmdir()
    ended = run(tmp_path, **right, SCRAPE_TIMEOUT="soon")
    assert ended.returncode == 2
    assert ended.stdout.splitlines()[-1] == "The exporter would not start."


def test_a_state_path_that_cannot_be_used(tmp_path: Path, right: dict[str, str]) -> None:
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = (tmp_path / "other.sqlite").read_bytes()
    [(verdict, text)] = findings(tmp_path, 2, **right, STATE_PATH="other.sqlite")["STATE_PATH"]
    assert (verdict, "is a database of another program" in text) == ("error", True)
    assert (tmp_path / "other.sqlite").read_bytes() == before
    (tmp_path / "broken").write_bytes(b"no database at all, " * 100)
    [(verdict, text)] = findings(tmp_path, 0, **right, STATE_PATH="broken")["STATE_PATH"]
    assert (verdict, text[:17]) == ("warning", "broken is damaged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "other.sqlite"]
    [(verdict, text)] = findings(tmp_path, 0, **right, STATE_PATH=":memory:")["STATE_PATH"]
    assert (verdict, "ends with the process" in text) == ("warning", True)
    (tmp_path / "nowhere").symlink_to("none/s.sqlite")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("broken/s.sqlite", "nowhere", "loop", "/dev/null", 300 * "x", "."):
        [(verdict, text)] = findings(tmp_path, 0, **right, STATE_PATH=path)["STATE_PATH"]
        assert (path, verdict, "the state would be in memory" in text) == (path, "warning", True)


def test_a_mongodb_that_cannot_be_read(tmp_path: Path) -> None:
    uri = "mongodb://user:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=300"
    ended = run(tmp_path, MONGODB_URI=uri)
    assert ended.returncode == 1
    assert "MongoDB         cannot be read: ServerSelectionTimeoutError" in ended.stdout
    assert ended.stdout.splitlines()[-1].startswith("The exporter would start, and have no metrics of LibreChat")
    assert "s3cret" not in ended.stdout + ended.stderr


def test_what_is_only_a_warning(
    tmp_path: Path, mongodb_uri: str, database: Database[Document], librechat: MakeLibreChat
) -> None:
    database["messages"].insert_one({"messageId": "m1"})
    (tmp_path / ".env").write_text("TENANT_IDS=a\n")
    uri = f"{mongodb_uri}{database.name}?family=4"
    found = findings(tmp_path, 0, MONGODB_URI=uri, LIBRECHAT_URL=librechat(503, 0))
    assert found["settings"] == [
        ("warning", "TENANT_IDS is no setting; is TENANT_ID meant?"),
        ("warning", "MONGODB_URI: family is ignored: PyMongo has no such option"),
        ("ok", "valid"),
    ]
    assert [verdict for verdict, _ in found["indexes"]] == ["warning", "warning"]
    assert found["LIBRECHAT_URL"] == [("warning", "it answers with status 503")]
    database["messages"].rename("others")
    [(verdict, text)] = findings(tmp_path, 0, MONGODB_URI=uri)["database"]
    assert (verdict, "has no collection `messages`" in text) == ("warning", True)


def test_rights_that_are_missing() -> None:
    """Each collection that may not be read is named; without messages nothing can be measured."""
    with Mongod("--auth") as server, pymongo.MongoClient[Document](server.uri) as client:
        client.admin.command("createUser", "root", pwd="r", roles=["root"])
        with pymongo.MongoClient[Document](f"mongodb://root:r@127.0.0.1:{server.port}/") as root:
            root["LibreChat"]["messages"].insert_one({})
            for name, readable in (("some", ["messages", "users"]), ("none", ["users"])):
                privileges: list[Document] = [
                    {"resource": {"db": "LibreChat", "collection": one}, "actions": ["find", "listIndexes"]}
                    for one in readable
                ]
                privileges.append({"resource": {"db": "LibreChat", "collection": ""}, "actions": ["listCollections"]})
                root.admin.command("createRole", name, privileges=privileges, roles=[])
                root.admin.command("createUser", name, pwd="p", roles=[name])
        folder, place = server.folder, f"127.0.0.1:{server.port}/?authSource=admin"
        found = findings(folder, 0, MONGODB_URI=f"mongodb://some:p@{place}")
        refused = [text.split()[0] for _, text in found["rights"]]
        assert refused == [one for one in COLLECTIONS if one not in ("messages", "users", "groups")]
        found = findings(folder, 1, MONGODB_URI=f"mongodb://none:p@{place}")
        assert found["rights"][0][0] == "unreadable"
        found = findings(folder, 1, MONGODB_URI=f"mongodb://some:w+ong@{place}")
        assert "`+` in user and password counts as itself; write it as `%2B`" in found["settings"][0][1]
        assert (
            found["MongoDB"][-1][1]
            == "cannot be read: MongoDB refused the command with error 18 (AuthenticationFailed)"
        )


def test_clocks_that_differ(tmp_path: Path, right: dict[str, str], database: Database[Document]) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=2)
    database["messages"].insert_one({"_id": ObjectId.from_datetime(ahead)})
    [(verdict, text)] = findings(tmp_path, 0, **right)["clocks"]
    assert (verdict, text[:22]) == ("warning", "the newest message is ")


def test_json_belongs_to_check(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, METRICS_PY, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, "--json belongs to --check" in ended.stderr) == (2, True)


def test_a_database_too_large_for_a_look_at_its_models_can_be_read_all_the_same(
    tmp_path: Path, right: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_arguments: object) -> list[str]:
        raise ExecutionTimeout("operation exceeded time limit", 50)

    monkeypatch.setattr(check, "unpriced", too_long)
    [(verdict, text)] = findings(tmp_path, 0, MODEL_PRICES="genai-prices", **right)["MODEL_PRICES"]
    assert verdict == "warning"
    assert "--print-prices takes its time" in text

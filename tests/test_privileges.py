"""The rights that docs/security.md names suffice, and no more is possible with them."""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import mysql.connector
import pymongo
import pymongo.errors
import pytest
from pydantic import SecretStr
from pymongo.database import Database

from librechat_exporter.collector import Collector
from librechat_exporter.historic import command
from librechat_exporter.librechat.fields import COLLECTIONS
from librechat_exporter.self_metrics import SELF_METRICS
from tests.conftest import METRICS_PY, Document, MakeExporter, MakeProcess, Metrics
from tests.offered import COLLECTORS, ON, sample_names
from tests.people import fill
from tools.mariadb import MariaDB
from tools.mongod import Mongod
from tools.simulator import Simulator

PAGE = (METRICS_PY.parent / "docs" / "security.md").read_text()


def documented_collections() -> list[str]:
    [names] = re.findall(r"\.\.\.\[(.*?)\]\.map", PAGE, re.DOTALL)
    found: list[str] = json.loads(f"[{names}]")
    return found


def test_the_code_knows_the_same_collections() -> None:
    assert list(COLLECTIONS) == documented_collections()


def documented_grants() -> str:
    [grants] = re.findall(r"GRANT (.*) ON metrics\.\* TO", PAGE)
    return str(grants)


def privileges(collections: Collection[str]) -> list[Document]:
    """Returns what the documented role would be for these collections."""
    return [
        *({"resource": {"db": "LibreChat", "collection": one}, "actions": ["find"]} for one in collections),
        {"resource": {"db": "LibreChat", "collection": "messages"}, "actions": ["listIndexes"]},
        {"resource": {"db": "LibreChat", "collection": ""}, "actions": ["listCollections"]},
    ]


@contextmanager
def guarded() -> Iterator[tuple[Database[Document], str]]:
    """Yields a database as root may use it, and the URI of a user who has the documented role alone."""
    with Mongod("--auth") as server:
        with pymongo.MongoClient[Document](server.uri) as client:
            client.admin.command("createUser", "root", pwd="r", roles=["root"])
        address = f"127.0.0.1:{server.port}/"
        with pymongo.MongoClient[Document](f"mongodb://root:r@{address}") as client:
            documented = privileges(documented_collections())
            client.admin.command("createRole", "librechatExporter", privileges=documented, roles=[])
            client.admin.command("createUser", "exporter", pwd="e", roles=["librechatExporter"])
            yield client["LibreChat"], f"mongodb://exporter:e@{address}"


def test_the_documented_rights_suffice_and_nothing_can_be_written(
    process: MakeProcess, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDB
) -> None:
    now = datetime.now(UTC)
    with guarded() as (librechat, uri):
        Simulator(librechat, users=5).fill(200, days=3, end=now - timedelta(days=1))
        fill(librechat, now)
        one = process(MONGODB_URI=uri, MONGODB_DATABASE="LibreChat", DOMAIN_METRICS="true").start()
        values = one.scrape()
        failed = [
            labels
            for (name, labels), value in values.items()
            if name == "librechat_exporter_collector_success" and value != 1
        ]
        assert not failed, one.log
        one.stop()
        assert "refused" not in one.log

        database = f"rights_{now:%H%M%S%f}"
        root = mariadb.connect()
        cursor = root.cursor()
        cursor.execute(f"CREATE DATABASE {database}")
        cursor.execute(f"CREATE USER '{database}'@'%' IDENTIFIED BY 'm'")
        cursor.execute(f"GRANT {documented_grants()} ON {database}.* TO '{database}'@'%'")
        environment = {
            "MONGODB_URI": uri,
            "MONGODB_DATABASE": "LibreChat",
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(mariadb.port),
            "MYSQL_DATABASE": database,
            "MYSQL_USER": database,
            "MYSQL_PASSWORD": "m",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(command, "today", lambda _: now.date())  # it may be midnight between them
        for _ in range(2):  # the second finds its tables and the last days there
            assert command.main(["--days", "5"]) == 0
        cursor.execute(f"SELECT COUNT(*) FROM {database}.daily_messages")  # noqa: S608
        assert cursor.fetchone() == (5,)

        with pymongo.MongoClient[Document](uri) as client:
            messages = client["LibreChat"]["messages"]
            for write in (
                lambda: messages.insert_one({}),
                lambda: messages.update_one({}, {"$set": {"x": 1}}),
                lambda: messages.delete_one({}),
                lambda: messages.create_index("x"),
                lambda: messages.drop(),
                lambda: list(client["LibreChat"]["keys"].find()),
                lambda: list(client["other"]["messages"].find()),
            ):
                with pytest.raises(pymongo.errors.OperationFailure, match="not authorized"):
                    write()
        connection = mysql.connector.connect(
            host="127.0.0.1", port=mariadb.port, user=database, password="m", database=database, use_pure=True
        )
        with pytest.raises(mysql.connector.Error, match="denied"):
            connection.cursor().execute("DROP TABLE daily_messages")
        connection.close()
        cursor.execute(f"DROP DATABASE {database}")
        cursor.execute(f"DROP USER '{database}'@'%'")
        root.close()


# The collectors that read a collection. Agents are looked up for messages as well, in `agents` and `conversations`: one
# that may not be read is unknown, and so is a group or a domain that usage is charged to. What `jobs` may not read it
# leaves out.
READERS: dict[str, set[str]] = {
    "messages": {
        *("messages", "tools", "agents", "answers", "window_answers", "unique_users", "recent", "ratings"),
        *("active_domains", "subagents", "usage", "conversation_messages"),
        *("active_groups", "adoption", "agent_users", "group_messages", "domain_messages", "user_messages"),
    },
    "conversations": {"conversations", "temporary_conversations"},
    "users": {"users", "window_new_users", "active_domains", "active_groups", "adoption", "people", "domains"},
    "groups": set(),
    "files": {"files", "stored_files"},
    "agents": {"agent_categories"},
    "transactions": {
        *("cost", "window_billed", "agent_cost", "list_cost", "group_cost", "domain_cost", "user_cost"),
    },
    "balances": {"balances"},
    "sessions": {"sessions"},
    "memoryentries": {"memory_entries", "memory_users"},
    "skills": {"skills"},
    "chatprojects": {"chat_projects"},
    "sharedlinks": {"shared_links"},
    "mcpservers": {"mcp_servers"},
    "agentapikeys": {"agent_api_keys", "agent_api_keys_used"},
    "scheduleruns": {"schedule_runs"},
    "agenttriggerdeliveries": set(),
    "agentqueuedturns": set(),
    "skillsyncstatuses": set(),
    "auditlogs": {"auditlogs"},
    "bans": {"bans"},
    "logs": {"bans"},
}


def test_the_readers_of_every_collection_are_known() -> None:
    assert READERS.keys() == set(documented_collections())


@pytest.fixture(scope="module")
def librechat_with_rights() -> Iterator[tuple[Database[Document], str]]:
    """Every metric has something to tell in this database."""
    with guarded() as (librechat, uri):
        fill(librechat, datetime.now(UTC))
        yield librechat, uri


def is_of_agents(collector: Collector) -> bool:
    """Without messages nothing is known to be an agent's."""
    return collector.name == "agent_cost"


@pytest.mark.parametrize("collection", READERS)
def test_a_collection_that_may_not_be_read_takes_down_its_readers_alone(
    librechat_with_rights: tuple[Database[Document], str], exporter: MakeExporter, collection: str
) -> None:
    librechat, uri = librechat_with_rights
    others = READERS.keys() - {collection}
    librechat.client.admin.command("updateRole", "librechatExporter", privileges=privileges(others))
    settings = {"external_model_regex": "gpt", **ON}
    one = exporter(mongodb_uri=SecretStr(uri), mongodb_database=librechat.name, **settings)
    values = one.scrape()
    success = {
        dict(labels)["collector"]: value
        for (name, labels), value in values.items()
        if name == "librechat_exporter_collector_success"
    }
    assert {name for name, value in success.items() if not value} == READERS[collection]
    told = [one for one in COLLECTORS if success.get(one.name) and not (collection == "messages" and is_of_agents(one))]
    kept = [metric for collector in told for metric in collector.metrics]
    assert {name for name, _ in values} == sample_names([*kept, *SELF_METRICS])
    stored = {dict(labels)["collection"] for name, labels in values if name == "librechat_stored_documents"}
    assert stored == others


def test_the_export_without_a_collection(
    librechat_with_rights: tuple[Database[Document], str],
    metrics: Metrics,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Agents are unknown where they may not be read; the collections that are needed are named."""
    librechat, uri = librechat_with_rights
    given = {"MONGODB_URI": uri, "MONGODB_DATABASE": librechat.name, **metrics.environment}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    for refused, code in (("agents", 0), ("transactions", 1)):
        granted = privileges(set(documented_collections()) - {refused})
        librechat.client.admin.command("updateRole", "librechatExporter", privileges=granted)
        assert command.main(["--days", "2"]) == code
    assert "MongoDB's user may not read transactions; grant it the role `read`" in capsys.readouterr().err
    assert metrics.rows("SELECT COUNT(*) FROM daily_messages") == [(2,)]

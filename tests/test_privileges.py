"""The rights that docs/security.md names suffice, and no more is possible with them."""

import json
import re
from datetime import UTC, datetime, timedelta

import mysql.connector
import pymongo
import pymongo.errors
import pytest

from librechat_exporter.historic import command
from librechat_exporter.simulator import Simulator
from tests.conftest import METRICS_PY, Document, MakeProcess
from tests.test_privacy import people
from tools.mariadb import MariaDB
from tools.mongod import Mongod

PAGE = (METRICS_PY.parent / "docs" / "security.md").read_text()


def documented_collections() -> list[str]:
    [names] = re.findall(r"\.\.\.\[(.*?)\]\.map", PAGE, re.DOTALL)
    found: list[str] = json.loads(f"[{names}]")
    return found


def documented_grants() -> str:
    [grants] = re.findall(r"GRANT (.*) ON metrics\.\* TO", PAGE)
    return str(grants)


def test_the_documented_rights_suffice_and_nothing_can_be_written(
    process: MakeProcess, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDB
) -> None:
    with Mongod("--auth") as server:
        with pymongo.MongoClient[Document](server.uri) as client:
            client.admin.command("createUser", "root", pwd="r", roles=["root"])
        address = f"127.0.0.1:{server.port}/"
        with pymongo.MongoClient[Document](f"mongodb://root:r@{address}") as client:
            now = datetime.now(UTC)
            Simulator(client["LibreChat"], users=5).fill(200, days=3, end=now - timedelta(days=1))
            for name, documents in people(now).items():
                if name not in ("users", "balances"):
                    client["LibreChat"][name].insert_many(documents)
            privileges = [
                {"resource": {"db": "LibreChat", "collection": name}, "actions": ["find", "listIndexes"]}
                for name in documented_collections()
            ]
            privileges.append({"resource": {"db": "LibreChat", "collection": ""}, "actions": ["listCollections"]})
            client.admin.command("createRole", "librechatExporter", privileges=privileges, roles=[])
            client.admin.command("createUser", "exporter", pwd="e", roles=["librechatExporter"])
        uri = f"mongodb://exporter:e@{address}"
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

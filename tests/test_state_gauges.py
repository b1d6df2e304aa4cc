"""What is in the database now: its age, what is not there, what may not be read, labels that are made one."""

import time
from datetime import UTC, datetime

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter import refreshed
from librechat_exporter.collectors import storage
from librechat_exporter.librechat import LibreChat
from tests.conftest import Document, MakeExporter
from tools.mongod import Mongod

AGE = "librechat_exporter_data_age_seconds"


def test_collections_that_are_not_there_yield_no_metric(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one({})
    one = exporter()
    values = one.scrape()
    names = {name for name, _ in values}
    for absent in ("balance_users", "balance_credits", "logged_in_users", "memory_users", "skills_total", "users"):
        assert f"librechat_{absent}" not in names
    assert values["librechat_exporter_collector_success", (("collector", "balances"),)] == 1
    database["balances"].insert_one({"user": "u", "tokenCredits": 5})
    two = exporter(state_path=":memory:")
    assert two.scrape()["librechat_balance_users", (("state", "ok"),)] == 1


def test_they_are_read_once_in_a_while(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["messages"].insert_one({})
    database["balances"].insert_one({"user": "u", "tokenCredits": 5})
    one = exporter(state_refresh=1)
    series = ("librechat_balance_credits", ())
    assert one.scrape()[series] == 5
    database["balances"].update_one({}, {"$set": {"tokenCredits": 7}})
    values = one.scrape()
    assert values[series] == 5
    assert 0 < values[AGE, (("collector", "balances"),)] < 1
    time.sleep(1)
    one.scrape()
    end = time.monotonic() + 5
    while one.scrape()[series] != 7:
        assert time.monotonic() < end
    # What takes long is read more rarely: at most a twentieth of the time.
    slow = refreshed.Refreshed[int]("slow", at_once=0.0)

    def read() -> int:
        time.sleep(0.2)
        return 1

    assert slow.get(read, time.monotonic() + 5, 1.0) == 1
    assert slow.interval == pytest.approx(0.2 / refreshed.SHARE, rel=0.2)


def test_agents_of_one_category_beyond_the_guard_add_up(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one({})
    database["agents"].insert_many({"category": f"c{number}"} for number in range(5))
    values = exporter(max_label_values=2).scrape()
    found = {labels: value for (name, labels), value in values.items() if name == "librechat_agents_total"}
    assert sum(found.values()) == 5
    assert found[("category", "other"),] == 3
    assert values["librechat_exporter_label_values_dropped_total", (("label", "category"),)] == 3


def test_domains_are_told_only_if_asked_for(database: Database[Document], exporter: MakeExporter) -> None:
    database["messages"].insert_one({})
    database["users"].insert_one({"email": "ann@example.org"})
    series = ("librechat_users_by_domain", (("domain", "example.org"),))
    assert series not in exporter().scrape()
    values = exporter(domain_metrics=True, state_path=":memory:").scrape()
    assert values[series] == 1
    assert not any("ann" in str(labels) for _, labels in values)


def test_collections_that_may_not_be_read_are_left_out() -> None:
    with Mongod("--auth") as server:
        with pymongo.MongoClient[Document](server.uri) as client:
            client.admin.command("createUser", "admin", pwd="a", roles=["root"])
        address = server.uri.removeprefix("mongodb://")
        with pymongo.MongoClient[Document](f"mongodb://admin:a@{address}") as client:
            client["lc"]["messages"].insert_one({"createdAt": datetime.now(UTC)})
            client["lc"]["keys"].insert_one({})
            privileges = [
                {"resource": {"db": "lc", "collection": "messages"}, "actions": ["find"]},
                {"resource": {"db": "lc", "collection": ""}, "actions": ["listCollections"]},
            ]
            client.admin.command("createRole", "some", privileges=privileges, roles=[])
            client.admin.command("createUser", "exporter", pwd="e", roles=["some"])
        with pymongo.MongoClient[Document](f"mongodb://exporter:e@{address}") as client:
            assert storage.read_documents(LibreChat(client, "lc", None)) == {storage.DOCUMENTS: {("messages",): 1}}

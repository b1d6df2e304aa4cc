"""Gauges of what is in the database now: their age, what is not there or may not be read, labels made one."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter import refreshed
from librechat_exporter.collectors import storage
from librechat_exporter.librechat.database import LibreChat
from tests.conftest import Document, MakeExporter
from tools.mongod import Mongod

AGE = "librechat_exporter_data_age_seconds"


def test_collections_that_are_not_there_yield_no_metric(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    database["messages"].insert_one({})
    one = exporter()
    values = one.scrape()
    names = {name for name, _ in values}
    for absent in ("balance_users", "balance_credits", "logged_in_users", "memory_users", "skills_total", "users"):
        assert f"librechat_{absent}" not in names
    assert values["librechat_exporter_collector_success", (("collector", "balances"),)] == 1
    database["balances"].insert_one({"user": "u", "tokenCredits": 5})
    two = exporter(state_path=str(tmp_path / "another.sqlite"))
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


def test_made_up_tools_and_models_end_under_other(database: Database[Document], exporter: MakeExporter) -> None:
    """Every label is bounded, in counters, histograms, windows and gauges alike, and nothing is lost from the sums."""
    now = datetime.now(UTC)
    for number in range(6):
        call = {"name": f"tool{number}_mcp_server{number}", "output": "Error processing tool"}
        message = {"isCreatedByUser": False, "model": f"model{number}", "tokenCount": 7, "createdAt": now}
        message |= {"feedback": {"rating": "thumbsUp", "tag": f"tag{number}"}, "endpoint": f"endpoint{number}"}
        database["messages"].insert_one(message | {"content": [{"type": "tool_call", "tool_call": call}]})
        charged = {"tokenType": "prompt", "rawAmount": -5, "tokenValue": -5, "createdAt": now}
        database["transactions"].insert_one(charged | {"model": f"billed{number}", "context": f"context{number}"})
    values = exporter(max_label_values=2, usage_windows="1d").scrape()
    for name, label, total in (
        ("librechat_messages_per_model_total", "model", 6),
        ("librechat_answer_tokens_count", "model", 6),
        ("librechat_thumbs_up_per_model", "model", 6),
        ("librechat_model_tag_thumbs_up", "tag", 6),
        ("librechat_window_answers_per_model", "model", 6),
        ("librechat_messages_per_model_5m", "model", 6),
        ("librechat_tool_calls_per_tool", "tool_name", 6),
        ("librechat_tool_call_errors_per_tool_total", "tool_name", 6),
        ("librechat_tool_calls_per_endpoint", "api_endpoint", 6),
        ("librechat_mcp_tool_calls_per_server", "server", 6),
        ("librechat_llm_tokens_total", "model", 30),
        ("librechat_window_background_tokens_per_model", "context", 30),
    ):
        found = {labels: value for (one, labels), value in values.items() if one == name}
        assert sum(found.values()) == total, name
        named = {dict(labels)[label] for labels in found}
        assert "other" in named, name
        assert len(named) <= 3, name
    dropped = {labels[0][1]: v for (name, labels), v in values.items() if name.endswith("label_values_dropped_total")}
    assert dropped.items() >= {"tool_name": 4, "server": 4, "api_endpoint": 4, "tag": 4, "context": 4}.items()
    assert dropped["model"] == 10, "six models of answers and six that were billed share the label"


def test_domains_are_told_only_if_asked_for(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    database["messages"].insert_one({})
    database["users"].insert_one({"email": "ann@example.org"})
    series = ("librechat_users_by_domain", (("domain", "example.org"),))
    assert series not in exporter().scrape()
    values = exporter(domain_metrics=True, state_path=str(tmp_path / "another.sqlite")).scrape()
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
            found = storage._read_documents(LibreChat(client, "lc", None))
            assert list(found.values()) == [{("messages",): 1}]

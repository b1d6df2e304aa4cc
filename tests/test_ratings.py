"""Ratings of a collection that is slow to read."""

import json
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
from pymongo.database import Database

from librechat_exporter import refreshed
from librechat_exporter.collectors import ratings
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import IS_RATED
from tests.conftest import METRICS_PY, Document, MakeExporter, MakeProcess
from tools.simulator import Simulator

UP = ("librechat_thumbs_up_total", ())
AGE = ("librechat_exporter_data_age_seconds", (("collector", "ratings"),))


def test_after_a_restart_old_ratings_serve_and_tell_their_age(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC) - timedelta(days=2)
    feedback = {"rating": "thumbsUp", "tag": "inaccurate"}
    database["messages"].insert_one({"model": "gpt-4o", "createdAt": now, "updatedAt": now, "feedback": feedback})
    read = ratings._read

    def slow(librechat: LibreChat, created: Document) -> list[Document]:
        time.sleep(0.1)
        return read(librechat, created)

    monkeypatch.setattr(ratings, "_read", slow)
    one = exporter()
    assert one.scrape()[UP] == 1
    one.close()
    time.sleep(0.5)
    database["messages"].delete_many({})
    values = exporter().scrape()
    assert values[UP] == 1
    assert values["librechat_model_tag_thumbs_up", (("model", "gpt-4o"), ("tag", "inaccurate"))] == 1
    assert 0.5 < values[AGE] < 5


def test_the_index_that_is_printed(
    database: Database[Document], exporter: MakeExporter, process: MakeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used, although it is partial, and all ratings are read soon; but no scrape waits for that if it is slow."""
    simulator = Simulator(database, users=5)
    simulator.fill(3000, days=5)
    one = process()
    command = [sys.executable, str(METRICS_PY), "--print-indexes"]
    printed = subprocess.run(command, env=one.environment, capture_output=True, text=True, check=True).stdout
    rated = database["messages"].count_documents({"feedback.rating": {"$exists": True}})
    assert f"// It holds rated messages alone, {rated} now, and takes about " in printed
    [created] = re.findall(r"^db\.messages\.createIndex\((.*)\)$", printed, re.MULTILINE)
    keys, options = json.loads(f"[{created}]")
    database["messages"].create_index(list(keys.items()), **options)
    plan = str(database["messages"].find(IS_RATED).explain()["queryPlanner"]["winningPlan"])
    assert options["name"] in plan
    again = subprocess.run(command, env=one.environment, capture_output=True, text=True, check=True).stdout
    assert "There is such an index already." in again
    read = ratings._read

    def slowly(librechat: LibreChat, created: Document) -> list[Document]:
        time.sleep(2 * refreshed.AT_ONCE_SECONDS)
        return read(librechat, created)

    monkeypatch.setattr(ratings, "_read", slowly)
    monkeypatch.setattr(ratings, "_NEWER_SECONDS", 4.0)
    rates = exporter()
    assert rates.scrape()["librechat_rated_messages_total", ()] == rated
    database["messages"].update_one({"feedback": {"$exists": False}}, {"$set": {"feedback": {"rating": "thumbsUp"}}})
    assert rates.scrape()["librechat_rated_messages_total", ()] == rated
    end = time.monotonic() + 20
    while (counted := rates.scrape()["librechat_rated_messages_total", ()]) == rated and time.monotonic() < end:
        time.sleep(0.1)
    assert counted == rated + 1

"""Ratings of a collection that is slow to read."""

import time
from datetime import UTC, datetime

import pytest
from pymongo.database import Database

from librechat_exporter.collectors import ratings
from librechat_exporter.librechat import LibreChat
from tests.conftest import Document, MakeExporter

UP = ("librechat_thumbs_up_total", ())
AGE = ("librechat_exporter_data_age_seconds", (("collector", "ratings"),))


def test_after_a_restart_old_ratings_serve_and_tell_their_age(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    feedback = {"rating": "thumbsUp", "tag": "inaccurate"}
    database["messages"].insert_one({"model": "gpt-4o", "createdAt": now, "updatedAt": now, "feedback": feedback})
    read = ratings.read

    def slow(librechat: LibreChat) -> list[Document]:
        time.sleep(0.1)
        return read(librechat)

    monkeypatch.setattr(ratings, "read", slow)
    one = exporter()
    assert one.scrape()[UP] == 1
    one.close()
    time.sleep(0.5)
    database["messages"].delete_many({})
    values = exporter().scrape()
    assert values[UP] == 1
    assert values["librechat_model_tag_thumbs_up", (("model", "gpt-4o"), ("tag", "inaccurate"))] == 1
    assert 0.5 < values[AGE] < 5

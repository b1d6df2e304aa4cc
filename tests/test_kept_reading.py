"""Readings that took long serve after a restart, as long as they are of the same database and have the same form."""

import time
from datetime import UTC, datetime, timedelta

import pymongo
import pytest
from pymongo.database import Database

from librechat_exporter import collector
from librechat_exporter.collector import RefreshedCollector, Values
from librechat_exporter.ledger import kept_reading
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.metrics.metric import Metric
from tests.conftest import Document, MakeExporter
from tools.simulator import Simulator

LENGTHS = "librechat_conversation_messages_count", ()
RATED = "librechat_rated_messages_total", ()


def of(*labels: str) -> Metric:
    return Metric(name="librechat_colours", help="Colours", type="gauge", kind="is", labels=labels)


class Colours:
    """Reads a number of colours of a shade; slowly, as far as the test says what that is."""

    def __init__(self, number: int = 2) -> None:
        self.number = number
        self.readings = 0

    def collector(self, metric: Metric, settings: str = "") -> RefreshedCollector:
        def read(_: LibreChat) -> Values:
            self.readings += 1
            shades = ("light",) * (len(metric.labels) - 1)
            return {metric: {(f'"{colour}\n', *shades): self.readings for colour in range(self.number)}}

        return RefreshedCollector("colours", (metric,), read, depends_on=settings)


@pytest.fixture(autouse=True)
def all_is_worth_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_reading, "WORTH_KEEPING_SECONDS", 0.0)


@pytest.fixture
def chats(database: Database[Document]) -> Database[Document]:
    Simulator(database, users=5).fill(40, days=2, end=datetime.now(UTC) - timedelta(hours=1))
    return database


def test_it_serves_until_it_is_due_again(chats: Database[Document], exporter: MakeExporter) -> None:
    colours, metric = Colours(), of("colour")
    one = exporter(offered=[colours.collector(metric)], state_refresh=60)
    values = one.scrape()
    assert [values["librechat_colours", (("colour", f'"{colour}\n'),)] for colour in (0, 1)] == [1, 1]
    one.close()
    time.sleep(0.5)
    again = exporter(offered=[colours.collector(metric)], state_refresh=60)
    assert again.scrape()["librechat_colours", (("colour", '"0\n'),)] == 1
    age = again.scrape()["librechat_exporter_data_age_seconds", (("collector", "colours"),)]
    assert 0.5 < age < 60
    assert colours.readings == 1
    again.close()
    soon = exporter(offered=[colours.collector(metric)], state_refresh=1)
    end = time.monotonic() + 10
    while soon.scrape()["librechat_colours", (("colour", '"0\n'),)] < 2:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_value_of_another_form_is_read_anew(chats: Database[Document], exporter: MakeExporter) -> None:
    colours = Colours()
    one = exporter(offered=[colours.collector(of("colour"))])
    one.scrape()
    one.close()
    two = exporter(offered=[colours.collector(of("colour", "shade"))])
    assert two.scrape()["librechat_colours", (("colour", '"0\n'), ("shade", "light"))] == 2
    two.close()
    values = exporter(offered=[colours.collector(of("colour", "shade"), "USAGE_WINDOWS=1d")]).scrape()
    assert values["librechat_colours", (("colour", '"0\n'), ("shade", "light"))] == 3


def test_more_than_a_thousand_series_are_read_anew(chats: Database[Document], exporter: MakeExporter) -> None:
    colours = Colours(collector._MOST_KEPT + 1)
    for reading in (1, 2):
        one = exporter(offered=[colours.collector(of("colour"))])
        one.scrape()
        assert colours.readings == reading
        one.close()


def test_another_database_shows_nothing_of_the_first(
    chats: Database[Document], mongodb_uri: str, exporter: MakeExporter
) -> None:
    chats["messages"].update_many({}, {"$set": {"feedback": {"rating": "thumbsUp"}}})
    one = exporter()
    before = one.scrape()
    assert before[RATED] == 40
    one.close()
    with pymongo.MongoClient[Document](mongodb_uri) as client:
        name = f"{chats.name}_other"
        try:
            client[name]["messages"].insert_one({"conversationId": "a", "createdAt": datetime.now(UTC)})
            values = exporter(mongodb_database=name).scrape()
        finally:
            client.drop_database(name)
    assert (values[RATED], values[LENGTHS]) == (0, 1)
    assert before[LENGTHS] > 1


def test_all_that_is_read_serves_after_a_restart(chats: Database[Document], exporter: MakeExporter) -> None:
    one = exporter()
    before = one.scrape()
    one.close()
    chats["messages"].delete_many({})
    after = exporter().scrape()
    assert after[LENGTHS] == before[LENGTHS] > 0

"""State files of earlier releases, and what changes from one release to the next: no counter falls."""

import dataclasses
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo.database import Database

from librechat_exporter.collector import CountingCollector
from librechat_exporter.collectors import all_collectors, documents, messages
from librechat_exporter.folds.messages import MessageGroup
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.ledger.state_file import StateError
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.page.health import readiness
from librechat_exporter.settings import Settings
from tests.chats import MESSAGES, TOKENS, message
from tests.conftest import Document, MakeExporter
from tests.meanings import Values
from tests.payers_oracle import PayersOracle
from tests.test_oracle import differences
from tests.weird import NOW

STATES = Path(__file__).parent / "data" / "states"
# What the documents of the state files are: of the first release, of that before counters were whole numbers, of that
# before each metric was folded by itself, and of that before cells shared their series.
RELEASES = ("ac574c4", "8324f8c", "c475de0", "f79e51a")
HAPPENED = ("_total", "_bucket", "_count", "_sum")
# These say what is there now under names that end like those of counters.
GAUGES: tuple[str, ...] = (
    *(
        "librechat_rated_",
        "librechat_thumbs_",
        "librechat_memory_entries",
        "librechat_shared_links",
        "librechat_skills",
    ),
    *("librechat_agents_total", "librechat_mcp_servers", "librechat_agent_api", "librechat_chat_projects"),
)


def counters(values: Values) -> Values:
    return {
        series: value
        for series, value in values.items()
        if series[0].endswith(HAPPENED)
        and not series[0].startswith((*GAUGES, "librechat_exporter_", "librechat_conversation_messages"))
    }


def stored() -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = json_util.loads(
        (STATES / "documents.json").read_text(), json_options=json_util.JSONOptions(tz_aware=True)
    )
    return found


def restore(database: Database[Document], release: str, folder: Path) -> Values:
    """Writes what was stored when the release stopped, and its state file. What it had shown last."""
    deleted = set(json.loads((STATES / "deleted.json").read_text()))
    for name, collection in stored().items():
        database[name].insert_many(collection)
    database["messages"].delete_many(
        {"_id": {"$in": [one["_id"] for one in stored()["messages"] if str(one["_id"]) in deleted]}}
    )
    shutil.copy(STATES / release / "ledger.sqlite", folder / "ledger.sqlite")
    shown = json.loads((STATES / release / "shown.json").read_text())
    return {(name, tuple(sorted(labels.items()))): value for name, labels, value in shown}


@pytest.mark.parametrize("release", RELEASES)
def test_a_state_file_of_an_earlier_release_goes_on(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path, release: str, caplog: pytest.LogCaptureFixture
) -> None:
    """60 of 122 messages are gone, and it is a database of another name and UUID: it is known by its documents."""
    shown = restore(database, release, tmp_path)
    database["messages"].insert_one(message(NOW, 1, isCreatedByUser=True, tokenCount=7))
    one = exporter(NOW + timedelta(seconds=1))
    values = counters(one.folded().scrape())
    before = counters(shown)
    fell = {series: (values.get(series), value) for series, value in before.items() if values.get(series, -1) < value}
    assert fell == {}
    assert values[MESSAGES] == before[MESSAGES] + 1 == 123
    assert values["librechat_input_tokens_total", ()] == before["librechat_input_tokens_total", ()] + 7
    assert "start afresh" not in caplog.text
    assert "damaged" not in caplog.text
    # Families that the release did not have are exact for what is stored; those that it had are for all that ever was.
    now = {name: list(database[name].find()) for name in stored()}
    of_now = counters(PayersOracle(now, NOW + timedelta(seconds=1), kinds=()).values)
    ever = stored() | {"messages": [*stored()["messages"], *database["messages"].find({"messageId": "m1"})]}
    of_ever = counters(PayersOracle(ever, NOW + timedelta(seconds=1), kinds=()).values)
    had = {series[0] for series in before}
    wanted = {series: value for series, value in of_now.items() if series[0] not in had}
    wanted |= {series: value for series, value in of_ever.items() if series[0] in had}
    # Fractions of before are rounded up to a whole part.
    assert differences(values, wanted, 2e-10) == {}
    one.close()
    assert counters(exporter(NOW + timedelta(seconds=1)).folded().scrape()) == values


EXTRA = Metric(name="librechat_extra_total", help="Messages again", type="counter", kind="happened", toggles=("basic",))


def test_a_new_metric_is_folded_from_history_by_itself(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its siblings go on, and what was deleted stays counted in them."""
    chats = [message(NOW - timedelta(hours=2, seconds=n), n) for n in range(40)]
    chats += [message(NOW - timedelta(seconds=n), 100 + n) for n in range(10)]
    database["messages"].insert_many(chats)
    one = exporter(NOW)
    assert one.scrape()[MESSAGES] == 50
    one.close()
    database["messages"].delete_many({"messageId": {"$in": ["m1", "m2", "m101"]}})

    def add(samples: Samples, group: MessageGroup) -> None:
        samples.add(EXTRA, group.count)

    offered = all_collectors(Settings())
    more = [*offered, CountingCollector("extra", Counting("messages", (EXTRA,), add))]
    two = exporter(NOW, offered=more)
    fold_chunk = two.daemon.ledger._history.fold_chunk
    held: list[Any] = []
    monkeypatch.setattr(two.daemon.ledger._history, "fold_chunk", held.append)
    values = two.scrape()
    assert (values[MESSAGES], values[TOKENS]) == (50, 500)
    assert ("librechat_extra_total", ()) not in values
    assert values["librechat_exporter_collector_success", (("collector", "messages"),)] == 1
    assert readiness(two.daemon) == []
    monkeypatch.setattr(two.daemon.ledger._history, "fold_chunk", fold_chunk)
    values = two.folded().scrape()
    assert (values[MESSAGES], values[TOKENS], values["librechat_extra_total", ()]) == (50, 500, 47)
    two.close()
    three = exporter(NOW, offered=more)
    database["messages"].insert_one(message(NOW, 200))
    assert three.scrape()["librechat_extra_total", ()] == 48


def test_a_metric_whose_meaning_changes_keeps_its_total(
    database: Database[Document], exporter: MakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Documents that were counted stay counted as they were, those that were not are counted in the new way."""
    database["messages"].insert_many([message(NOW - timedelta(hours=2), 1), message(NOW, 2)])
    one = exporter(NOW)
    assert one.scrape()[TOKENS] == 20
    one.close()
    changed = dataclasses.replace(
        messages._OUTPUT_TOKENS, changes=(*messages._OUTPUT_TOKENS.changes, "9.0: tokens count a hundredfold")
    )
    monkeypatch.setattr(messages, "_OUTPUT_TOKENS", changed)
    metrics = tuple(changed if one.name == changed.name else one for one in messages._METRICS)
    monkeypatch.setattr(messages, "_METRICS", metrics)
    add = Samples.add
    monkeypatch.setattr(
        Samples,
        "add",
        lambda self, metric, amount, *labels: add(self, metric, amount * (100 if metric is changed else 1), *labels),
    )
    for expected in (20 + 1000, 20 + 1000 + 1000):
        two = exporter(NOW)
        database["messages"].insert_one(message(NOW, expected))
        database["messages"].update_many({"messageId": "m2"}, {"$set": {"error": True}})
        two.daemon.ledger.tick()
        values = two.scrape()
        assert values[TOKENS] == expected
        assert values["librechat_error_messages_total", ()] == 1
        two.close()


def test_a_metric_of_another_form_is_another_metric(
    database: Database[Document],
    exporter: MakeExporter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database["users"].insert_one({"_id": message(NOW - timedelta(days=1), 1)["_id"]})
    users = ("librechat_registered_users_total", ())
    one = exporter(NOW)
    assert one.scrape()[users] == 1
    one.close()
    database["users"].delete_many({})
    monkeypatch.setattr(documents, "_USERS", dataclasses.replace(documents._USERS, parts=2))
    assert exporter(NOW).folded().scrape()[users] == 0
    assert "librechat_registered_users_total is counted in another form: it starts afresh" in caplog.text


def test_a_metric_that_is_off_for_a_while_folds_the_gap(database: Database[Document], exporter: MakeExporter) -> None:
    users, start = ("librechat_registered_users_total", ()), NOW - timedelta(days=2)
    database["users"].insert_many([{"_id": message(start, n)["_id"]} for n in range(3)])
    one = exporter(start)
    assert one.scrape()[users] == 3
    one.close()
    database["users"].delete_many({})
    off = exporter(NOW - timedelta(days=1), enable_user_metrics=False, enable_usage_window_metrics=False)
    database["users"].insert_many([{"_id": message(NOW - timedelta(days=1), 10 + n)["_id"]} for n in range(4)])
    assert users not in off.scrape()
    off.close()
    assert exporter(NOW).folded().scrape()[users] == 7


def test_a_family_that_the_state_does_not_know_is_a_defect(
    database: Database[Document], exporter: MakeExporter
) -> None:
    """A fold counts nothing that is not among its metrics: it would be missing in every state file."""
    one = exporter(NOW)
    one.scrape()
    source = one.daemon.ledger._sources["messages"]
    with pytest.raises(KeyError, match="librechat_extra_total"):
        source.add((EXTRA.name, ()), 1)


def test_a_file_that_an_earlier_release_has_called_its_own_goes_on(
    database: Database[Document], exporter: MakeExporter, tmp_path: Path
) -> None:
    """After a rollback that went wrong, and back."""
    database["messages"].insert_many([message(NOW - timedelta(days=1, seconds=n), n) for n in range(40)])
    one = exporter(NOW)
    assert one.folded().scrape()[MESSAGES] == 40
    one.close()
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 2")
    database["messages"].delete_many({"messageId": {"$in": ["m1", "m2", "m3"]}})
    two = exporter(NOW)
    assert two.scrape()[MESSAGES] == 40
    assert two.daemon.ledger.persistent


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("PRAGMA user_version = 4", "was written by a newer release, in form 4, and this one knows form 3: run that"),
        ("ALTER TABLE open RENAME COLUMN shape TO form", "is of no form that is known"),
    ],
)
def test_a_file_of_an_unknown_form_is_not_touched(
    exporter: MakeExporter, tmp_path: Path, command: str, told: str
) -> None:
    one = exporter(NOW)
    one.scrape()
    one.close()
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(command)
    before = path.read_bytes()
    with pytest.raises(StateError, match=f"STATE_PATH {path} {told}"):
        exporter(NOW)
    assert path.read_bytes() == before


def test_a_file_that_is_not_the_exporters_is_not_touched(exporter: MakeExporter, tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theirs (a)")
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StateError, match="is a database of another program; name a file of the exporter's own"):
        exporter(NOW, state_path=str(path))
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.glob("other.sqlite-*")) == []

"""What comes during a stop or an outage, or is sealed while history is missing, counts once, whatever happens.

MongoDB is a list of `_id`s here: what it answers, and in which moment it fails, is the test's to say.
"""

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Counting, Fold, Found, Reading
from librechat_exporter.ledger.ledger import Ledger
from librechat_exporter.ledger.membership import Membership
from librechat_exporter.ledger.state_file import Seen, State
from librechat_exporter.ledger.windowed import Windows
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from tests.chats import object_id

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ONE = Metric(name="one_total", help="", type="counter", kind="happened")
TWO = Metric(name="two_total", help="", type="counter", kind="happened")


def _nothing(_what: str) -> None:
    pass


class Stored:
    """All collections hold these documents: by `_id`, whether it is still being written. before: called with what is
    asked for, before it is answered."""

    name, tenant, may_lag = "LibreChat", None, False

    def __init__(self) -> None:
        self.now_is = START
        self.documents: dict[bytes, bool] = {}
        self.users: list[str] = []
        self.before: Callable[[str], None] = _nothing

    def put(self, moment: datetime, *, unsettled: bool = False) -> None:
        self.documents[object_id(moment, len(self.documents)).binary] = unsettled

    def put_each(self, seconds: int, count: int, first: datetime) -> None:
        for number in range(count):
            self.put(first + number * seconds * SECOND)

    def matching(self, match: Document) -> list[bytes]:
        ids = match["_id"]
        compared = {"$gte": "__ge__", "$lt": "__lt__", "$lte": "__le__"}
        return [
            one
            for one in sorted(self.documents)
            if all(getattr(one, compared[how])(ids[how].binary) for how in compared if how in ids)
            and ("$in" not in ids or ObjectId(one) in ids["$in"])
            and ObjectId(one) not in ids.get("$nin", ())
        ]

    def now(self) -> datetime:
        return self.now_is

    def now_and_ids(self, starts: Mapping[str, bytes], most: int) -> tuple[datetime, dict[str, list[bytes]]]:
        return self.now_is, {name: self.ids(name, start, most) for name, start in starts.items()}

    def ids(self, _collection: str, start: bytes, most: int) -> list[bytes]:
        self.before("ids")
        return self.matching({"_id": {"$gte": ObjectId(start)}})[:most]

    def id_after(self, _collection: str, start: ObjectId, end: ObjectId, skip: int) -> ObjectId | None:
        self.before("id_after")
        return next((ObjectId(one) for one in self.matching({"_id": {"$gte": start, "$lt": end}})[skip:]), None)

    def rows(self, _collection: str, match: Document, _row: Document, most: int) -> Iterator[tuple[bytes, bytes]]:
        for one in self.matching(match)[:most]:
            self.before("row")
            yield one, bson.encode({"_id": ObjectId(one), "unsettled": self.documents[one]})

    def decode(self, row: bytes) -> Document:
        return bson.decode(row)

    def stream(self, _collection: str, _match: Document, _project: Document) -> Iterator[Document]:
        for user in self.users:
            yield {"_id": user, "external": "", "domain": "", "created": 0}

    def inserted_last(self, _collection: str, before: ObjectId) -> ObjectId | None:
        return None

    def newest_id(self, _collection: str) -> ObjectId | None:
        return ObjectId(max(self.documents))

    def newest_time(self, _collections: object) -> datetime:
        return self.now_is  # of whatever collection

    def has_foreign_ids(self, _collection: str) -> bool:
        return False

    def identity(self, _collection: str = "messages") -> str:
        return "uuid"

    def found(self, _collection: str, _ids: object) -> bool:
        return True

    def spread_ids(self, _collection: str, number: int) -> list[bytes]:
        return sorted(self.documents)[:number]


class Counts(Fold[int]):
    """Each document counts 1 in each metric. finished: what one that is open counts when it is finished."""

    row: Document = {"_id": 1}  # noqa: RUF012

    def __init__(self, name: str, *metrics: Metric) -> None:
        super().__init__([Counting(name, (metric,), lambda _samples, _group: None) for metric in metrics])
        self.name = self.collection = name
        self.members_of_history: list[str] = []
        self.finished = 1

    def _samples(self, reading: Reading, count: int) -> Samples:
        samples = reading.samples()
        for metric in self.metrics if count else ():
            samples.add(metric, count)
        return samples

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        counts = [(1 if row["unsettled"] else self.finished, row["unsettled"]) for row in rows]
        return [Found(self._samples(reading, count), unsettled=unsettled) for count, unsettled in counts], {}

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        self.members_of_history = sorted(reading.members or ())
        return self._samples(reading, len(cast(Stored, reading.librechat).matching(match))), {}


class Life:
    """A ledger of what is stored, from one start to the next. Nothing runs by itself."""

    def __init__(self, stored: Stored, path: Path) -> None:
        self.stored = stored
        self._path = path
        self.ledger: Ledger

    def start(self, *folds: Counts) -> None:
        state = State(str(self._path))
        librechat = cast(LibreChat, self.stored)
        windows = Windows({"1d": timedelta(days=1)}, ZoneInfo("UTC"))
        self.ledger = Ledger(
            *(librechat, state, folds, LabelGuard(200, 5000, state.labels()), 10, windows),
            Membership(librechat, 60, groups=False),
            monotonic=lambda: self.stored.now_is.timestamp(),
        )

    def stop(self) -> None:
        self.ledger.close(0)

    @property
    def messages(self) -> Any:
        return self.ledger._sources["messages"]

    def scrape(self) -> None:
        began = time.monotonic()
        self.ledger.refresh("messages", self.stored.now(), began, began + 5)
        self.ledger.save()

    def fold_history(self) -> None:
        for source in self.ledger._sources.values():
            while not source.history_folded.is_set():
                self.ledger._history.fold_chunk(source)

    def counted(self, metric: Metric = ONE) -> float:
        self.fold_history()
        return self.ledger.totals.values(metric)[()]


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """Five minutes of sixty messages are counted; of more than 200 unread ones a gap is made."""
    monkeypatch.setattr("librechat_exporter.ledger.open_documents._MOST_UNREAD", 200)
    one = Life(Stored(), tmp_path / "ledger.sqlite")
    one.stored.put_each(5, 60, START - 300 * SECOND)
    one.start(Counts("messages", ONE))
    one.ledger.tick()
    assert one.counted() == 60
    yield one
    one.stop()


def stop_one_answer(life: Life) -> None:
    """It stays unfinished, and open, for good."""
    life.stored.put(START - 151 * SECOND, unsettled=True)
    life.scrape()


def restart(life: Life, *metrics: Metric, finished: int = 1) -> None:
    life.stop()
    fold = Counts("messages", ONE, *metrics)
    fold.finished = finished
    life.start(fold)


def pass_minutes(life: Life, first: int, last: int, *, unsettled: bool = False) -> None:
    """In each two documents come, of which the first stays unfinished if unsettled is set."""
    for minute in range(first, last):
        life.stored.now_is = START + minute * MINUTE
        life.stored.put(life.stored.now_is - 2 * SECOND, unsettled=unsettled)
        life.stored.put(life.stored.now_is - SECOND)
        life.ledger.poll()
        life.ledger.tick()


def finish_all(life: Life) -> None:
    life.stored.documents = dict.fromkeys(life.stored.documents, False)


def test_a_gap_is_missed_once_though_what_follows_cannot_be_read_at_first(life: Life) -> None:
    stop_one_answer(life)
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    restart(life)

    def fail_once(what: str) -> None:
        if what == "ids" and life.messages.counted[ONE.name].missing:
            life.stored.before = _nothing
            raise AutoReconnect("reset")

    life.stored.before = fail_once
    with pytest.raises(AutoReconnect):
        life.scrape()
    life.stored.now_is += 15 * SECOND
    life.ledger.tick()
    assert life.counted() == 3061


def test_a_gap_is_missed_once_though_nothing_has_come_for_an_hour(life: Life) -> None:
    stop_one_answer(life)
    life.stored.put_each(3, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=6)
    restart(life)
    life.scrape()
    life.stored.now_is += 60 * SECOND
    life.ledger.tick()
    assert life.counted() == 3061


def test_what_is_polled_while_a_gap_is_made_counts_once(life: Life) -> None:
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    rows = 0

    def end_after_some(what: str) -> None:
        nonlocal rows
        rows += what == "row"
        if rows > 1600:
            raise AutoReconnect("its time is up")

    def poll_first(what: str) -> None:
        if what == "id_after" and threading.current_thread() is threading.main_thread():
            life.stored.before = end_after_some
            poller = threading.Thread(target=life.ledger.poll)
            poller.start()
            poller.join()
            life.stored.before = _nothing

    life.messages.is_read = True
    life.stored.before = poll_first
    life.ledger._tried(life.messages)
    life.ledger.tick()
    assert rows > 1600
    assert life.counted() == 3060


def test_a_long_stop_after_a_quiet_hour_makes_a_gap(life: Life) -> None:
    life.stored.now_is += timedelta(hours=2)
    life.ledger.poll()
    life.ledger.tick()
    assert not life.messages.cells
    life.stop()
    life.stored.put_each(60, 3000, life.stored.now_is + 60 * SECOND)
    life.stored.now_is += timedelta(seconds=60 + 60 * 3000)
    life.start(Counts("messages", ONE))
    life.scrape()
    assert len(life.messages.cells) < 100
    assert life.counted() == 3060


def test_a_gap_is_charged_to_users_who_came_in_it(life: Life) -> None:
    assert not life.ledger.membership.members()
    life.stored.users = ["ann"]
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    life.ledger.tick()
    assert life.counted() == 3060
    assert life.messages.fold.members_of_history == ["ann"]


def test_a_gap_waits_for_users_who_cannot_be_read_at_first(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.membership._PATIENCE_SECONDS", 0.1)
    assert not life.ledger.membership.members()
    life.stored.users = ["ann"]

    go = threading.Event()

    def slow(*_arguments: object) -> Iterator[Document]:
        go.wait(20)
        yield from ()

    with monkeypatch.context() as patch:
        patch.setattr(life.stored, "stream", slow)
        life.stored.put_each(6, 3000, START + 60 * SECOND)
        life.stored.now_is += timedelta(hours=5, minutes=1)
        life.ledger.tick()
        with pytest.raises(TimeoutError, match="users have not been read since the gap"):
            life.fold_history()
        assert not life.ledger.membership.members(), "others go on with those of before"
        go.set()
    life.ledger.membership.renew()
    assert life.counted() == 3060
    assert life.messages.fold.members_of_history == ["ann"]


def test_users_who_cannot_be_read_after_a_gap_are_not_waited_for_without_end(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise AutoReconnect("reset")

    assert not life.ledger.membership.members()
    monkeypatch.setattr(life.stored, "stream", refuse)
    life.stored.put_each(6, 3000, START + 60 * SECOND)
    life.stored.now_is += timedelta(hours=5, minutes=1)
    life.ledger.tick()
    with pytest.raises(TimeoutError):
        life.fold_history()
    monkeypatch.setattr("librechat_exporter.ledger.membership._WAITED_FOR", 0.0)
    assert life.counted() == 3060


@pytest.mark.parametrize("is_finished", [False, True])
def test_what_is_kept_open_counts_once_in_a_new_metric(life: Life, *, is_finished: bool) -> None:
    pass_minutes(life, 1, 75, unsettled=True)
    if is_finished:
        finish_all(life)
    life.stored.now_is += MINUTE
    restart(life, TWO)
    for _ in range(4):
        life.ledger.tick()
        life.stored.now_is += timedelta(minutes=1)
    assert (life.counted(ONE), life.counted(TWO)) == (208, 208)
    life.ledger.tick()
    assert not [one for one in life.messages.order if one < object_id(START, 0).binary]


@pytest.fixture
def answered(life: Life) -> Life:
    """An answer that began twenty minutes ago is kept open; finished, it counts 10."""
    life.messages.fold.finished = 10
    life.stored.put(START, unsettled=True)
    life.ledger.tick()
    pass_minutes(life, 1, 21)
    assert life.messages.order[0] < life.messages.open_from
    return life


@pytest.mark.parametrize("gap", [0, 3000])
def test_an_answer_that_is_kept_open_is_read_after_a_restart_before_it_is_sealed(answered: Life, gap: int) -> None:
    before = answered.counted()
    finish_all(answered)
    answered.stored.put_each(6, gap, answered.stored.now_is + SECOND)
    answered.stored.now_is += 301 * MINUTE if gap else SECOND
    restart(answered, finished=10)
    failing = ["row"]

    def fail_once(what: str) -> None:
        if what in failing:
            failing.remove(what)
            raise AutoReconnect("reset")

    answered.stored.before = fail_once
    with pytest.raises(AutoReconnect):
        answered.ledger.tick()
    answered.stored.now_is += MINUTE
    answered.ledger.tick()
    still_open = len(answered.messages.order) if gap else 0
    assert answered.counted() == before + 9 + gap + 9 * still_open


def test_an_answer_that_is_kept_open_is_not_sealed_by_a_tick_that_reads_nothing(answered: Life) -> None:
    def fail(what: str) -> None:
        if what == "row":
            raise AutoReconnect("recovering")

    before = answered.counted()
    finish_all(answered)
    answered.stored.now_is += 45 * MINUTE
    answered.stored.before = fail
    with pytest.raises(AutoReconnect):
        answered.ledger.tick()
    answered.stored.before = _nothing
    answered.ledger.tick()
    assert answered.counted() == before + 9


def test_a_metric_that_goes_off_while_its_history_is_missing_counts_once(life: Life) -> None:
    pass_minutes(life, 1, 40, unsettled=True)
    life.stored.now_is += MINUTE
    restart(life, TWO)
    life.ledger.tick()
    restart(life)
    finish_all(life)
    for _ in range(80):
        life.stored.now_is += MINUTE
        life.ledger.tick()
    restart(life, TWO)
    life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == len(life.stored.documents)


def test_a_metric_that_goes_off_before_anything_was_read_misses_nothing_later(life: Life) -> None:
    restart(life, TWO)
    restart(life)
    life.ledger.tick()
    pass_minutes(life, 1, 30)
    restart(life, TWO)
    life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == len(life.stored.documents)


def test_a_metric_that_changes_its_meaning_while_it_is_off_counts_what_is_open(life: Life) -> None:
    restart(life, TWO)
    life.ledger.tick()
    assert life.counted(TWO) == 60
    restart(life)
    pass_minutes(life, 1, 60)
    restart(life, dataclasses.replace(TWO, changes=("9.0: all of them",)))
    life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == len(life.stored.documents)


def test_a_metric_that_changes_its_form_after_its_meaning_counts_what_is_open(life: Life) -> None:
    for changed in ({}, {"changes": ("9.0: all of them",)}, {"changes": ("9.0: all of them",), "parts": 2}):
        restart(life, dataclasses.replace(TWO, **changed))
        life.ledger.tick()
    assert life.counted(TWO) == life.counted(ONE) == 60


def test_a_tick_that_is_too_slow_seals_what_it_has_read(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("librechat_exporter.ledger.open_documents.READ_AT_ONCE", 50)
    asked = 0

    def fail_the_second_time(what: str) -> None:
        nonlocal asked
        asked += what == "ids" and threading.current_thread() is threading.main_thread()
        if asked > 1:
            raise AutoReconnect("timed out")

    for minute in range(1, 31):
        life.stored.now_is = START + timedelta(minutes=minute)
        life.stored.put_each(2, 30, life.stored.now_is - 60 * SECOND)
        life.ledger.poll()
        asked, life.stored.before = 0, fail_the_second_time
        with pytest.raises(AutoReconnect):
            life.ledger.tick()
        life.stored.before = _nothing
    assert len(life.messages.cells) < 500
    assert life.counted() == 60 + 30 * 30

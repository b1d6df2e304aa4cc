"""A ledger's life without MongoDB, which is a list of `_id`s here: what it answers, and in which moment it fails, is
the test's to say.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo

import bson
import pytest
from bson import ObjectId

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


def nothing(_what: str) -> None:
    pass


class Stored:
    """All collections hold these documents: by `_id`, whether it is still being written. ahead: by so much MongoDB's
    clock is wrong. before: called with what is asked for, before it is answered."""

    name, tenant, may_lag = "LibreChat", None, False

    def __init__(self) -> None:
        self.now_is = START
        self.ahead = timedelta(0)
        self.documents: dict[bytes, bool] = {}
        self.users: list[str] = []
        self.before: Callable[[str], None] = nothing

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
        return self.now_is + self.ahead

    def now_and_ids(self, starts: Mapping[str, bytes], most: int) -> tuple[datetime, dict[str, list[bytes]]]:
        return self.now(), {name: self.ids(name, start, most) for name, start in starts.items()}

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
        return self.now()  # of whatever collection

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


def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    """Five minutes of sixty messages are counted; of more than 200 unread ones a gap is made."""
    monkeypatch.setattr("librechat_exporter.ledger.open_documents._MOST_UNREAD", 200)
    one = Life(Stored(), tmp_path / "ledger.sqlite")
    one.stored.put_each(5, 60, START - 300 * SECOND)
    one.start(Counts("messages", ONE))
    one.ledger.tick()
    assert one.counted() == 60
    yield one
    one.stop()


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

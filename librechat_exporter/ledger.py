"""Counters that never lie: what happened is counted once and stays counted.

A fold turns documents of one collection, an `_id` range at a time, into samples. The last LEDGER_OPEN_MINUTES of
documents are open: they are folded again when they change, because answers are still being written. Each open document
has a cell with the most that it ever counted as, per exported series, and only what exceeds that is added to the
totals; so nothing that is deleted or rewritten takes anything back. A document older than that is sealed: its cell is
dropped. What was there before the first start, or came during a long stop, is history, folded in the background, chunk
by chunk.
"""

import contextvars
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import pymongo
from bson import ObjectId
from pymongo.errors import PyMongoError

from librechat_exporter.faults import FaultLog, HistoryPendingError, describe
from librechat_exporter.fields import Document, changed_since
from librechat_exporter.fold import Fold, Reading, Source
from librechat_exporter.last_seen import SEEN_KEPT, LastSeen, merge
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import SUM, Family, LabelGuard, LabelValues, Metric
from librechat_exporter.state import Cell, Seen, SourceState, State
from librechat_exporter.windows import WindowSource

log = logging.getLogger(__name__)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

TICK_SECONDS = 60.0
# LibreChat's clock, which stamps a change, may be this much behind MongoDB's. What is missed so, the next tick finds.
CLOCK_DIFFERENCE = timedelta(seconds=60)
_TICK_DEADLINE = 20.0
_CHUNK_DEADLINE = 30.0
_CHUNK_SECONDS = 1.0
_CHUNK_DOCUMENTS = (100, 40_000)  # least, most
_PIECES = 8
_SIDE_BY_SIDE = 2
_PROGRESS_LOG_SECONDS = 10.0
_LEAST_PAUSE, _MOST_PAUSE = 1.0, 15.0
# Documents that fit well into one answer of the server, which is 16 MB at most.
_READ_AT_ONCE = 20_000
END = ObjectId("f" * 24)


class Ledger:
    """All sources, their totals and the last-seen table. Safe for use from several threads."""

    def __init__(
        self,
        librechat: LibreChat,
        state: State,
        folds: Collection[Fold],
        open_minutes: int,
        max_values: int,
        seen_kept: timedelta = SEEN_KEPT,
        user_salt: str = "",
    ) -> None:
        """seen_kept, user_salt: of LastSeen."""
        self._librechat = librechat
        self._state = state
        self._open = timedelta(minutes=open_minutes)
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._faults = FaultLog()
        self._identity_lock = threading.Lock()
        self._identity_checked = False
        self._unsaved_labels: list[tuple[str, str]] = []
        self._examined: set[str] = set()
        # MongoDB's clock when it was last believed, and when that was (time.monotonic()).
        self._believed: tuple[datetime, float] | None = None
        self._save_failed = False
        self._closed = False
        self.guard = LabelGuard(max_values, state.labels())
        self._sources = {fold.name: self._load(fold) for fold in folds}
        self._last_seen = LastSeen(state, seen_kept, user_salt)
        self.user_key = self._last_seen.user_key
        self._threads: list[threading.Thread] = []

    def _load(self, fold: Fold) -> Source:
        stored = self._state.source(fold.name)
        if stored is not None and stored.version != fold.version:
            log.warning("%s are counted in a new way: they start afresh from what is stored", fold.name)
            self._state.forget_source(fold.name, fold.kinds)
            stored = None
        return fold.source(stored)

    # What the collectors read.

    def refresh(self, name: str, now: datetime, since: float, deadline: float) -> None:
        """Folds what is new in the source, unless that was done since then (time.monotonic()).

        Raises HistoryPendingError or TimeoutError at the deadline (time.monotonic()), PyMongoError.
        """
        source = self._sources[name]
        self._check_identity()
        self._plan(source, self.trusted(now))
        if not source.history_folded.wait(max(0.0, deadline - time.monotonic())):
            raise HistoryPendingError(f"{source.progress():.0%} of the history of {name} is folded")
        with self._folding(source, deadline):
            if source.fresh < since:
                begun = time.monotonic()
                self._fold_open(source, now)
                source.fresh = begun

    def values(self, metric: Metric) -> dict[LabelValues, float]:
        """The metric's totals by label values; a metric without labels is 0 when nothing was counted."""
        with self._lock:
            source = next(source for source in self._sources.values() if metric in source.fold.metrics)
            totals = source.state.totals
            values = {labels: total for (name, labels), total in totals.items() if name == metric.name}
        if metric.parts != 1:
            is_histogram = metric.type == "histogram"
            for labels, total in values.items():
                if not is_histogram or labels[-1] == SUM:
                    values[labels] = total / metric.parts
        if not metric.labels and metric.type != "histogram":
            values.setdefault((), 0)
        return values

    def family(self, metric: Metric) -> Family:
        return metric.family(self.values(metric))

    def in_windows(self, metric: Metric, now: datetime) -> dict[LabelValues, float]:
        """The totals of a metric whose last label is the window, for each window that ends now."""
        with self._lock:
            for source in self._sources.values():
                if isinstance(source, WindowSource) and metric in source.fold.metrics:
                    return source.in_windows(metric, now)
        raise KeyError(metric.name)

    def count_seen(self, kind: str, since: datetime) -> int:
        """Distinct users of this kind seen since then."""
        with self._lock:
            return self._last_seen.count(kind, since)

    def seen(self, kind: str) -> dict[str, float]:
        """When each user was last seen with this kind, as a Unix time. The same object until that changes."""
        with self._lock:
            return self._last_seen.of_kind(kind)

    def keep(self, name: str, value: str) -> None:
        """Keeps a text across restarts, as long as the database is the same. If that fails, it is not kept."""
        with self._lock:
            try:
                self._state.keep(name, value)
            except sqlite3.Error as error:
                log.debug("%s could not be kept: %s", name, describe(error))

    def kept(self, name: str) -> str | None:
        """What was kept under this name."""
        with self._lock:
            return self._state.kept(name)

    @property
    def persistent(self) -> bool:
        """Whether all that was shown is on disk."""
        return self._state.on_disk and not self._save_failed

    def progress(self) -> dict[str, float]:
        """The share of history that is folded, by collection."""
        return {name: source.progress() for name, source in self._sources.items()}

    # The background.

    def start(self) -> None:
        """Starts the ticker, and for each source a thread that folds its history when there is some."""
        self._threads = [threading.Thread(target=self._tick_forever, name="ticker", daemon=True)]
        for source in self._sources.values():
            name = f"history-{source.fold.name}"
            self._threads.append(
                threading.Thread(target=self._fold_history_forever, args=(source,), name=name, daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def close(self, seconds: float = 2.0) -> None:
        """Stops the background, waiting that long at most for what it is doing, and closes the state file."""
        self._stop.set()
        for source in self._sources.values():
            source.history_wanted.set()
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            for source in self._sources.values():
                self._save(source)
            self._state.close()
            self._closed = True

    def tick(self) -> None:
        """Folds all that is open everywhere, so that no scrape has a long gap to read. Raises what failed first."""
        with pymongo.timeout(_TICK_DEADLINE):
            self._check_identity(again=True)
            now = self._librechat.now()
            believed = self.trusted(now)
            errors: list[Exception] = []
            for source in self._sources.values():
                try:
                    self._plan(source, believed)
                    with source.folding:
                        begun = time.monotonic()
                        source.read_until = None  # all that is open, not just what seems to have changed
                        self._fold_open(source, now)
                        source.fresh = begun
                    with self._lock:
                        source.expire(believed)
                except Exception as error:  # noqa: BLE001
                    errors.append(error)  # one source must not keep the others from being folded
        with self._lock:
            self._last_seen.forget_old(believed)
            if not self._state.on_disk and self._state.return_to_disk():
                log.info("STATE_PATH can be written now: the counters are on disk")
        if errors:
            raise errors[0]

    def trusted(self, now: datetime) -> datetime:
        """MongoDB's clock, as far as it may decide what is sealed or forgotten, for neither can be undone: a clock that
        is suddenly ahead is believed at twice the pace of time, until it is right again or has been caught up with.
        """
        passed = time.monotonic()
        with self._lock:
            if self._believed is not None:
                before, at = self._believed
                limit = before + timedelta(seconds=2 * (passed - at)) + CLOCK_DIFFERENCE
                if now > limit:
                    return limit
            self._believed = now, passed
        return now

    def _tick_forever(self) -> None:
        while not self._stop.is_set():
            with self._reported("The ledger's ticker"):
                self.tick()
            self._stop.wait(TICK_SECONDS)

    def _fold_history_forever(self, source: Source) -> None:
        pause = _LEAST_PAUSE
        while not self._stop.is_set():
            source.history_wanted.wait()
            source.history_wanted.clear()
            while source.is_planned and not source.history_folded.is_set() and not self._stop.is_set():
                with self._reported(f"Folding the history of {source.fold.name}"):
                    self._fold_chunk(source)
                    pause = _LEAST_PAUSE
                    continue
                self._stop.wait(pause)
                pause = min(pause * 2, _MOST_PAUSE)

    @contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """Keeps a background thread alive whatever happens in it, and says what did."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            if not self._stop.is_set():
                self._faults.failed(what, error)
        else:
            self._faults.succeeded(what)

    # Folding. source.folding is held while documents are read, the ledger's lock while they are added.

    @contextmanager
    def _folding(self, source: Source, deadline: float) -> Iterator[None]:
        if not source.folding.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"{source.fold.name} were still being folded")
        try:
            yield
        finally:
            source.folding.release()

    def _plan(self, source: Source, now: datetime) -> None:
        """Decides what is history. A gap longer than the open minutes is, so that no scrape has to read it."""
        limit = now - self._open
        with self._lock:
            state = source.state
            settled = source.is_planned and state.folded == state.open_from
            read_until = source.read_until or state.folded.generation_time
            is_gap = settled and min(limit - state.folded.generation_time, limit - read_until) > self._open
            if settled and not is_gap:
                source.history_folded.set()
        if is_gap or not source.is_planned:
            newest = self._librechat.newest_id(source.fold.collection)
            with self._lock:
                if source.state is state and state.folded == state.open_from:
                    state.folded = max(state.folded, source.fold.beginning(now))
                    state.open_from = self._opening(state.folded, now, newest)
                    source.is_planned = True
                    source.history_folded.clear()
        if not source.history_folded.is_set():
            source.history_wanted.set()

    def _opening(self, before: ObjectId, now: datetime, newest: ObjectId | None) -> ObjectId:
        """Where the open documents begin. Not after the newest: a clock that is ahead must not seal what is to come."""
        if newest is None:
            return before
        after_newest = ObjectId((int.from_bytes(newest.binary) + 1).to_bytes(12)) if newest != END else newest
        return max(before, min(ObjectId.from_datetime(now - self._open), after_newest))

    def _fold_open(self, source: Source, now: datetime) -> None:
        state = source.state
        if source.read_until is not None and now < source.read_until - CLOCK_DIFFERENCE:
            log.warning("MongoDB's clock went back by %.0f s", (source.read_until - now).total_seconds())
        changed: Document = {}
        if source.read_until is not None and source.newest is not None:
            # By the documents' own time: the clock could have jumped since they were written.
            newest = min(now, source.newest.generation_time)
            changed = changed_since(newest - CLOCK_DIFFERENCE)
        found: dict[ObjectId, Cell] = {}
        seen: Seen = {}
        start = state.open_from
        while True:
            match = {"_id": {"$gte": start}} | changed
            some, users = source.fold.fold_open(self._reading(match, now), state.cells, _READ_AT_ONCE)
            found |= some
            merge(seen, users)
            if len(some) < _READ_AT_ONCE:
                break
            start = max(some)
        with self._lock:
            self._last_seen.add(seen)
            for document, cell in found.items():
                source.raise_cell(document, cell)
            source.newest = max(filter(None, (source.newest, *found)), default=None)
            source.read_until = now
            if source.history_folded.is_set():
                opening = self._opening(state.open_from, self.trusted(now), source.newest)
                state.folded = state.open_from = opening
                source.drop_cells(opening)
            self._save(source)

    def _fold_chunk(self, source: Source) -> None:
        """The next chunk of a source's history. The one after it is larger or smaller, as this one took long or not."""
        least, most = _CHUNK_DOCUMENTS
        with source.folding:
            if source.history_folded.is_set() or not source.is_planned:  # another database has come meanwhile
                return
            started = time.monotonic()
            try:
                with pymongo.timeout(_CHUNK_DEADLINE):
                    self._read_chunk(source)
            except PyMongoError:
                source.chunk = max(least, source.chunk // 4)  # it may have been too much at once
                raise
        took = time.monotonic() - started
        if took < _CHUNK_SECONDS / 2:
            source.chunk = min(most, source.chunk * 2)
        elif took > _CHUNK_SECONDS * 2:
            source.chunk = max(least, source.chunk // 2)
        if source.history_folded.is_set():
            log.info("History of %s is folded", source.fold.name)
        elif started - source.logged > _PROGRESS_LOG_SECONDS:
            source.logged = started
            log.info("History of %s: %.0f %% folded", source.fold.name, 100 * source.progress())

    def _read_chunk(self, source: Source) -> None:
        state, fold = source.state, source.fold
        start, end = state.folded, state.open_from
        if source.first is None:
            source.first = self._librechat.id_after(fold.collection, start, end, 0) or end
            if fold.collection not in self._examined and self._librechat.has_foreign_ids(fold.collection):
                log.warning("%s holds documents whose _id is not an ObjectId: they are not counted", fold.collection)
            self._examined.add(fold.collection)
        pieces = self._pieces(source, start, end)
        end = pieces[-1]["$lt"]
        now = self._librechat.now()
        # Documents that were open when the exporter stopped are in the totals already: only their growth counts.
        known = [document for document in state.cells if start <= document < end]
        skip: Document = {"$nin": known} if known else {}
        folded = _side_by_side(lambda ids: fold.fold_history(self._reading({"_id": ids | skip}, now)), pieces)
        grown: dict[ObjectId, Cell] = {}
        seen_open: Seen = {}
        if known:
            grown, seen_open = fold.fold_open(self._reading({"_id": {"$in": known}}, now), state.cells, len(known))
        with self._lock:
            self._last_seen.add(seen_open)
            for samples, seen in folded:
                self._last_seen.add(seen)
                for series, amount in samples.items():
                    source.add(series, amount)
            for document, cell in grown.items():
                source.raise_cell(document, cell)
            source.drop_cells(end)
            state.folded = end
            self._save(source, always=True)
            if end == state.open_from:
                source.history_folded.set()

    def _reading(self, match: Document, now: datetime) -> Reading:
        return Reading(self._librechat, match, now, self.guard)

    def _pieces(self, source: Source, start: ObjectId, end: ObjectId) -> list[Document]:
        """`_id` ranges that follow each other from start on: a chunk, in pieces that fit into little memory."""
        pieces: list[Document] = []
        while start < end and len(pieces) < _PIECES:
            stop = self._librechat.id_after(source.fold.collection, start, end, max(1, source.chunk // _PIECES)) or end
            pieces.append({"$gte": start, "$lt": stop})
            start = stop
        return pieces or [{"$gte": start, "$lt": end}]

    # State. Each of these is called with the ledger's lock held.

    def _save(self, source: Source, *, always: bool = False) -> None:
        """Commits what changed, before anybody sees it. If that fails it is kept for the next time."""
        self._unsaved_labels += self.guard.take_unsaved()
        if self._closed or not (always or source.has_changes or self._last_seen.unsaved or self._unsaved_labels):
            return
        state = source.state
        changed = SourceState(
            state.version,
            state.folded,
            state.open_from,
            {series: source.total(series) for series in source.changed_totals},
            {document: state.cells[document] for document in source.changed_cells},
        )
        try:
            self._state.save(
                source.fold.name,
                changed,
                source.dropped_cells,
                source.expired,
                self._last_seen.unsaved,
                self._unsaved_labels,
            )
        except sqlite3.Error as error:
            if not self._save_failed:
                log.error("STATE_PATH cannot be written (%s): counters may fall at the next restart", error)  # noqa: TRY400
            self._save_failed = True
            return
        if self._save_failed:
            log.info("STATE_PATH can be written again; nothing was lost")
        self._save_failed = False
        source.changes_saved()
        self._last_seen.unsaved = {}
        self._unsaved_labels = []

    def _check_identity(self, *, again: bool = False) -> None:
        """Binds the state to the database; another database starts afresh. Raises PyMongoError."""
        if self._identity_checked and not again:
            return
        with self._identity_lock:
            if not self._identity_checked or again:
                self._bind(self._librechat.identity())
                self._identity_checked = True

    def _bind(self, identity: str | None) -> None:
        found = {"messages": identity, "database": self._librechat.name, "tenant": self._librechat.tenant}
        with self._lock:
            bound = self._state.binding()
            if bound == found:
                return
            # A messages collection that is not there, or was not, tells nothing.
            nothing_told = None in (identity, bound.get("messages")) and {**bound, "messages": identity} == found
            if not bound or nothing_told:
                if not bound or identity is not None:
                    self._state.bind(found)
                return
        self._start_afresh(found)

    def _start_afresh(self, binding: dict[str, str | None]) -> None:
        log.warning("This is another database or tenant than STATE_PATH was folded from: all counters start afresh")
        sources = list(self._sources.values())
        for source in sources:
            source.folding.acquire()
        try:
            with self._lock:
                self._state.forget_all()
                self._state.bind(binding)
                self.guard.forget()
                self._unsaved_labels.clear()
                self._last_seen.begin()
                for source in sources:
                    source.begin(None)
        finally:
            for source in sources:
                source.folding.release()


def _side_by_side(work: Callable[[_In], _Out], inputs: Collection[_In]) -> list[_Out]:
    """The results in order, worked out a few at a time, under the same pymongo.timeout: so the server is not idle while
    a result is counted here."""
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        tasks = [pool.submit(contextvars.copy_context().run, work, one) for one in inputs]
        return [task.result() for task in tasks]

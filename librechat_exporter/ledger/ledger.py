"""The ledger: all sources, what they have counted, and the threads that keep them up to date.

A fold turns documents of one collection into samples. The last LEDGER_OPEN_MINUTES of documents are open: they are
counted again when they change, because answers are still being written. Each has a cell with the most that it ever
counted as, per exported series, and only what exceeds that is added to the totals; so nothing that is deleted or
rewritten takes anything back. A document older than that is sealed: its cell is dropped. What was there before the
first start, or came in numbers during a long stop, is history, folded in the background.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pymongo
from pymongo.errors import PyMongoError

from librechat_exporter.faults import FaultLog, HistoryPendingError, describe
from librechat_exporter.ledger.background import Background
from librechat_exporter.ledger.binding import Binding, Verdict
from librechat_exporter.ledger.clock import Clock
from librechat_exporter.ledger.fold import Fold, Reading, kept_from
from librechat_exporter.ledger.history import Folded, History
from librechat_exporter.ledger.last_seen import LastSeen
from librechat_exporter.ledger.membership import Membership
from librechat_exporter.ledger.open_documents import MOST_LAG, OpenDocuments
from librechat_exporter.ledger.reading import Row
from librechat_exporter.ledger.restoring import Restoring
from librechat_exporter.ledger.saving import Saving
from librechat_exporter.ledger.source import BEGINNING, Source, id_at, time_of
from librechat_exporter.ledger.state_file import State
from librechat_exporter.ledger.totals import Totals
from librechat_exporter.ledger.windowed import HOUR, Windows
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.members import Members
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.user_ids import UserKey, raw

log = logging.getLogger(__name__)

TICK_SECONDS = 60.0
# Of what a source has open, one reading.
_TICK_DEADLINE = 40.0
# At a start, one is read while others are counted: all that is shown waits for it. Later nothing does.
_FIRST_SIDE_BY_SIDE = 2
_REMEMBER_SECONDS = 3600.0
# New documents are read so often, whether anybody scrapes or not, so that a scrape finds few.
POLL_SECONDS = 1.0
_POLL_DEADLINE = 5.0
# A source that could not be read is left to the scrapes for a while.
_POLL_PAUSE = 15.0
_CLOCK = "clock"


class Ledger:
    """Safe for use from several threads."""

    def __init__(
        self,
        librechat: LibreChat,
        state: State,
        folds: Collection[Fold[Any]],
        guard: LabelGuard,
        open_minutes: int,
        windows: Windows,
        membership: Membership,
        hold_user: UserKey = raw,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """guard: knows the label values that the state does. hold_user: of LastSeen. monotonic: of Clock."""
        self.membership = membership
        self._librechat = librechat
        self._state = state
        self._windows = windows
        self._lock = threading.RLock()
        self._background = Background()
        self._faults = FaultLog()
        self._identity_lock = threading.Lock()
        self._identity_checked = False
        self._remembered_at = float("-inf")
        self._foreign_told: set[str] = set()
        self._guard = guard
        kept = state.kept(_CLOCK)
        self._clock = Clock(float(kept) if kept is not None else None, monotonic)
        self._last_seen = LastSeen(state, windows.kept + HOUR, hold_user)
        self._saving = Saving(state, guard, self._last_seen)
        self._sources = {fold.name: self._load(fold) for fold in folds}
        self.totals = Totals(self._sources.values(), self._lock, windows, self._last_seen)
        self._restoring = Restoring(librechat, state, self._lock, membership.renew)
        self._binding = Binding(librechat, state, self._sources.values(), self._lock)
        self._open = OpenDocuments(
            librechat,
            self._lock,
            open_minutes,
            trusted=self._clock.trusted,
            steady=self._clock.steady,
            count=self._count_open,
            save=lambda source: self._saving.save([source]),
            renew_members=membership.renew,
        )
        self._history = History(
            librechat,
            self._sources.values(),
            self._history_reading,
            self._add_history,
            self._kept_from,
            self._pass_over,
            self._is_whole,
        )

    def _load(self, fold: Fold[Any]) -> Source:
        source = Source(fold, self._guard, self._windows.kept)
        variants = {metric.name: metric.labels[:1] for metric in fold.metrics if metric.variant}
        for name in source.begin(self._state.source(fold.name)):
            log.warning("%s is counted in another form: it starts afresh from what is stored", name)
            self._state.forget_metric(fold.name, name)
            self._last_seen.forget_kind(name)
            for label in variants.get(name, ()):
                self._state.forget_labels(label)
                self._guard.forget_label(label)
        return source

    # What the collectors read.

    def ask(self) -> datetime:
        """MongoDB's time, asked for together with what is new in all sources. Raises PyMongoError."""
        return self._open.ask([source for source in self._sources.values() if source.is_read])

    def refresh(self, name: str, now: datetime, since: float, deadline: float) -> None:
        """Counts what is new in the source, unless that was done since then (time.monotonic()).

        Raises HistoryPendingError or TimeoutError at the deadline (time.monotonic()), PyMongoError.
        """
        source = self._sources[name]
        self._check_identity(now)
        self._plan(source, now)
        if source.is_pending() and not source.history_folded.wait(max(0.0, deadline - time.monotonic())):
            raise HistoryPendingError(f"{source.progress():.0%} of the history of {name} is counted")
        if not source.is_read:
            self._open.read_all(source, now, deadline)
        self._open.read_new(source, now, deadline, since)

    def save(self) -> None:
        """Commits all that was counted. What collectors have told is shown only after that."""
        with self._lock:
            self._saving.save(self._sources.values())

    def keep(self, name: str, value: str) -> None:
        """Keeps a text across restarts, as long as the database is the same. If that fails, it is not kept."""
        with self._lock:
            try:
                self._state.keep(name, value)
            except sqlite3.Error as error:
                log.debug("%s could not be kept: %s", name, describe(error))

    def kept(self, name: str, now: datetime) -> str | None:
        """Returns the text that was kept under this name. Raises HistoryPendingError, PyMongoError."""
        self._check_identity(now)
        with self._lock:
            return self._state.kept(name)

    @property
    def persistent(self) -> bool:
        """All that was shown is on disk."""
        return self._state.on_disk and not self._saving.has_failed

    # The background.

    def start(self) -> None:
        """Starts the ticker, the poller, and the thread that folds history."""
        self._background.repeat("ticker", "The ledger's ticker", self.tick, TICK_SECONDS)
        self._background.repeat("poller", "Reading new documents", self.poll, POLL_SECONDS, POLL_SECONDS)
        self._background.run(self._history.thread)

    def close(self, seconds: float = 2.0) -> None:
        """Stops the background, waiting that long at most for what it is doing, and closes the state file."""
        self._history.stop()
        self._background.end(seconds)
        with self._lock:
            self._saving.close(self._sources.values())

    def tick(self) -> None:
        """Reads all that is open everywhere, and seals what is no longer. Raises PyMongoError, sqlite3.Error."""
        with pymongo.timeout(_TICK_DEADLINE):
            now = self._librechat.now()
            self._check_identity(now, again=True)
        sources = list(self._sources.values())
        with ThreadPoolExecutor(_FIRST_SIDE_BY_SIDE, thread_name_prefix="ticker") as threads:
            list(map(self._try, sources) if all(one.is_read for one in sources) else threads.map(self._try, sources))
        if self._background.ending.is_set():
            return
        believed = self._clock.trusted(now)
        with self._lock:
            self._last_seen.forget_old(believed)
            self.keep(_CLOCK, str(believed.timestamp()))
            if not self._state.on_disk and self._state.return_to_disk():
                log.info("STATE_PATH can be written now: the counters are on disk")
        self._remember()

    def _try(self, source: Source) -> None:
        """Reads one source, and logs what fails: it must not keep the others from being read."""
        if self._background.ending.is_set():
            return
        what = f"Reading what is open of {source.fold.name}"
        try:
            with pymongo.timeout(_TICK_DEADLINE):
                self._tick_source(source, self._librechat.now())
        except Exception as error:  # noqa: BLE001
            if not self._background.ending.is_set():
                self._faults.failed(what, error)
        else:
            self._faults.succeeded(what)

    def _tick_source(self, source: Source, now: datetime) -> None:
        self._plan(source, now)
        opening = self._open.opening(source.open_from, now, source.newest)
        is_whole = self._restoring.is_whole(source.fold.collection)
        source.read_until = BEGINNING
        try:
            self._open.read_all(source, now, time.monotonic() + _TICK_DEADLINE, again=True)
        finally:  # if it was too much for one tick, the next one has less to read
            with self._lock:
                if is_whole and source.read_until > BEGINNING:
                    self._open.seal(source, min(opening, source.read_until), now)
        if not source.history_folded.is_set():
            self._history.want()
        kept = self._kept_from()
        with self._lock:
            source.expire(kept)
            self._saving.save([source])
        self._tell_foreign_ids(source)

    def _tell_foreign_ids(self, source: Source) -> None:
        name = source.fold.collection
        if name not in self._foreign_told and self._librechat.has_foreign_ids(name):
            log.warning("%s holds documents whose _id is not an ObjectId: they are not counted", name)
            self._foreign_told.add(name)

    def _remember(self) -> None:
        """Once an hour: which documents there are, to know the database again; and what no cell needs is deleted."""
        if time.monotonic() - self._remembered_at > _REMEMBER_SECONDS:
            with pymongo.timeout(_TICK_DEADLINE):
                with self._lock:
                    self._state.tidy()
                if self._binding.remember():
                    self._remembered_at = time.monotonic()

    def _kept_from(self) -> datetime:
        """The first hour that is kept for windows."""
        return kept_from(self._clock.trusted(self._librechat.now()), self._windows.kept)

    def poll(self) -> None:
        """Reads new documents everywhere. What MongoDB refuses the next scrape tells."""
        begun = time.monotonic()
        due = [source for source in self._sources.values() if source.is_read and source.polled_from <= begun]
        if not self._identity_checked or not due:
            return
        try:
            with pymongo.timeout(_POLL_DEADLINE):
                now = self._open.ask(due, polls=True)
        except PyMongoError:
            return
        for source in due:
            with self._lock:
                source.recent.follow(now)
            try:
                with pymongo.timeout(_POLL_DEADLINE):
                    self._open.read_new(source, now, time.monotonic() + _POLL_DEADLINE, begun, polls=True)
            except PyMongoError:
                source.polled_from = time.monotonic() + _POLL_PAUSE
            except TimeoutError:
                continue  # it is being read
        self.save()

    # Counting.

    def _plan(self, source: Source, now: datetime) -> None:
        """At the first start, decides what is history. Raises HistoryPendingError, PyMongoError."""
        if not source.is_planned:
            if not self._restoring.is_whole(source.fold.collection):
                raise HistoryPendingError(f"{source.fold.collection} has just come, and may be on its way from a dump")
            newest = self._librechat.newest_id(source.fold.collection)
            opening = self._open.opening(BEGINNING, now, newest.binary if newest is not None else None)
            if self._librechat.may_lag and opening > BEGINNING:
                # The newest may have been told by one member, and history be read on another that lags.
                opening = id_at(time_of(opening) - MOST_LAG)
            with self._lock:
                if not source.is_planned:
                    source.open_from = opening
                    source.is_planned = True
                    source.miss(BEGINNING, opening)
        if not source.history_folded.is_set():
            self._history.want()

    def _count_open(self, source: Source, rows: Sequence[Row], now: datetime) -> None:
        kept = kept_from(self._clock.trusted(now), self._windows.kept)
        reading = self._reading(source, kept, None, now, self.membership.for_counting)
        cells = [source.cells.get(one.document) for one in rows]
        found, seen = source.fold.fold_open(reading, [self._librechat.decode(one.row) for one in rows], cells)
        with self._lock:
            self._last_seen.add(seen)
            for one, counted in zip(rows, found, strict=True):
                source.count(one.document, counted, one.digest)

    def _is_whole(self, source: Source) -> bool:
        """History of it can be folded. Raises PyMongoError."""
        return self._identity_checked and self._restoring.are_whole(source)

    def _history_reading(self, source: Source, kept: datetime | None, only: Collection[str]) -> Reading:
        return self._reading(source, kept, only, self._librechat.now(), self.membership.for_history)

    def _reading(
        self,
        source: Source,
        kept: datetime | None,
        only: Collection[str] | None,
        now: datetime,
        members: Callable[[], Members | None],
    ) -> Reading:
        times = now, self._clock.trusted(now), self._clock.steady(now)
        return Reading(self._librechat, *times, self._guard, kept, only, source.questions, members)

    def _add_history(self, source: Source, folded: Folded, names: Collection[str], start: bytes, end: bytes) -> None:
        with self._lock:
            for samples, seen in folded:
                self._last_seen.add(seen)
                for series, amount in samples.items():
                    source.add(series, amount)
            source.folded(names, start, end)
            self._saving.save([source])

    def _pass_over(self, source: Source, document: bytes) -> None:
        with self._lock:
            source.unreadable.add(document)

    # The database that is counted.

    def _check_identity(self, now: datetime, *, again: bool = False) -> None:
        """Binds the state to the database; another database starts afresh.

        Raises HistoryPendingError as long as it cannot be told which one it is, PyMongoError.
        """
        if self._identity_checked and not again:
            return
        with self._identity_lock:
            if self._identity_checked and not again:
                return
            verdict = None
            try:
                verdict = self._binding.verdict()
            finally:
                if verdict is not Verdict.SAME:  # else scrapes need not wait for the answer
                    self._identity_checked = False
            if verdict is Verdict.EMPTY:
                self._restoring.note_absent(self._sources.values())
                raise HistoryPendingError("there is no collection `messages` yet")
            if verdict is Verdict.DOUBTFUL:
                raise HistoryPendingError("it cannot be told yet whether the database is the one that was counted")
            if verdict is Verdict.OTHER:
                self._start_afresh()
            self._begin_clock(now)
            self._identity_checked = True

    def _begin_clock(self, now: datetime) -> None:
        newest = None
        sources = self._sources.values()
        # Of many documents nobody wants all to be open until the clock is believed.
        stored = self._clock.stored
        if not self._clock.has_begun and (stored is None or self._open.has_many(sources, stored)):
            newest = self._librechat.newest_time({source.fold.collection for source in sources})
        with self._lock:
            self._clock.begin(now, newest)
            self._last_seen.days.forget_old(self._clock.trusted(now))

    def _start_afresh(self) -> None:
        log.warning("This is another database or tenant than STATE_PATH was folded from: all counters start afresh")
        sources = list(self._sources.values())
        for source in sources:
            source.folding.acquire()
        try:
            with self._lock:
                for source in sources:
                    source.begin(None)
                self._guard.forget()
                self.membership.forget()
                self._restoring.forget()
                self._saving.forget()
                self._state.forget_all()
                self._last_seen.begin()
                self._binding.bind()  # last: what fails before that is done again
                self._remembered_at = float("-inf")
        finally:
            for source in sources:
                source.folding.release()

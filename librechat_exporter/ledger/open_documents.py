"""Reading documents that are open: the new ones for the poller and scrapes, all of them for the ticker."""

import bisect
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

import pymongo
from bson import ObjectId
from pymongo.errors import PyMongoError

from librechat_exporter.faults import describe
from librechat_exporter.ledger.reading import Row, changed_rows
from librechat_exporter.ledger.source import END, Asked, Source, after, id_at, time_of
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.halving import halved

log = logging.getLogger(__name__)

# Documents stay open at least so long: the last five minutes are told from them.
_LEAST_OPEN = timedelta(minutes=6)
# An answer that is still being written stays open for so long since it was met, as agents may run for long; so does
# what waits for users to be read.
_UNSETTLED_OPEN = timedelta(hours=1)
# Members that are read may lag behind the clock by so much, as a secondary does: nothing is sealed ahead of them.
MOST_LAG = timedelta(hours=1)
# A document may appear so long after others with greater `_id`s; it is found as new if it is among so many last ones,
# or, as a poll has more time than a scrape, so many. A clock that jumps ahead needs most of that.
_LATE = timedelta(seconds=180)
_LATE_DOCUMENTS, _LATE_POLLED = 500, 2_000
# Of those that are still being written the newest are read with what is new.
_UNSETTLED_READ = 500
_IDS_AT_ONCE = 20_000
# All sources are asked for at once if that is quick; where it is not, or cannot be, each is asked for, for a while.
_ASK_SECONDS = 0.5
_ASK_PAUSE = 60.0
READ_AT_ONCE = 2_000
_COUNTED_AT_ONCE = 500
_BYTES_AT_ONCE = 1_000_000
# More documents than this that were not read when they were open are history.
_MOST_UNREAD = 20_000


class OpenDocuments:
    """Reads the open documents of sources. source.folding is held while they are read.

    Every method that reads raises PyMongoError, and TimeoutError at the deadline (time.monotonic()).
    """

    def __init__(
        self,
        librechat: LibreChat,
        lock: threading.RLock,
        minutes: int,
        *,
        trusted: Callable[[datetime], datetime],
        steady: Callable[[datetime], datetime],
        count: Callable[[Source, Sequence[Row], datetime], None],
        save: Callable[[Source], None],
        renew_members: Callable[[], None],
    ) -> None:
        """lock: the ledger's, with which sources are changed and saved. minutes: LEDGER_OPEN_MINUTES. trusted, steady:
        of Clock. count: counts documents of a source. save: commits a source; has the lock. renew_members: of
        Membership.
        """
        self._librechat = librechat
        self._lock = lock
        self._length = max(_LEAST_OPEN, timedelta(minutes=minutes))
        self._trusted = trusted
        self._steady = steady
        self._count = count
        self._save = save
        self._renew_members = renew_members
        self._ask_from = float("-inf")
        # The time that was trusted last: earlier than now, so that what begins there misses nothing.
        self._latest: datetime | None = None

    def opening(self, before: bytes, now: datetime, newest: bytes | None) -> bytes:
        """Where the open documents begin: so long before the newest one, as more may come that is as old."""
        if newest is None:
            return before
        trusted = self._trusted(now)
        end = min(trusted, max(time_of(newest), trusted - MOST_LAG))
        return max(before, id_at(end - self._length))

    @contextmanager
    def folding(self, source: Source, deadline: float) -> Iterator[None]:
        """Holds source.folding."""
        if not source.folding.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"{source.fold.name} were still being read")
        try:
            yield
        finally:
            source.folding.release()

    def ask(self, sources: Collection[Source], *, polls: bool = False) -> datetime:
        """MongoDB's time, asked for together with what is new in all of these, so that read_new need not ask for each.

        Where only that fails, read_new tells what is wrong with which. Raises PyMongoError.
        """
        begun = time.monotonic()
        if sources and self._latest is not None and begun >= self._ask_from:
            starts = {one.fold.collection: self._look_back(one, self._latest, polls) for one in sources}
            try:
                with pymongo.timeout(_ASK_SECONDS):
                    now, found = self._librechat.now_and_ids(starts, _IDS_AT_ONCE)
            except PyMongoError as error:
                log.debug("Each collection is asked for by itself, for a while: %s", describe(error))
                self._ask_from = time.monotonic() + _ASK_PAUSE
            else:
                for one in sources:
                    name = one.fold.collection
                    one.asked = Asked(begun, starts[name], found[name])
                return now
        return self._librechat.now()

    @staticmethod
    def _look_back(source: Source, trusted: datetime, polls: bool) -> bytes:
        """From where on new documents are looked for."""
        start = source.open_from
        if source.newest is not None:
            start = max(start, id_at(min(trusted, time_of(source.newest)) - _LATE))
        last = source.order[-(_LATE_POLLED if polls else _LATE_DOCUMENTS) :]
        return max(start, last[0]) if last and len(last) < len(source.order) else start

    def read_new(self, source: Source, now: datetime, deadline: float, since: float, *, polls: bool = False) -> None:
        """Reads documents that have come, and answers that were still being written, unless that was done since then
        (time.monotonic()). polls: it is no scrape that waits.
        """
        with self.folding(source, deadline):
            if source.fresh >= since:
                return
            begun, ids = time.monotonic(), None
            self._latest = self._trusted(now)
            start = self._look_back(source, self._latest, polls)
            asked, source.asked = source.asked, None
            if asked is not None and asked.at >= since and asked.start <= start and len(asked.ids) < _IDS_AT_ONCE:
                begun, ids = asked.at, asked.ids[bisect.bisect_left(asked.ids, start) :]
            self.read(source, sorted(source.unsettled)[-_UNSETTLED_READ:], now)
            while True:
                if ids is None:
                    ids = self._librechat.ids(source.fold.collection, start, _IDS_AT_ONCE)
                new = [one for one in ids if one not in source.cells]
                # As usual, all that are new come after all others.
                self.read(source, new, now, dense=bool(new) and ids[-len(new) :] == new)
                if len(ids) < _IDS_AT_ONCE:
                    break
                start, ids = after(ids[-1]), None
            source.fresh = begun

    def read_all(self, source: Source, now: datetime, deadline: float, *, again: bool = False) -> None:
        """Reads all that is open, in slices between which scrapes have their turn, unless that was done before.

        again: even if it was done.
        """
        if not source.reading_all.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError(f"{source.fold.name} were still being read")
        try:
            if not source.is_planned or (source.is_read and not again):  # another database may have come meanwhile
                return
            begun = time.monotonic()
            if not source.is_read:
                with self._lock:
                    source.recent.advance(now)  # so that only the last five minutes are held while it is read
            with self.folding(source, deadline):
                self.read(source, [one for one in source.order if one < source.open_from], now)
            source.read_until = source.open_from
            self._make_gap_history(source, now, deadline)
            self._read_from(source, source.open_from, None, now, deadline)
            source.fresh, source.is_read = begun, True
        finally:
            source.reading_all.release()

    def _make_gap_history(self, source: Source, now: datetime, deadline: float) -> None:
        """Documents that came during a long stop are not read one by one, if they are many."""
        opening = self.opening(source.open_from, now, source.newest or source.open_from)
        start = source.unread_from
        while start < opening and self._has_more(source, start, opening):
            self._read_from(source, source.open_from, start, now, deadline)
            with self._lock:
                if source.unread_from == start:
                    source.seal(start, source.unsettled)
                    self._renew_members()  # before history asks who pays: some may have come in the gap
                    source.miss(start, opening)
                    source.open_from = opening
                    self._save(source)
                    return
                start = source.unread_from  # others have read on meanwhile

    def has_many(self, sources: Iterable[Source], since: datetime) -> bool:
        """Of one of these there are more that are younger than should be read one by one. Raises PyMongoError."""
        return any(self._has_more(source, id_at(since), END) for source in sources)

    def _has_more(self, source: Source, start: bytes, end: bytes) -> bool:
        first, last = ObjectId(start), ObjectId(end)
        return self._librechat.id_after(source.fold.collection, first, last, _MOST_UNREAD) is not None

    def _read_from(self, source: Source, start: bytes, end: bytes | None, now: datetime, deadline: float) -> None:
        while True:
            with self.folding(source, deadline):
                ids = self._librechat.ids(source.fold.collection, start, READ_AT_ONCE)
                some = ids if end is None else [one for one in ids if one < end]
                try:
                    self.read(source, some, now, dense=True)
                finally:
                    source.forget_unanswered()
            with self._lock:
                self._save(source)
            is_last = len(ids) < READ_AT_ONCE
            if end is None:
                source.read_until = END if is_last else after(ids[-1])
            if is_last or (end is not None and ids[-1] >= end):
                return
            start = after(ids[-1])

    def read(self, source: Source, ids: Sequence[bytes], now: datetime, *, dense: bool = False) -> None:
        """Reads and counts these documents. dense: there are no others between the first and the last."""
        if not source.passed_over.isdisjoint(ids):
            ids, dense = [one for one in ids if one not in source.passed_over], False

        def count(some: Sequence[bytes]) -> None:
            self._count_rows(source, some, now, dense=dense)

        def pass_over(document: bytes) -> None:
            with self._lock:
                source.pass_over(document)

        for start in range(0, len(ids), READ_AT_ONCE):
            halved(source.fold.collection, ids[start : start + READ_AT_ONCE], count, pass_over)

    def _count_rows(self, source: Source, ids: Sequence[bytes], now: datetime, *, dense: bool) -> None:
        batch: list[Row] = []
        size = 0
        for one in changed_rows(self._librechat, source, ids, dense=dense):
            batch.append(one)
            size += len(one.row)
            if len(batch) == _COUNTED_AT_ONCE or size > _BYTES_AT_ONCE:
                self._count(source, batch, now)
                batch, size = [], 0
        if batch:
            self._count(source, batch, now)

    def seal(self, source: Source, opening: bytes, now: datetime) -> None:
        """Drops cells of documents before the opening, but not of answers being written; with the lock held."""
        steady, since = self._steady(now), source.unsettled_since
        source.unsettled_since = {
            # A restart gives no more time.
            one: since.get(one) or (time_of(one) if one <= source.restored_until else steady)
            for one in source.unsettled
        }
        source.seal(opening, [one for one, at in source.unsettled_since.items() if steady - at < _UNSETTLED_OPEN])

"""Folding history: what was there before the first start, what came during a long stop, what a new metric missed."""

import bisect
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

import pymongo
from bson import ObjectId
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from librechat_exporter.faults import FaultLog, HistoryPendingError
from librechat_exporter.ledger.fold import Reading
from librechat_exporter.ledger.reading import match_of
from librechat_exporter.ledger.source import LEAST_PAUSE, Source, id_at
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.halving import halved, is_documents_fault
from librechat_exporter.metrics.samples import Samples

log = logging.getLogger(__name__)

_In = TypeVar("_In")
_Out = TypeVar("_Out")

CHUNK_DOCUMENTS = (8, 40_000)  # least, most
_CHUNK_DEADLINE = 30.0
_CHUNK_SECONDS = 1.0
_PIECES = 8
_SIDE_BY_SIDE = 2
_PROGRESS_LOG_SECONDS = 10.0
_MOST_PAUSE = 15.0

Folded = list[tuple[Samples, Seen]]


class History:
    """One thread that folds, a chunk of each source in turn, as long as anything is missing."""

    def __init__(
        self,
        librechat: LibreChat,
        sources: Collection[Source],
        read: Callable[[Source, datetime | None, Collection[str]], Reading],
        add: Callable[[Source, Folded, Collection[str], bytes, bytes], None],
        kept_from: Callable[[], datetime],
        pass_over: Callable[[Source, bytes], None],
        is_whole: Callable[[Source], bool],
    ) -> None:
        """read: what a source's fold reads with. add: adds what was folded of a range. kept_from: where windows begin,
        as far as the clock can be trusted. pass_over: notes a document that cannot be read. is_whole: all
        that a source reads is there.
        """
        self._librechat = librechat
        self._sources = sources
        self._read = read
        self._add = add
        self._kept_from = kept_from
        self._pass_over = pass_over
        self._is_whole = is_whole
        self._faults = FaultLog()
        self._wanted = threading.Event()
        self._stop = threading.Event()
        # Two pieces at a time: so the server is not idle while one is counted here.
        self._readers = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="history-reader")
        self.thread = threading.Thread(target=self._fold_forever, name="history", daemon=True)

    def want(self) -> None:
        """Wakes the thread: something is missing."""
        self._wanted.set()

    def stop(self) -> None:
        self._stop.set()
        self._wanted.set()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _fold_forever(self) -> None:
        while not self._stop.is_set():
            self._wanted.wait()
            self._wanted.clear()
            while (pending := [one for one in self._sources if self._is_wanted(one)]) and not self._stop.is_set():
                now = time.monotonic()
                for source in [one for one in pending if one.fold_from <= now]:
                    if self._tried(source):
                        source.fold_pause = LEAST_PAUSE
                    else:
                        source.fold_from = time.monotonic() + source.fold_pause
                        source.fold_pause = min(source.fold_pause * 2, _MOST_PAUSE)
                self._stop.wait(max(0.0, min(one.fold_from for one in pending) - time.monotonic()))

    @staticmethod
    def _is_wanted(source: Source) -> bool:
        return source.is_planned and not source.history_folded.is_set()

    def _tried(self, source: Source) -> bool:
        """Keeps the thread alive whatever happens, and says what did; whether it worked."""
        if self._stop.is_set():
            return True
        what = f"Folding the history of {source.fold.name}"
        try:
            self.fold_chunk(source)
        except Exception as error:  # noqa: BLE001
            if not self._stop.is_set():
                self._faults.failed(what, error)
            return False
        self._faults.succeeded(what)
        return True

    def fold_chunk(self, source: Source) -> None:
        """The next chunk. The one after it is larger or smaller, as this one took long or not."""
        least, most = CHUNK_DOCUMENTS
        with source.folding:
            wanted = source.next_range() if source.is_planned else None
            if wanted is None:  # another database has come meanwhile
                return
            started = time.monotonic()
            try:
                with pymongo.timeout(_CHUNK_DEADLINE):
                    self._read_chunk(source, *wanted)
            except PyMongoError:
                source.chunk = max(least, source.chunk // 4)  # it may have been too much at once
                raise
        took = time.monotonic() - started
        if took < _CHUNK_SECONDS / 2:
            source.chunk = min(most, source.chunk * 2)
        elif took > _CHUNK_SECONDS * 2:
            source.chunk = max(least, source.chunk // 2)
        if source.history_folded.is_set():
            log.info("History of %s is counted", source.fold.name)
        elif started - source.logged > _PROGRESS_LOG_SECONDS:
            source.logged = started
            log.info("History of %s: %.0f %% counted", source.fold.name, 100 * source.progress())

    def _read_chunk(self, source: Source, bounds: tuple[bytes, bytes], names: frozenset[str]) -> None:
        start, end = bounds
        self._check_whole(source)
        if source.first is None:
            first = self._librechat.ids(source.fold.collection, bytes(12), 1)
            source.first = first[0] if first else end
        kept = self._kept_from()
        if source.only_windowed(names) and start < id_at(kept):
            self._add(source, [], names, start, min(id_at(kept), end))
            return
        if start < id_at(kept) < end:  # what was inserted before any window is in none, whatever its createdAt says
            end = id_at(kept)
        pieces = self._pieces(source, start, end)
        end = pieces[-1][1]
        reading = self._read(source, kept if end > id_at(kept) else None, names)
        folded = self._side_by_side(lambda piece: self._fold_piece(source, piece, reading), pieces)
        self._check_whole(source)
        self._add(source, [one for piece in folded for one in piece], names, start, end)

    def _check_whole(self, source: Source) -> None:
        """Raises HistoryPendingError, PyMongoError."""
        if not self._is_whole(source):
            raise HistoryPendingError(f"what {source.fold.name} are told from is not there, or is being written back")

    def _pieces(self, source: Source, start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
        """`_id` ranges that follow each other from start on: a chunk, in pieces that fit into little memory."""
        pieces: list[tuple[bytes, bytes]] = []
        size = max(1, source.chunk // _PIECES)
        while start < end and len(pieces) < _PIECES:
            stop = self._librechat.id_after(source.fold.collection, ObjectId(start), ObjectId(end), size)
            pieces.append((start, stop.binary if stop is not None else end))
            start = pieces[-1][1]
        return pieces

    def _fold_piece(self, source: Source, piece: tuple[bytes, bytes], reading: Reading) -> Folded:
        """Counts a piece. Documents that have cells are not history."""
        start, end = piece
        cells = source.order.copy()  # which others change meanwhile
        known = cells[bisect.bisect_left(cells, start) : bisect.bisect_left(cells, end)]
        match: Document = {"_id": {"$gte": ObjectId(start), "$lt": ObjectId(end)}}
        if known:
            match["_id"]["$nin"] = [ObjectId(one) for one in known]
        folded: Folded = []
        try:
            folded.append(source.fold.fold_history(reading, match))
        except (PyMongoError, BSONError) as error:
            if not is_documents_fault(error):
                raise
            held = set(known)
            ids = self._librechat.ids(source.fold.collection, start, 2 * CHUNK_DOCUMENTS[1])
            ids = [one for one in ids if one < end and one not in held]

            def fold(some: Sequence[bytes]) -> None:
                folded.append(source.fold.fold_history(reading, match_of(some, dense=False)))

            halved(source.fold.collection, ids, fold, lambda document: self._pass_over(source, document))
        return folded

    def _side_by_side(self, work: Callable[[_In], _Out], inputs: Collection[_In]) -> list[_Out]:
        """The results in order, worked out a few at a time, under the same pymongo.timeout."""
        tasks = [self._readers.submit(contextvars.copy_context().run, work, one) for one in inputs]
        return [task.result() for task in tasks]

"""What a fold is, and the source that it feeds: totals, the cells of open documents, and how far history is folded."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId

from librechat_exporter.fields import Document
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import LabelGuard, Metric, Samples, Series
from librechat_exporter.state import Cell, Seen, SourceState

BEGINNING = ObjectId("0" * 24)
FIRST_CHUNK = 8_000


@dataclass(frozen=True)
class Reading:
    """What a fold reads: the documents that match, as of the server's time. Its labels pass the guard."""

    librechat: LibreChat
    match: Document
    now: datetime
    guard: LabelGuard


class Fold(ABC):
    """How the documents of one collection are counted.

    name: of its source; a collection can have several. version changes whenever the same documents would be counted
    otherwise; the source then starts afresh. kinds: of the users seen that it finds.
    """

    name: str
    collection: str
    version: int
    metrics: tuple[Metric, ...]
    kinds: tuple[str, ...] = ()

    def source(self, state: SourceState | None) -> "Source":
        """A source for this fold, from what is on disk or afresh."""
        return Source(self, state)

    def beginning(self, now: datetime) -> ObjectId:
        """Documents before this one do not count."""
        return BEGINNING

    @abstractmethod
    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        """Each matching document by itself, but only the first `limit` by `_id`.

        cells: what earlier folds of open documents found.
        """

    @abstractmethod
    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        """All matching documents together; the sum of what fold_open gives for each."""


class Source:
    """One fold at work."""

    def __init__(self, fold: Fold, state: SourceState | None) -> None:
        self.fold = fold
        self.folding = threading.Lock()
        self.history_folded = threading.Event()
        self.history_wanted = threading.Event()
        self.changed_totals: set[Series] = set()
        self.changed_cells: set[ObjectId] = set()
        self.dropped_cells: set[ObjectId] = set()
        self.expired: set[Series] = set()
        self.begin(state)

    def begin(self, state: SourceState | None) -> None:
        """From what is on disk, or afresh."""
        self.state = state or SourceState(self.fold.version, BEGINNING, BEGINNING)
        self.is_planned = state is not None
        self.history_folded.clear()
        self.fresh = float("-inf")
        self.read_until: datetime | None = None
        self.newest: ObjectId | None = None
        self.first: ObjectId | None = None
        self.logged = time.monotonic()
        self.chunk = FIRST_CHUNK
        self.changes_saved()

    def changes_saved(self) -> None:
        self.changed_totals.clear()
        self.changed_cells.clear()
        self.dropped_cells.clear()
        self.expired.clear()

    @property
    def has_changes(self) -> bool:
        return bool(self.changed_totals or self.changed_cells or self.dropped_cells or self.expired)

    def total(self, series: Series) -> float:
        return self.state.totals[series]

    def expire(self, now: datetime) -> None:
        """Drops the totals that no longer serve anything: of a counter, none."""

    def add(self, series: Series, amount: float) -> None:
        if amount or series not in self.state.totals:
            self.state.totals[series] = self.state.totals.get(series, 0) + amount
            self.changed_totals.add(series)

    def raise_cell(self, document: ObjectId, found: Cell) -> None:
        """Counts by how much the document exceeds what it was counted as before."""
        cell = self.state.cells.setdefault(document, Cell())
        if (cell.model, cell.prompt, cell.agent) != (found.model, found.prompt, found.agent):
            cell.model, cell.prompt, cell.agent = found.model, found.prompt, found.agent
            self.changed_cells.add(document)
        for series, amount in found.samples.items():
            before = cell.samples.get(series, 0)
            self.add(series, max(0, amount - before))
            if amount > before:
                cell.samples[series] = amount
                self.changed_cells.add(document)

    def drop_cells(self, before: ObjectId) -> None:
        sealed = [document for document in self.state.cells if document < before]
        for document in sealed:
            del self.state.cells[document]
        self.changed_cells.difference_update(sealed)
        self.dropped_cells.update(sealed)

    def progress(self) -> float:
        """How much of the time that history spans is folded, 0 to 1."""
        if self.history_folded.is_set():
            return 1.0
        if self.first is None:
            return 0.0
        start = self.first.generation_time
        span = self.state.open_from.generation_time - start
        return max(0.0, min(1.0, (self.state.folded.generation_time - start) / span)) if span else 0.0

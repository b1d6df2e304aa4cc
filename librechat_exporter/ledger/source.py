"""One fold at work: totals, the cells of open documents, and what of history is still to be folded."""

import bisect
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bson import ObjectId

from librechat_exporter.ledger.cell import Cell, under_other
from librechat_exporter.ledger.families import Families
from librechat_exporter.ledger.fold import Cache, Fold, Found
from librechat_exporter.ledger.recent import Recent
from librechat_exporter.ledger.state_file import Counted, Range, SourceState
from librechat_exporter.ledger.windowed import HOURS_KEPT, Hours
from librechat_exporter.librechat.messages import Link, Question
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import LabelValues, Series

BEGINNING = bytes(12)
END = b"\xff" * 12
FIRST_CHUNK = 8_000
LEAST_PAUSE = 1.0
_QUESTIONS_REMEMBERED = 20_000


def id_at(moment: datetime) -> bytes:
    """The least `_id` of that second."""
    return ObjectId.from_datetime(moment).binary


def time_of(document: bytes) -> datetime:
    """When its `_id` was made, to the second."""
    return ObjectId(document).generation_time


def after(document: bytes) -> bytes:
    """The least `_id` that is greater."""
    return (int.from_bytes(document) + 1).to_bytes(12) if document != END else document


class Asked(NamedTuple):
    """The `_id`s from start on that the collection had at a time of time.monotonic()."""

    at: float
    start: bytes
    ids: list[bytes]


class Source:
    """Documents of one collection: those before open_from are sealed but for what is missing, the others are open.

    The ledger's lock is held while its fields are changed, `folding` while documents are read for it.
    """

    def __init__(self, fold: Fold[Any], guard: LabelGuard, kept: timedelta = HOURS_KEPT) -> None:
        """kept: how long hours are."""
        self.fold = fold
        self._longer = f" {kept}" if kept > HOURS_KEPT else ""
        self.folding = threading.Lock()
        self.reading_all = threading.Lock()
        self.history_folded = threading.Event()
        self._guard = guard
        self._windowed = frozenset(metric.name for metric in fold.metrics if metric.is_windowed)
        self._kinds = {kind.name for kind in fold.kinds}
        self.unreadable: set[bytes] = set()
        self.begin(None)

    def begin(self, state: SourceState | None) -> list[str]:
        """From what is on disk, or afresh. The names of what counts anew, as its form has changed."""
        self.open_from = state.open_from if state is not None else BEGINNING
        self.is_planned = state is not None
        self.counted: dict[str, Counted] = {}
        self.totals: dict[str, dict[LabelValues, float]] = {metric.name: {} for metric in self.fold.metrics}
        self.hours = Hours()
        self.cells: dict[bytes, Cell] = {}
        self.order: list[bytes] = []
        self.unsettled: set[bytes] = set()
        self.unsettled_since: dict[bytes, datetime] = {}  # when a seal met them first
        self.restored_until = BEGINNING
        self.passed_over: set[bytes] = set()
        self.questions: Cache[Link, Question] = Cache(_QUESTIONS_REMEMBERED)
        self.recent = Recent(self.fold.mirrored)
        self.newest: bytes | None = None
        self.is_read = False  # all that is open, since the start
        self.read_until = BEGINNING  # all that is open and before, by the last reading of all
        self.fresh = float("-inf")
        self.asked: Asked | None = None
        self.polled_from = float("-inf")
        self.first: bytes | None = None
        self.chunk = FIRST_CHUNK
        self.fold_from, self.fold_pause = float("-inf"), LEAST_PAUSE  # after a chunk that failed
        self.logged = time.monotonic()
        self.families = Families(self.totals)
        self.changed_totals: set[Series] = set()
        self.changed_cells: set[bytes] = set()
        self.has_sealed = False  # since it was saved
        self.expired: set[Series] = set()
        self.changed_counted: set[str] = set()
        changed = self._restore(state) if state is not None else []
        self._enlist(state)
        self._set_folded()
        return changed

    # What is on disk.

    def _restore(self, state: SourceState) -> list[str]:
        self.cells = state.cells
        self.order = sorted(self.cells)
        self.newest = self.order[-1] if self.order else None
        self.restored_until = self.newest or BEGINNING
        shapes = self._shapes()
        changed = [
            name
            for name, held in state.counted.items()
            if name in shapes and held.shape not in ("", shapes[name][0])  # "" is that of an earlier release
        ]
        metrics = {metric.name: metric for metric in self.fold.metrics}
        for series, amount in state.totals.items():
            name, labels = series
            if name in metrics and name not in changed:
                self._guard.restore(metrics[name], labels)
                if name in self._windowed:
                    self.hours.add(series, amount)
                else:
                    self.totals[name][labels] = amount
        for document, cell in self.cells.items():
            if not cell.names().isdisjoint(changed):  # it counts anew as well
                cell.hold({series: amount for series, amount in cell.samples().items() if series[0] not in changed})
                self.changed_cells.add(document)
            if not cell.settled.isdisjoint(changed):
                cell.settled = cell.settled.difference(changed)
                self.changed_cells.add(document)
        # Those before open_from are open as more was to come, until they are read again.
        self.unsettled = set(self.order[: bisect.bisect_left(self.order, self.open_from)])
        return changed

    def _shapes(self) -> dict[str, tuple[str, int]]:
        """The form of all that is counted, and how often its meaning has changed."""
        of_metrics = {
            one.name: (one.shape + self._longer * one.is_windowed, len(one.changes)) for one in self.fold.metrics
        }
        return of_metrics | {kind.name: (kind.shape, 0) for kind in self.fold.kinds}

    def _enlist(self, state: SourceState | None) -> None:
        """Lists all that is counted: a new metric misses all history, one that was off misses what came meanwhile."""
        held = state.counted if state is not None else {}
        for name, (shape, changes) in self._shapes().items():
            before = held.get(name)
            if before is None or before.shape not in ("", shape):
                missing = [(BEGINNING, self.open_from)] if self.open_from > BEGINNING else []
                self.counted[name] = Counted(shape, changes, missing)
            else:
                missing = [(start, min(end, self.open_from)) for start, end in before.missing]
                missing = [one for one in missing if one[0] < one[1]]
                self.counted[name] = Counted(shape, changes, missing)
                if before.changes != changes:
                    self._settle(name, before.missing)
            self.changed_counted.add(name)
        for name in held.keys() - self.counted.keys():
            off = held[name]
            if not off.missing or off.missing[-1][1] != END:
                last = next((one for one in reversed(self.order) if name in self.cells[one].names()), None)
                start = max(after(last), self.open_from) if last is not None else self.open_from
                off.missing = [part for one in off.missing for part in self._without_counted(name, *one)]
                off.missing.append((start, END))
            self.counted[name] = off
            self.changed_counted.add(name)

    def _settle(self, name: str, missing: Iterable[Range]) -> None:
        """The metric has changed its meaning: what is open counts in it as it does, but for what it was off for."""
        for document, cell in self.cells.items():
            if not any(start <= document < end for start, end in missing):
                cell.settle([name])
                self.changed_cells.add(document)

    def _without_counted(self, name: str, start: bytes, end: bytes) -> Iterator[Range]:
        """The parts of a range between the open documents that the metric has counted."""
        for document in self.order[bisect.bisect_left(self.order, start) : bisect.bisect_left(self.order, end)]:
            if name in self.cells[document].names():
                if start < document:
                    yield start, document
                start = after(document)
        yield start, end

    @property
    def has_changed(self) -> bool:
        """There is something to save; not as long as it is not decided what is history."""
        return self.is_planned and bool(
            self.changed_totals or self.changed_cells or self.has_sealed or self.expired or self.changed_counted
        )

    def changes(self) -> SourceState:
        """Returns the part that is to be saved."""
        return SourceState(
            self.open_from,
            {name: self.counted[name] for name in self.changed_counted},
            {series: self.total(series) for series in self.changed_totals},
            {document: self.cells[document] for document in self.changed_cells},
        )

    @property
    def kept(self) -> frozenset[bytes] | None:
        """Those before open_from that are open still; None if nothing was sealed since it was saved."""
        return frozenset(self.order[: bisect.bisect_left(self.order, self.open_from)]) if self.has_sealed else None

    def changes_saved(self) -> None:
        self.changed_totals.clear()
        self.changed_cells.clear()
        self.has_sealed = False
        self.expired.clear()
        self.changed_counted.clear()

    def total(self, series: Series) -> float:
        return self.hours.total(series) if series[0] in self._windowed else self.totals[series[0]][series[1]]

    # Counting.

    def add(self, series: Series, amount: float) -> None:
        name, labels = series
        if name in self._windowed:
            if self.hours.add(series, amount):
                self.changed_totals.add(series)
            return
        totals = self.totals[name]
        if amount or labels not in totals:
            totals[labels] = totals.get(labels, 0) + amount
            self.changed_totals.add(series)
            self.families.change(name, labels)

    def count(self, document: bytes, found: Found, row: int | None) -> None:
        """Counts by how much an open document exceeds what it was counted as before; in windows, what it is now.

        row: a hash of what it was read as.
        """
        cell = self.cells.get(document)
        if cell is None and (not self.is_planned or document < self.open_from):
            return  # while it was read, it was sealed, or another database has come
        if cell is None:
            for series, amount in found.samples.items():
                self.add(series, amount)
            cell = self.cells[document] = Cell(found.samples, found.pins)
            self.changed_cells.add(document)
            if not self.order or document > self.order[-1]:
                self.order.append(document)
            else:
                bisect.insort(self.order, document)
            self.newest = max(document, self.newest or document)
            counted = cell
        else:
            counted = self._raise(document, cell, found)
        cell.row = row if found.final else None
        (self.unsettled.add if found.unsettled else self.unsettled.discard)(document)
        if found.moment is not None:
            self.recent.put(document, found.moment, counted)

    def _raise(self, document: bytes, cell: Cell, found: Found) -> Cell:
        """The document as it counts now, of which the cell holds the most that it ever was."""
        if found.pins == cell.pins and (cell.holds(found.samples) or self._tells_nothing_new(cell, found)):
            return cell
        samples = cell.samples()
        before = dict(samples)
        counts_as = under_other(samples, found.samples, self._windowed)
        for series in samples.keys() | counts_as.keys():
            name = series[0]
            if name in cell.settled or name not in self.totals:
                continue
            was, now = samples.get(series, 0), counts_as.get(series, 0)
            if name in self._windowed:
                self.add(series, now - was)
                samples[series] = now
                if not now:
                    del samples[series]
            else:
                self.add(series, max(0, now - was))
                samples[series] = max(was, now)
        if samples != before or found.pins != cell.pins:
            cell.hold(samples)
            cell.pins = found.pins
            self.changed_cells.add(document)
        return cell if samples == found.samples else Cell(found.samples)

    def _tells_nothing_new(self, cell: Cell, found: Found) -> bool:
        """The cell has all that it counts as now, and the rest is not told again, as of histograms."""
        samples = cell.samples()
        untold = {name for name, _ in samples.keys() - found.samples.keys()}
        same = found.samples.items() <= samples.items()
        return same and untold.isdisjoint(self._windowed) and untold.isdisjoint(self.fold.mirrored)

    def pass_over(self, document: bytes) -> None:
        """Notes an open document that cannot be read: it is not tried again."""
        self.unreadable.add(document)
        self.passed_over.add(document)
        if document not in self.cells:
            self.cells[document] = Cell({})
            bisect.insort(self.order, document)
        self.newest = max(document, self.newest or document)
        self.unsettled.discard(document)

    @property
    def unread_from(self) -> bytes:
        """Where documents begin that nobody has read yet, but for those that were late."""
        return max(self.open_from, after(self.order[-1]) if self.order else self.open_from)

    def seal(self, before: bytes, kept: Iterable[bytes]) -> None:
        """Opens nothing before that `_id` any more, but what is kept, and what lies in history that is missing: there a
        cell says that the document is counted."""
        before = max(before, self.open_from)
        place = bisect.bisect_left(self.order, before)
        missing = {one for counted in self._active().values() for one in counted.missing}
        kept = set(kept).union(
            document for start, end in missing for document in self.order[:place] if start <= document < end
        )
        sealed = [document for document in self.order[:place] if document not in kept]
        self.order[:place] = [document for document in self.order[:place] if document in kept]
        for document in sealed:
            del self.cells[document]
        self.changed_cells.difference_update(sealed)
        self.unsettled.difference_update(sealed)
        self.passed_over.difference_update(sealed)
        self.open_from = before
        self.has_sealed = self.has_sealed or bool(sealed)

    def forget_unanswered(self) -> None:
        """Forgets questions without an answer: if one comes, it is looked up which was the first.

        A question that was found late, as that of a LibreChat whose clock is behind, has answers that are found late.
        """
        for link in [link for link, question in self.questions.items() if question.answered == float("inf")]:
            del self.questions[link]

    def expire(self, before: datetime) -> None:
        """Forgets the hours that ended before."""
        gone = self.hours.expire(before)
        for name, labels in {(name, labels[:-1]) for name, labels in gone}:
            if not self.hours.has(name, labels):
                self._guard.release(name, labels)
        self.expired |= gone
        self.changed_totals -= gone

    # History.

    def _active(self) -> dict[str, Counted]:
        return {name: one for name, one in self.counted.items() if name in self.totals or name in self._kinds}

    def is_folded(self, name: str) -> bool:
        """The metric, or kind, misses nothing."""
        return self.is_planned and not self.counted[name].missing

    def miss(self, start: bytes, end: bytes) -> None:
        """Makes the documents from start on and before end history, for all that is counted."""
        if start < end:
            for name, one in self._active().items():
                one.missing.append((start, end))
                self.changed_counted.add(name)
        self._set_folded()

    def next_range(self) -> tuple[Range, frozenset[str]] | None:
        """The lowest range of which something is missing, and the names of what misses all of it."""
        missing = [(one.missing[0], name) for name, one in self._active().items() if one.missing]
        if not missing:
            return None
        start = min(first[0] for first, _ in missing)
        bounds = {bound for first, _ in missing for bound in first if bound > start}
        return (start, min(bounds)), frozenset(name for first, name in missing if first[0] == start)

    def folded(self, names: Iterable[str], start: bytes, end: bytes) -> None:
        """Notes that these miss nothing any more between."""
        for name in names:
            ranges = self.counted[name].missing
            ranges[:] = [(end if first == start else first, last) for first, last in ranges]
            ranges[:] = [one for one in ranges if one[0] < one[1]]
            self.changed_counted.add(name)
        self._set_folded()

    def only_windowed(self, names: Iterable[str]) -> bool:
        """None of these is a counter: documents that are older than the windows do not matter to them."""
        return all(name in self._windowed or name in self._kinds for name in names)

    def _set_folded(self) -> None:
        nothing_missing = self.is_planned and not any(one.missing for one in self._active().values())
        (self.history_folded.set if nothing_missing else self.history_folded.clear)()

    def is_pending(self) -> bool:
        """None of its metrics can be shown yet."""
        return not self.is_planned or all(self.counted[metric.name].missing for metric in self.fold.metrics)

    def progress(self) -> float:
        """Returns the share, 0 to 1, of the time that history spans and that is folded."""
        if self.history_folded.is_set():
            return 1.0
        if self.first is None or not self.is_planned:
            return 0.0
        begin, end = time_of(self.first), time_of(self.open_from)
        missing = [one for counted in self._active().values() for one in counted.missing]
        start = max(begin, time_of(min((start for start, _ in missing), default=self.open_from)))
        return max(0.0, min(1.0, (start - begin) / (end - begin))) if end > begin else 0.0

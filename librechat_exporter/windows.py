"""What happened in the windows of the last hours and days: counted once, by the hour, and forgotten with the longest.

As in the rest of the ledger, nothing that is deleted takes anything back. But a window's value is no counter, so a
document that changes while it is open, such as an answer that is finished after all, counts as what it is now.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from bson import ObjectId

from librechat_exporter.fold import Fold, Source
from librechat_exporter.metric import LabelValues, Metric, Series
from librechat_exporter.state import Cell, SourceState

HOUR = timedelta(hours=1)
# What is left when an amount is taken back from a sum of fractions is not shown.
_DIGITS = 6


def hour_of(moment: datetime) -> int:
    """Hours since 1970."""
    return int(moment.timestamp() // HOUR.total_seconds())


class WindowFold(Fold):
    """A fold whose series end in the hour, as hour_of gives it, where its metrics have the label `window`.

    windows: their lengths, by the value of that label.
    """

    def __init__(self, windows: Mapping[str, timedelta]) -> None:
        self.windows = windows

    @property
    def kept(self) -> timedelta:
        """The longest window."""
        return max(self.windows.values())

    def first_hour(self, window: str, now: datetime) -> int:
        """A window begins with the whole hour that it begins in."""
        return hour_of(now - self.windows[window])

    def source(self, state: SourceState | None) -> "WindowSource":
        return WindowSource(self, state)

    def beginning(self, now: datetime) -> ObjectId:
        return ObjectId.from_datetime(now - self.kept - 2 * HOUR)


class WindowSource(Source):
    """Totals by the hour, and their sums over each window."""

    fold: WindowFold

    def begin(self, state: SourceState | None) -> None:
        self._hours: dict[int, dict[Series, float]] = {}
        # By window, its first hour and the sums from there on.
        self._sums: dict[str, tuple[int, dict[Series, float]]] = {}
        super().begin(state)
        for (metric, labels), amount in self.state.totals.items():
            self._hours.setdefault(int(labels[-1]), {})[metric, labels[:-1]] = amount
        self.state.totals.clear()

    def add(self, series: Series, amount: float) -> None:
        if amount:
            metric, labels = series
            hour, series = int(labels[-1]), (metric, labels[:-1])
            totals = self._hours.setdefault(hour, {})
            totals[series] = totals.get(series, 0) + amount
            self.changed_totals.add((metric, labels))
            for first, sums in self._sums.values():
                if hour >= first:
                    sums[series] = sums.get(series, 0) + amount

    def total(self, series: Series) -> float:
        metric, labels = series
        return self._hours[int(labels[-1])][metric, labels[:-1]]

    def raise_cell(self, document: ObjectId, found: Cell) -> None:
        cell = self.state.cells.get(document, Cell())
        for series in cell.samples.keys() | found.samples.keys():
            self.add(series, found.samples.get(series, 0) - cell.samples.get(series, 0))
        if cell != found:
            self.state.cells[document] = found
            self.changed_cells.add(document)

    def expire(self, now: datetime) -> None:
        first = hour_of(now - self.fold.kept)
        for hour in [hour for hour in self._hours if hour < first]:
            gone = {(metric, (*labels, str(hour))) for metric, labels in self._hours.pop(hour)}
            self.expired |= gone
            self.changed_totals -= gone

    def in_windows(self, metric: Metric, now: datetime) -> dict[LabelValues, float]:
        """The metric's sums, by label values, of which the last is the window. Without other labels, 0 is shown."""
        for window in self.fold.windows:
            first = self.fold.first_hour(window, now)
            if window not in self._sums or self._sums[window][0] != first:
                self._sums[window] = first, self._sum(first)
        found = {
            (*labels, window): round(amount, _DIGITS)
            for window, (_, sums) in self._sums.items()
            for (name, labels), amount in sums.items()
            if name == metric.name and round(amount, _DIGITS)
        }
        if len(metric.labels) == 1:
            found = {(window,): 0.0 for window in self.fold.windows} | found
        return found

    def _sum(self, first: int) -> dict[Series, float]:
        sums: dict[Series, float] = {}
        for hour, totals in self._hours.items():
            if hour >= first:
                for series, amount in totals.items():
                    sums[series] = sums.get(series, 0) + amount
        return sums

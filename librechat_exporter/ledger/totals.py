"""Totals: all that collectors read of what the ledger has counted."""

import threading
import time
from collections.abc import Collection
from datetime import date, datetime

from librechat_exporter.ledger.last_seen import LastSeen
from librechat_exporter.ledger.source import Source
from librechat_exporter.ledger.windowed import Windows
from librechat_exporter.metrics.metric import SUM, Family, LabelValues, Metric


class Totals:
    """Safe for use from several threads. What these tell is shown only after Ledger.save()."""

    def __init__(
        self, sources: Collection[Source], lock: threading.RLock, windows: Windows, last_seen: LastSeen
    ) -> None:
        """lock: the ledger's, with which the others are changed."""
        self._sources = {source.fold.name: source for source in sources}
        self._lock = lock
        self._last_seen = last_seen
        self.windows = windows
        # By metric, what was told of its windows last: sums of parts, and values.
        self._in_windows: dict[str, tuple[dict[LabelValues, float], dict[LabelValues, float]]] = {}
        self.user_key = last_seen.user_key

    def is_folded(self, *metrics: Metric) -> bool:
        """All history of these is counted: until then they are not shown."""
        with self._lock:
            return all(self._source_of(metric).is_folded(metric.name) for metric in metrics)

    def values(self, metric: Metric) -> dict[LabelValues, float]:
        """The metric's totals by label values; a metric without labels is 0 when nothing was counted."""
        with self._lock:
            values = dict(self._source_of(metric).totals[metric.name])
        if metric.parts != 1:
            is_histogram = metric.type == "histogram"
            for labels, total in values.items():
                if not is_histogram or labels[-1] == SUM:
                    values[labels] = total / metric.parts
        if not metric.labels and metric.type != "histogram":
            values.setdefault((), 0)
        return values

    def family(self, metric: Metric) -> Family:
        """The same object until the metric's totals change."""
        with self._lock:
            source = self._source_of(metric)
            family = source.families.get(metric)
            if family is None:
                family = metric.family(self.values(metric))
                source.families.keep(metric, family)
            return family

    def in_windows(self, metric: Metric, now: datetime) -> dict[LabelValues, float]:
        """The totals of a metric whose last label is the window, for each window that ends now. Zeros are left out,
        except in a metric without other labels. The same object until that changes."""
        beginnings = {window: self.windows.beginning(window, now) for window in self.windows.names}
        with self._lock:
            sums = self._source_of(metric).hours.since(metric.name, beginnings)
            told, values = self._in_windows.get(metric.name, ({}, {}))
            if told is not sums:
                values = {labels: amount / metric.parts for labels, amount in sums.items()}
                if len(metric.labels) == 1:
                    values = {(window,): 0.0 for window in beginnings} | values
                self._in_windows[metric.name] = sums, values
        return values

    def metric(self, name: str) -> Metric | None:
        """The metric of this name, if it is counted here."""
        return next((one for source in self._sources.values() for one in source.fold.metrics if one.name == name), None)

    def age(self) -> float | None:
        """Seconds since new documents of all sources were counted; None before all were for the first time."""
        age = time.monotonic() - min(source.fresh for source in self._sources.values()) if self._sources else 0.0
        return age if age < float("inf") else None

    def by_hour(self, metric: Metric, first: int, last: int) -> dict[LabelValues, list[float]] | None:
        """The totals of a metric whose last label is the window, by its other labels, in each of these hours since
        1970; None as long as its history is not counted, or if it is not counted at all."""
        with self._lock:
            source = next((one for one in self._sources.values() if metric.name in one.totals), None)
            if source is None or not source.is_folded(metric.name):
                return None
            found = source.hours.of_metric(metric.name, first, last)
        if metric.parts != 1:
            found = {labels: [amount / metric.parts for amount in amounts] for labels, amounts in found.items()}
        return found

    def recent(self, name: str, now: datetime) -> tuple[dict[Metric, dict[LabelValues, float]], tuple[int, int, int]]:
        """Of the source's documents of the last five minutes: the sums, and how many users, conversations, and users of
        tools there are."""
        recent = self._sources[name].recent
        with self._lock:
            recent.advance(now)
            return recent.values(), recent.distinct()

    def _source_of(self, metric: Metric) -> Source:
        for source in self._sources.values():
            if metric.name in source.totals:
                return source
        raise KeyError(metric.name)

    def count_seen(self, kind: str, since: datetime) -> int:
        """Distinct users of this kind seen since then."""
        with self._lock:
            return self._last_seen.count(kind, since)

    def count_seen_by_name(self, kind: str, since: datetime) -> dict[str, int]:
        """The same by the name of each thing of this kind."""
        with self._lock:
            return self._last_seen.count_by_name(kind, since)

    def count_active(self, day: date) -> int:
        """Distinct users with a message on that day of METRICS_TIMEZONE, which is no more than DAYS_KEPT ago."""
        with self._lock:
            return self._last_seen.days.count(day)

    def seen(self, kind: str) -> dict[str, float]:
        """When each user was last seen with this kind, as a Unix time. The same object until that changes."""
        with self._lock:
            return self._last_seen.of_kind(kind)

    def has_seen_all(self, *kinds: str) -> bool:
        """All history of these is folded."""
        with self._lock:
            sources = self._sources.values()
            return all(source.is_folded(kind) for kind in kinds for source in sources if kind in source.counted)

    def progress(self) -> dict[str, float]:
        """The share of history that is folded, by collection; that of a metric that has come later, too."""
        with self._lock:
            return {name: source.progress() for name, source in self._sources.items()}

    def pending(self) -> dict[str, float]:
        """The same for sources of which nothing can be shown yet."""
        with self._lock:
            sources = self._sources.items()
            return {name: source.progress() for name, source in sources if source.is_pending() or not source.is_read}

    def unreadable(self) -> dict[LabelValues, float]:
        """Documents that could not be read, by source, since the start."""
        return {(name,): float(len(source.unreadable)) for name, source in self._sources.items()}

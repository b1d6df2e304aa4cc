"""The guard bounds the values of labels, and the series of metrics."""

import threading
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType

from librechat_exporter.metrics.metric import LabelValues, Metric, Series

OTHER = "other"
MAX_LABEL_LENGTH = 200
_DISTINCT_DROPPED_REMEMBERED = 100_000
_SERIES_REMEMBERED = 50_000


class LabelGuard:
    """Bounds the values of each label, over all metrics, and the label combinations of each metric.

    A label's first `limit` values keep their names, or as many as `limits` says of it, and a metric's first
    `max_series` combinations, buckets and hours not counted; what comes later counts under `other`, in all labels if it
    is the combination that is one too many.

    What was admitted stays admitted, so that no series ever moves; `known` and `restore` bring back what a former
    process admitted. Safe for use from several threads.
    """

    def __init__(
        self,
        limit: int,
        max_series: int,
        known: Iterable[tuple[str, str]] = (),
        limits: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._limit = limit
        self._limits = limits
        self._max_series = max_series
        self._lock = threading.Lock()
        self._admitted: dict[str, set[str]] = {}
        self._combinations: dict[str, set[LabelValues]] = {}
        self._dropped: dict[str, set[int]] = {}
        self._dropped_series: dict[str, set[int]] = {}
        self._unsaved: list[tuple[str, str]] = []
        self._series: dict[Series, Series] = {}
        for label, value in known:
            self._admitted.setdefault(label, set()).add(value)

    def admit(self, label: str, value: str) -> str:
        value = value[:MAX_LABEL_LENGTH]
        admitted = self._admitted.setdefault(label, set())
        if value in admitted or value == OTHER:
            return value
        with self._lock:
            if len(admitted) < self._limits.get(label, self._limit):
                admitted.add(value)
                self._unsaved.append((label, value))
                return value
            _remember(self._dropped, label, value)
            return OTHER

    def series(self, metric: Metric, values: LabelValues) -> Series:
        """The series that these values are counted under. Equal ones are one object: thousands of cells hold them."""
        wanted = (metric.name, values)
        series = self._series.get(wanted)
        if series is None:
            series = self._admit_series(metric, values)
            if len(self._series) >= _SERIES_REMEMBERED:
                self._series.clear()
            self._series[wanted] = series = self._series.setdefault(series, series)
        return series

    def _admit_series(self, metric: Metric, values: LabelValues) -> Series:
        named, bound = _without_bound(metric, values)
        guarded = metric.labels[:-1] if metric.is_windowed else metric.labels
        labels = tuple(
            value if label in metric.chosen else self.admit(label, value)
            for label, value in zip(guarded, named, strict=True)
        )
        with self._lock:
            combinations = self._combinations.setdefault(metric.name, set())
            if labels not in combinations:
                if len(combinations) < self._max_series:
                    combinations.add(labels)
                else:
                    _remember(self._dropped_series, metric.name, labels)
                    chosen = metric.chosen
                    pairs = zip(guarded, labels, strict=True)
                    labels = tuple(value if label in chosen else OTHER for label, value in pairs)
        return metric.name, labels + bound

    def restore(self, metric: Metric, values: LabelValues) -> None:
        """Admits what a former process has counted."""
        self._combinations.setdefault(metric.name, set()).add(_without_bound(metric, values)[0])

    def release(self, name: str, labels: LabelValues) -> None:
        """Gives a combination's place in a metric back, when all its hours have gone."""
        with self._lock:
            self._combinations.get(name, set()).discard(labels)

    def dropped(self) -> dict[LabelValues, float]:
        """Distinct values seen since the start that count under `other`, by label."""
        with self._lock:
            labels = self._admitted.keys() | self._dropped.keys()
            return {(label,): float(len(self._dropped.get(label, ()))) for label in labels}

    def dropped_series(self) -> dict[LabelValues, float]:
        """Distinct label combinations since the start that count under `other`, by metric."""
        with self._lock:
            return {
                (name,): float(len(self._dropped_series.get(name, ())))
                for name, combinations in self._combinations.items()
                if combinations != {()}
            }

    def forget(self) -> None:
        """Back to the beginning, when nothing admitted stands in any series any more."""
        with self._lock:
            for admitted in self._admitted.values():
                admitted.clear()
            self._combinations.clear()
            self._dropped.clear()
            self._dropped_series.clear()
            self._unsaved.clear()
            self._series.clear()

    def forget_label(self, label: str) -> None:
        """As if no value of the label had been admitted, when none stands in any series any more."""
        with self._lock:
            self._admitted.pop(label, None)
            self._series.clear()

    def take_unsaved(self) -> list[tuple[str, str]]:
        """The (label, value) pairs admitted since the last call."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, []
            return unsaved


def _without_bound(metric: Metric, values: LabelValues) -> tuple[LabelValues, LabelValues]:
    """The values of labels, and that of a bucket or an hour, if it has one."""
    has_bound = metric.is_windowed or metric.type == "histogram"
    return (values[:-1], values[-1:]) if has_bound else (values, ())


def _remember(dropped: dict[str, set[int]], name: str, value: Hashable) -> None:
    distinct = dropped.setdefault(name, set())
    if len(distinct) < _DISTINCT_DROPPED_REMEMBERED:
        distinct.add(hash(value))

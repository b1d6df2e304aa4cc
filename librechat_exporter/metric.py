"""What a metric is: its definition as data, its samples, and the guard that bounds its labels.

A metric is defined once, with the name it is exposed under; `family` makes a fresh Prometheus metric family of it.
"""

import bisect
import functools
import itertools
import threading
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

LabelValues = tuple[str, ...]
Series = tuple[str, LabelValues]
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

OTHER = "other"
SUM = "sum"
WINDOW = "window"
MAX_LABEL_LENGTH = 200
_DISTINCT_DROPPED_REMEMBERED = 100_000
_SERIES_REMEMBERED = 50_000


@dataclass(frozen=True)
class Metric:
    """A metric's definition.

    kind is what its value means: `happened` (a ledger counter), `recent` (a window that ends now), `is` (what the
    database holds now) or `self` (the exporter about itself). groups are the toggles that must all be on.

    A histogram's values have one more label value than labels: the upper bound of a bucket, for the number of
    observations in that bucket alone, or SUM. chosen: labels whose few values the exporter itself chooses, so that they
    need no guard. In the ledger, a metric whose last label is WINDOW has the hour there.

    parts: what the ledger counts, in whole numbers, has so many of them to a value of 1; of a histogram its SUM.

    changes: a sentence for each change of what is counted, with the version that brought it. The ledger keeps the
    totals over a change and counts the new way from then on.
    """

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"]
    kind: Literal["happened", "recent", "is", "self"]
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    chosen: tuple[str, ...] = ()
    parts: int = 1
    changes: tuple[str, ...] = ()

    def __hash__(self) -> int:
        return hash(self.name)  # of all fields, it takes longer than what it is needed for

    @property
    def is_windowed(self) -> bool:
        return self.labels[-1:] == (WINDOW,)

    @property
    def shape(self) -> str:
        """Series are made of these: totals of another shape are of another metric."""
        return repr((self.type, self.labels, self.buckets, self.parts))

    def family(self, values: Mapping[LabelValues, float] | None = None) -> Family:
        """A metric family with one sample for each tuple of label values.

        Raises ValueError if a tuple does not have one string for each label.
        """
        if self.type == "histogram":
            return self._histogram(values or {})
        kind = CounterMetricFamily if self.type == "counter" else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for labels, value in sorted((values or {}).items()):
            if len(labels) != len(self.labels) or not all(isinstance(label, str) for label in labels):
                raise ValueError(f"{self.name} takes a string for each of the labels {self.labels}")
            family.add_metric(labels, float(value))
        return family

    @functools.cached_property
    def bounds(self) -> tuple[str, ...]:
        """Upper bounds of a histogram's buckets, as Prometheus writes them."""
        return tuple(map(floatToGoString, (*self.buckets, float("inf"))))

    def _histogram(self, values: Mapping[LabelValues, float]) -> HistogramMetricFamily:
        """With cumulative buckets, as Prometheus' exposition formats demand."""
        family = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels in sorted({labels[:-1] for labels in values}):
            counts = itertools.accumulate(values.get((*labels, bound), 0) for bound in self.bounds)
            family.add_metric(labels, list(zip(self.bounds, counts, strict=True)), values.get((*labels, SUM), 0))
        return family


class LabelGuard:
    """Bounds the values of each label, over all metrics, and the label combinations of each metric.

    A label's first `limit` values keep their names, and a metric's first `max_series` combinations, buckets and hours
    not counted; what comes later counts under `other`, in all labels if it is the combination that is one too many.

    What was admitted stays admitted, so that no series ever moves; `known` and `restore` bring back what a former
    process admitted. Safe for use from several threads.
    """

    def __init__(self, limit: int, max_series: int, known: Iterable[tuple[str, str]] = ()) -> None:
        self._limit = limit
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
            if len(admitted) < self._limit:
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


class Samples(dict[Series, float]):
    """Amounts by series; amounts of one series add up, labels pass the guard.

    only: names of the metrics to be counted; None counts all.
    """

    def __init__(self, guard: LabelGuard, only: Collection[str] | None = None) -> None:
        super().__init__()
        self._guard = guard
        self._only = only

    def add(self, metric: Metric, amount: float, *values: str) -> None:
        if self._only is not None and metric.name not in self._only:
            return
        series = self._guard.series(metric, values)
        self[series] = self.get(series, 0) + amount

    def observe(self, metric: Metric, observations: Collection[float], *values: str) -> None:
        """Adds observations to a histogram, as values, not parts."""
        if len(observations) == 1:
            [one] = observations
            self.add(metric, 1, *values, metric.bounds[bisect.bisect_left(metric.buckets, one)])
            self.add(metric, round(one * metric.parts) if metric.parts != 1 else one, *values, SUM)
        elif observations:
            buckets = Counter(bisect.bisect_left(metric.buckets, one) for one in observations)
            for bucket, count in buckets.items():
                self.add(metric, count, *values, metric.bounds[bucket])
            if metric.parts != 1:
                observations = [round(one * metric.parts) for one in observations]
            self.add(metric, sum(observations), *values, SUM)

    def family(self, metric: Metric) -> Family:
        """The metric's family; a metric without labels that has no sample is 0."""
        values = {labels: value for (name, labels), value in self.items() if name == metric.name}
        if not metric.labels:
            values.setdefault((), 0)
        return metric.family(values)

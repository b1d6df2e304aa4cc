"""A metric's definition, as data: `family` makes a Prometheus metric family of it."""

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

LabelValues = tuple[str, ...]
Series = tuple[str, LabelValues]
Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

SUM = "sum"
WINDOW = "window"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric's definition.

    kind: `happened` (a ledger counter), `recent` (a window that ends now), `is` (what the database holds now) or `self`
    (the exporter about itself). toggles: all of them must be on, as `basic` is by ENABLE_BASIC_METRICS.

    A histogram's values have one more label value than labels: the upper bound of a bucket, for the number of
    observations in that bucket alone, or SUM. chosen: labels whose few values the exporter itself chooses, so that they
    need no guard. In the ledger, a metric whose last label is WINDOW has the hour there.

    recent_of: the name of the counter whose sum over the last five minutes it shows.

    parts: what the ledger counts, in whole numbers, has so many of them to a value of 1; of a histogram its SUM.

    changes: a sentence for each change of what is counted, with the version that brought it. The ledger keeps the
    totals over a change and counts the new way from then on; documents that were counted stay as they were.

    since: sentences about changes that do not need that: what a document no longer counts as stays in its cell, what it
    counts as besides comes once.

    variant: tells apart series whose first label is made in different ways, as hashes with different keys are.
    """

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"]
    kind: Literal["happened", "recent", "is", "self"]
    labels: tuple[str, ...] = ()
    toggles: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    chosen: tuple[str, ...] = ()
    recent_of: str = ""
    parts: int = 1
    changes: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    variant: str = ""

    def __hash__(self) -> int:
        return hash(self.name)  # of all fields, it takes longer than what it is needed for

    @property
    def is_windowed(self) -> bool:
        return self.labels[-1:] == (WINDOW,)

    @property
    def shape(self) -> str:
        """Series are made of these: totals of another shape are of another metric."""
        shape = (self.type, self.labels, self.buckets, self.parts)
        return repr((*shape, self.variant) if self.variant else shape)

    def family(self, values: Mapping[LabelValues, float] | None = None) -> Family:
        """A metric family with one sample for each tuple of label values, the same one as long as the values are equal.

        Nobody may change it. Raises ValueError if a tuple does not have one string for each label.
        """
        values = values or {}
        made, family = _made.get(self, (None, None))
        if family is None or made != values:
            family = self._histogram(values) if self.type == "histogram" else self._simple(values)
            if len(values) <= _MOST_KEPT:
                _made[self] = dict(values), family
        return family

    def _simple(self, values: Mapping[LabelValues, float]) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if self.type == "counter" else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for labels, value in sorted(values.items()):
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


# By the metric the values that it had last, and their family: what changes seldom is shown on every scrape.
_made: dict[Metric, tuple[dict[LabelValues, float], Family]] = {}
_MOST_KEPT = 1000

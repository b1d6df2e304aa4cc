"""Samples: what is counted, by series."""

import bisect
from collections import Counter
from collections.abc import Collection

from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import SUM, Family, Metric, Series


class Samples(dict[Series, float]):
    """Amounts by series; amounts of one series add up, labels pass the guard.

    only: names of the metrics to be counted; None counts all.
    """

    def __init__(self, guard: LabelGuard, only: Collection[str] | None = None) -> None:
        super().__init__()
        self._guard = guard
        self._only = only

    def add(self, metric: Metric, amount: float, *values: str | None) -> None:
        """Nothing is counted as long as a label has no value yet, which is None."""
        if (self._only is not None and metric.name not in self._only) or None in values:
            return
        series = self._guard.series(metric, values)  # type: ignore[arg-type]
        self[series] = self.get(series, 0) + amount

    def observe(self, metric: Metric, observations: Collection[float], *values: str | None) -> None:
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

"""Metric families that were made of totals are kept: from one scrape to the next few amounts change."""

import copy
from collections.abc import Mapping

from librechat_exporter.metrics.metric import Family, LabelValues, Metric


class Families:
    """Of one source. The ledger's lock is held for each call."""

    def __init__(self, totals: Mapping[str, Mapping[LabelValues, float]]) -> None:
        """totals: by the metric's name."""
        self._totals = totals
        # By the metric's name its family, the places of its samples, and the labels of what has changed since.
        self._made: dict[str, tuple[Family, dict[LabelValues, int], set[LabelValues]]] = {}

    def change(self, name: str, labels: LabelValues) -> None:
        """Notes that this total has changed."""
        if name in self._made:
            self._made[name][2].add(labels)

    def get(self, metric: Metric) -> Family | None:
        """Returns the family that was made of the metric's totals, with those that have changed since; None if it must
        be made anew. Its samples are shared with those returned before, but for the changed ones."""
        family, places, changed = self._made.get(metric.name, (None, {}, set()))
        if family is None or not changed:
            return family
        if not changed <= places.keys():
            return None
        values = self._totals[metric.name]
        made = copy.copy(family)
        made.samples = list(family.samples)
        for labels in changed:
            value = values[labels] / metric.parts if metric.parts != 1 else values[labels]
            made.samples[places[labels]] = made.samples[places[labels]]._replace(value=float(value))
        self._made[metric.name] = made, places, set()
        return made

    def keep(self, metric: Metric, family: Family) -> None:
        """A family of the metric's totals as they are."""
        is_simple = metric.type != "histogram"  # whose samples are sums of totals
        places = {labels: place for place, labels in enumerate(sorted(self._totals[metric.name]))} if is_simple else {}
        self._made[metric.name] = family, places, set()

"""Totals by the hour, and their sums over the windows of the last hours and days.

As in the rest of the ledger, nothing that is deleted takes anything back. But a window's value is no counter, so a
document that changes while it is open, such as an answer that is finished after all, counts as what it is now.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from librechat_exporter.metrics.metric import LabelValues, Series
from librechat_exporter.settings import MONTH

HOUR = timedelta(hours=1)
# Longer than a month, and so long users count as seen.
HOURS_KEPT = timedelta(days=35)


def hour_of(moment: datetime) -> int:
    """Hours since 1970."""
    return int(moment.timestamp() // HOUR.total_seconds())


class Windows:
    """The windows that are shown, all of which end now, and how long hours are kept for them."""

    def __init__(self, lengths: Mapping[str, timedelta], timezone: ZoneInfo) -> None:
        """lengths: by the value of the label `window`. MONTH begins with the month, whatever its length says."""
        self._lengths = lengths
        self._timezone = timezone
        self.kept = max(HOURS_KEPT, *lengths.values())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._lengths)

    def beginning(self, window: str, now: datetime) -> datetime:
        """A window begins with the whole hour that it begins in; in a time zone half an hour off, so does a month."""
        if window == MONTH:
            local = now.astimezone(self._timezone)
            began = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
        else:
            began = now - self._lengths[window]
        return began - timedelta(seconds=began.timestamp() % HOUR.total_seconds())


class Hours:
    """Totals by the hour: series as in the ledger end in the hour, here the hour stands apart."""

    def __init__(self) -> None:
        # By metric, labels and hour.
        self._totals: dict[str, dict[LabelValues, dict[int, float]]] = {}
        self._expired: int | None = None
        # By the first hour, and by metric and labels, the sums from there on.
        self._sums: dict[int, dict[str, dict[LabelValues, float]]] = {}
        # By metric, what was told last, and of which windows, until it changes.
        self._told: dict[str, tuple[dict[str, int], dict[LabelValues, float]]] = {}

    def add(self, series: Series, amount: float) -> bool:
        """Adds to a total; true if that changed it."""
        if not amount:
            return False
        name, labels = series
        hour, labels = int(labels[-1]), labels[:-1]
        hours = self._totals.setdefault(name, {}).setdefault(labels, {})
        hours[hour] = hours.get(hour, 0) + amount
        self._told.pop(name, None)
        for first, sums in self._sums.items():
            if hour >= first:
                of_metric = sums.setdefault(name, {})
                of_metric[labels] = of_metric.get(labels, 0) + amount
        return True

    def total(self, series: Series) -> float:
        name, labels = series
        return self._totals.get(name, {}).get(labels[:-1], {}).get(int(labels[-1]), 0)

    def has(self, name: str, labels: LabelValues) -> bool:
        """There is a total of some hour."""
        return labels in self._totals.get(name, {})

    def expire(self, before: datetime) -> set[Series]:
        """Forgets the hours that ended before; their series."""
        first = hour_of(before)
        if first == self._expired:
            return set()
        self._expired = first
        self._told.clear()
        gone = set()
        for name, of_metric in self._totals.items():
            for labels, hours in list(of_metric.items()):
                for hour in [hour for hour in hours if hour < first]:
                    del hours[hour]
                    gone.add((name, (*labels, str(hour))))
                if not hours:
                    del of_metric[labels]
        return gone

    def since(self, name: str, beginnings: Mapping[str, datetime]) -> dict[LabelValues, float]:
        """A metric's sums by labels and, last, the window; nothing where the sum is 0. beginnings: of the windows.

        The same object until that changes.
        """
        firsts = {window: hour_of(beginning) for window, beginning in beginnings.items()}
        told = self._told.get(name)
        if told is not None and told[0] == firsts:
            return told[1]
        for old in self._sums.keys() - firsts.values():
            del self._sums[old]
        found: dict[LabelValues, float] = {}
        for window, first in firsts.items():
            if first not in self._sums:
                self._sums[first] = {name: self._sum(name, first) for name in self._totals}
            of_metric = self._sums[first].get(name, {})
            found.update({(*labels, window): amount for labels, amount in of_metric.items() if amount})
        self._told[name] = firsts, found
        return found

    def of_metric(self, name: str, first: int, last: int) -> dict[LabelValues, list[float]]:
        """The totals by labels, in each of these hours."""
        every = range(first, last + 1)
        return {
            labels: [hours.get(hour, 0.0) for hour in every] for labels, hours in self._totals.get(name, {}).items()
        }

    def _sum(self, name: str, first: int) -> dict[LabelValues, float]:
        sums = {}
        for labels, hours in self._totals[name].items():
            amounts = [amount for hour, amount in hours.items() if hour >= first]
            if amounts:
                sums[labels] = sum(amounts)
        return sums

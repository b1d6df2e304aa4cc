"""Distinct users since the day, the week and the month began, from the ledger's last-seen table: no query."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from librechat_exporter.collector import Collector, Scrape
from librechat_exporter.folds.messages import MESSAGES, SEEN
from librechat_exporter.metrics.metric import Family, Metric
from librechat_exporter.settings import Settings

_gauge = partial(Metric, type="gauge", kind="recent", toggles=("user",))

_DAILY = _gauge(name="librechat_daily_unique_users", help="Distinct users with a message since the day began")
_WEEKLY = _gauge(name="librechat_weekly_unique_users", help="Distinct users with a message since Monday began")
_MONTHLY = _gauge(name="librechat_monthly_unique_users", help="Distinct users with a message since the month began")


def _beginnings(local: datetime) -> dict[Metric, datetime]:
    """When the day, the week and the month of this local time began. Aware datetimes keep the wall clock right."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    monday = midnight - timedelta(days=midnight.weekday())
    return {_DAILY: midnight, _WEEKLY: monday, _MONTHLY: midnight.replace(day=1)}


class _UniqueUsersCollector(Collector):
    name = "unique_users"
    metrics = (_DAILY, _WEEKLY, _MONTHLY)
    sources = (MESSAGES,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        if not scrape.totals.has_seen_all(SEEN):
            return
        for metric, beginning in _beginnings(scrape.now.astimezone(scrape.settings.metrics_timezone)).items():
            yield metric.family({(): scrape.totals.count_seen(SEEN, beginning)})


def collectors(_settings: Settings) -> list[Collector]:
    return [_UniqueUsersCollector()]

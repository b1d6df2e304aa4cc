"""Distinct users since the day, the week and the month began, from the ledger's last-seen table: no query."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.collectors.windows import SEEN
from librechat_exporter.ledger.fold import Fold
from librechat_exporter.metric import Family, Metric


def _gauge(period: str, since: str) -> Metric:
    name = f"librechat_{period}_unique_users"
    return Metric(name, f"Distinct users with a message since {since} began", "gauge", "recent", groups=("user",))


DAILY = _gauge("daily", "the day")
WEEKLY = _gauge("weekly", "Monday")
MONTHLY = _gauge("monthly", "the month")


def beginnings(local: datetime) -> dict[Metric, datetime]:
    """When the day, the week and the month of this local time began. Aware datetimes keep the wall clock right."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return {DAILY: midnight, WEEKLY: midnight - timedelta(days=midnight.weekday()), MONTHLY: midnight.replace(day=1)}


class UniqueUsersCollector(Collector):
    name = "unique_users"
    metrics = (DAILY, WEEKLY, MONTHLY)

    def __init__(self, messages: Fold) -> None:
        self.folds = (messages,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(self.folds[0])
        if not scrape.ledger.has_seen_all(SEEN):
            return
        for metric, beginning in beginnings(scrape.now.astimezone(scrape.settings.metrics_timezone)).items():
            yield metric.family({(): scrape.ledger.count_seen(SEEN, beginning)})

"""The month of METRICS_TIMEZONE, for rules: Prometheus itself knows UTC's alone."""

from collections.abc import Iterator
from datetime import timedelta

from librechat_exporter.collector import Collector, Scrape
from librechat_exporter.metrics.metric import Family, Metric
from librechat_exporter.settings import Settings

_END = Metric(
    name="librechat_month_end_timestamp_seconds",
    help="When this month ends in METRICS_TIMEZONE, as Unix time",
    type="gauge",
    kind="is",
    toggles=("usage_window",),
)


class _MonthCollector(Collector):
    name = "month"
    metrics = (_END,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        local = scrape.now.astimezone(scrape.settings.metrics_timezone)
        first = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0, fold=0)
        yield _END.family({(): (first + timedelta(days=32)).replace(day=1).timestamp()})


def collectors(_settings: Settings) -> list[Collector]:
    return [_MonthCollector()]

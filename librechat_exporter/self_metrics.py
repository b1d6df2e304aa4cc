"""The exporter's metrics about itself."""

import platform
from collections.abc import Iterator, Mapping
from functools import partial

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR
from prometheus_client.metrics_core import Metric as PrometheusMetric

from librechat_exporter import __version__
from librechat_exporter.collector import Outcome
from librechat_exporter.ledger import Ledger
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import LabelValues, Metric

_gauge = partial(Metric, type="gauge", kind="self")
_counter = partial(Metric, type="counter", kind="self")

_UP = _gauge(name="librechat_up", help="1 if LibreChat's MongoDB answered, else 0")
_BUILD_INFO = _gauge(name="librechat_exporter_build_info", help="The exporter's version", labels=("version", "python"))
_SUCCESS = _gauge(
    name="librechat_exporter_collector_success",
    help="1 if the collector could measure in this scrape, else 0",
    labels=("collector",),
)
_DURATION = _gauge(
    name="librechat_exporter_collector_duration_seconds",
    help="How long the collector took in this scrape",
    labels=("collector",),
)
_FAILURES = _counter(
    name="librechat_exporter_collector_errors_total",
    help="Scrapes in which the collector failed",
    labels=("collector", "reason"),
)
_PROGRESS = _gauge(
    name="librechat_exporter_history_progress_ratio",
    help="The share of the past that is folded (read and counted), from 0 to 1: of what was stored before the "
    "first start, or came during a long stop; a metric is absent until all that it misses is folded",
    labels=("source",),
)
_PERSISTENT = _gauge(
    name="librechat_exporter_state_persistent", help="1 if the counters are on disk and survive a restart, else 0"
)
_DATA_AGE = _gauge(
    name="librechat_exporter_data_age_seconds",
    help="Seconds since the collector read what it serves, where it does not read on every scrape",
    labels=("collector",),
)
_DROPPED = _counter(
    name="librechat_exporter_label_values_dropped_total",
    help="Distinct label values since the start that are counted under `other`, as the label has MAX_LABEL_VALUES "
    "already",
    labels=("label",),
)
_DROPPED_SERIES = _counter(
    name="librechat_exporter_series_dropped_total",
    help="Distinct label combinations since the start that are counted under `other`, as the metric has MAX_SERIES "
    "already; those that begin with `page` are counted for the page alone",
    labels=("metric",),
)
_UNREADABLE = _counter(
    name="librechat_exporter_unreadable_documents_total",
    help="Documents since the start that MongoDB could not read even alone, and that are not counted",
    labels=("source",),
)
SELF_METRICS = (
    *(_UP, _BUILD_INFO, _SUCCESS, _DURATION, _FAILURES, _PROGRESS, _PERSISTENT, _DATA_AGE),
    *(_DROPPED, _DROPPED_SERIES, _UNREADABLE),
)


def about_itself(
    ledger: Ledger,
    guard: LabelGuard,
    outcomes: Mapping[str, Outcome],
    *,
    up: bool,
    ages: Mapping[LabelValues, float],
    failures: Mapping[LabelValues, float],
) -> Iterator[PrometheusMetric]:
    """Families of SELF_METRICS, of the process and of Python.

    up: MongoDB answered. ages: seconds, by collector. failures: since the start, by collector and reason.
    """
    yield _UP.family({(): up})
    yield _BUILD_INFO.family({(__version__, platform.python_version()): 1})
    yield _SUCCESS.family({(name,): outcome.error is None for name, outcome in outcomes.items()})
    yield _DURATION.family({(name,): outcome.seconds for name, outcome in outcomes.items()})
    yield _FAILURES.family(failures)
    yield _PROGRESS.family({(source,): ratio for source, ratio in ledger.totals.progress().items()})
    yield _PERSISTENT.family({(): ledger.persistent})
    yield _DATA_AGE.family(ages)
    yield _DROPPED.family(guard.dropped())
    yield _DROPPED_SERIES.family(guard.dropped_series())
    yield _UNREADABLE.family(ledger.totals.unreadable())
    for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        yield from collector.collect()

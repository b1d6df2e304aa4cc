"""These are the metrics that the exporter offers, whatever is switched on."""

from collections.abc import Iterable

from librechat_exporter.collectors import all_collectors
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.prices import GENAI_PRICES
from librechat_exporter.self_metrics import SELF_METRICS
from librechat_exporter.settings import Settings

# With all that is off unless it is asked for.
ON = {"group_metrics": True, "domain_metrics": True, "per_user_metrics": "id", "model_prices": GENAI_PRICES}
ALL = Settings().with_all()
COLLECTORS = all_collectors(ALL)
METRICS = (*(metric for collector in COLLECTORS for metric in collector.metrics), *SELF_METRICS)


def sample_names(metrics: Iterable[Metric]) -> set[str]:
    """Samples have their metric's name, those of a histogram with suffixes."""
    suffixes = {"histogram": ("_bucket", "_count", "_sum")}
    return {f"{metric.name}{suffix}" for metric in metrics for suffix in suffixes.get(metric.type, ("",))}

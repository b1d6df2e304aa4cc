"""Tokens and cost as answers tell them: there is no other record where LibreChat writes no transactions."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.messages import MESSAGES, MessageGroup
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.fields import USD_PARTS
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_TOKENS = Metric(
    name="librechat_usage_tokens_total",
    help="Tokens that answers tell in metadata.usage: input, output, cache_read, cache_write",
    type="counter",
    kind="happened",
    labels=("model", "token_type"),
    toggles=("cost",),
    chosen=("token_type",),
)
_COST = Metric(
    name="librechat_usage_cost_usd_total",
    help="US dollars that answers tell in metadata.usage; not to be added to librechat_llm_cost_usd_total",
    type="counter",
    kind="happened",
    labels=("model",),
    toggles=("cost",),
    parts=USD_PARTS,
)


def _add(samples: Samples, group: MessageGroup) -> None:
    if group.kind.by_user or group.usage is None:
        return
    for token_type in ("input", "output", "cache_read", "cache_write"):
        samples.add(_TOKENS, getattr(group.usage, token_type), group.model, token_type)
    samples.add(_COST, group.usage.cost, group.model)


def collectors(_settings: Settings) -> list[Collector]:
    return [CountingCollector("usage", Counting(MESSAGES, (_TOKENS, _COST), _add))]

"""Tokens and cost as LibreChat bills them: of the model that really ran, cached tokens apart, by what they were for."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.transactions import TRANSACTIONS
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.fields import CREDIT_PARTS, USD_PARTS
from librechat_exporter.librechat.transactions import Billed
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_TOKENS = Metric(
    name="librechat_llm_tokens_total",
    help="Tokens billed: input, output, cache_read, cache_write; input is without those of the cache",
    type="counter",
    kind="happened",
    labels=("model", "token_type", "context"),
    toggles=("cost",),
    chosen=("token_type",),
)
_COST = Metric(
    name="librechat_llm_cost_usd_total",
    help="US dollars billed for input, cached tokens included, and for output",
    type="counter",
    kind="happened",
    labels=("model", "token_type", "context"),
    toggles=("cost",),
    chosen=("token_type",),
    parts=USD_PARTS,
)
_CREDITS = Metric(
    name="librechat_credits_granted_total",
    help="Credits granted to users, by refills among others; a million credits are one US dollar",
    type="counter",
    kind="happened",
    toggles=("cost",),
    parts=CREDIT_PARTS,
)
_SKIPPED_TRANSACTIONS = Metric(
    name="librechat_exporter_skipped_transactions_total",
    help="Transactions with an amount that is not a number up to 1e12; it was taken as 0",
    type="counter",
    kind="self",
    toggles=("cost",),
)
_METRICS = (_TOKENS, _COST, _CREDITS, _SKIPPED_TRANSACTIONS)


def _add(samples: Samples, billed: Billed) -> None:
    samples.add(_SKIPPED_TRANSACTIONS, billed.skipped)
    if billed.kind == "credits":
        samples.add(_CREDITS, billed.granted)
    elif billed.is_spent:
        samples.add(_COST, billed.charged, billed.model, billed.token_type, billed.context)
        for token_type, tokens in billed.by_token_type().items():
            samples.add(_TOKENS, tokens, billed.model, token_type, billed.context)


def collectors(_settings: Settings) -> list[Collector]:
    return [CountingCollector("cost", Counting(TRANSACTIONS, _METRICS, _add))]

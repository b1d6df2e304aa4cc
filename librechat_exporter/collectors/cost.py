"""Tokens and cost as LibreChat bills them: of the model that really ran, cached tokens apart, by what they were for."""

from collections.abc import Mapping

from bson import ObjectId

from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.fields import CREDIT_PARTS
from librechat_exporter.fold import Fold, Reading
from librechat_exporter.metric import Metric, Samples
from librechat_exporter.rows import USD_PARTS, Billed
from librechat_exporter.state import Cell, Seen

_LABELS = ("model", "token_type", "context")

TOKENS = Metric(
    "librechat_llm_tokens_total",
    "Tokens billed: input, output, cache_read, cache_write; input is without those of the cache",
    "counter",
    "happened",
    _LABELS,
    ("cost",),
    chosen=("token_type",),
)
COST = Metric(
    "librechat_llm_cost_usd_total",
    "US dollars billed for input, cached tokens included, and for output",
    "counter",
    "happened",
    _LABELS,
    ("cost",),
    chosen=("token_type",),
    parts=USD_PARTS,
)
CREDITS = Metric(
    "librechat_credits_granted_total",
    "Credits granted, as by refills; a million are a dollar",
    "counter",
    "happened",
    groups=("cost",),
    parts=CREDIT_PARTS,
)
SKIPPED_TRANSACTIONS = Metric(
    "librechat_exporter_skipped_transactions_total",
    "Transactions with an amount that is not a number up to 1e12; it was taken as 0",
    "counter",
    "self",
    groups=("cost",),
)


class TransactionsFold(Fold):
    name = collection = "transactions"
    version = 2
    metrics = (TOKENS, COST, CREDITS, SKIPPED_TRANSACTIONS)

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        found: dict[ObjectId, Cell] = {}
        for billed in reading.librechat.billed(reading.match, first=limit):
            if billed.id is not None:
                samples = Samples(reading.guard)
                _add(samples, billed)
                found[billed.id] = Cell(samples)
        return found, {}

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        samples = Samples(reading.guard)
        for billed in reading.librechat.billed(reading.match):
            _add(samples, billed)
        return samples, {}


def _add(samples: Samples, billed: Billed) -> None:
    samples.add(SKIPPED_TRANSACTIONS, billed.skipped)
    if billed.kind == "credits":
        samples.add(CREDITS, billed.granted)
    elif billed.kind in ("prompt", "completion"):
        token_type = "input" if billed.kind == "prompt" else "output"
        samples.add(TOKENS, billed.tokens, billed.model, token_type, billed.context)
        samples.add(COST, billed.charged, billed.model, token_type, billed.context)
        if billed.cache is not None:
            for token_type, tokens in zip(("cache_read", "cache_write"), billed.cache, strict=True):
                samples.add(TOKENS, tokens, billed.model, token_type, billed.context)


def collector() -> LedgerCollector:
    return LedgerCollector("cost", TransactionsFold())

"""Tokens and cost as LibreChat bills them: of the model that really ran, cached tokens apart, by what they were for."""

import re
from collections.abc import Sequence

from librechat_exporter.collectors import windows
from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.fields import BILLED, CREDIT_PARTS, Document
from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Fold, Found, Kind, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat import TRANSACTION_ROW
from librechat_exporter.metric import Metric, Samples
from librechat_exporter.rows import USD_PARTS, Billed
from librechat_exporter.settings import Settings

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
    row = TRANSACTION_ROW
    metrics = (TOKENS, COST, CREDITS, SKIPPED_TRANSACTIONS, *windows.OF_TRANSACTIONS)

    def __init__(self, external: re.Pattern[str] | None) -> None:
        """external: EXTERNAL_MODEL_REGEX. Users are seen by the class of the models that they use."""
        self._external = external
        shape = f"classes by {external.pattern if external is not None else None!r}"
        self.kinds = tuple(Kind(name, shape) for name in windows.OF_CLASS.values())

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        found, billed = [], []
        for row in rows:
            created = abs(row["created"]) / 1000
            hour = reading.hour(created)
            key = {name: row[f"key_{name}"] for name in BILLED}
            one = Billed.of(key, row | {"users": (row["user"],)}, int(hour) if hour is not None else None)
            samples = reading.samples()
            _add(samples, one)
            found.append(Found(samples, final=created <= reading.now.timestamp()))
            billed.append(one)
        return found, windows.seen_by_class(billed, self._external)

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        samples = reading.samples()
        billed = reading.librechat.billed(match, reading.span)
        for one in billed:
            _add(samples, one)
        return samples, windows.seen_by_class(billed, self._external)


def _add(samples: Samples, billed: Billed) -> None:
    samples.add(SKIPPED_TRANSACTIONS, billed.skipped)
    if billed.kind == "credits":
        samples.add(CREDITS, billed.granted)
    elif billed.kind in ("prompt", "completion"):
        token_type = "input" if billed.kind == "prompt" else "output"
        samples.add(TOKENS, billed.tokens, billed.model, token_type, billed.context)
        samples.add(COST, billed.charged, billed.model, token_type, billed.context)
        if billed.cache is not None:
            for kind, tokens in zip(("cache_read", "cache_write"), billed.cache, strict=True):
                samples.add(TOKENS, tokens, billed.model, kind, billed.context)
        if billed.hour is not None:
            windows.add_billed(samples, billed, token_type, str(billed.hour))


def collector(settings: Settings) -> LedgerCollector:
    return LedgerCollector(
        "cost", TransactionsFold(settings.external_models), (TOKENS, COST, CREDITS, SKIPPED_TRANSACTIONS)
    )

"""Messages made by hand, and the series that count them."""

from datetime import datetime
from typing import Any

from bson import ObjectId

from librechat_exporter.collectors import cost, documents
from librechat_exporter.collectors.messages_fold import MessagesFold
from tests import weird
from tests.conftest import Document, Exporter
from tests.oracle import Values

NOW = weird.NOW
MESSAGES = ("librechat_messages_total", ())
TOKENS = ("librechat_output_tokens_total", ())
MESSAGES_FOLD = MessagesFold()
FOLDS = (MESSAGES_FOLD, cost.TransactionsFold(None), *(collector.folds[0] for collector in documents.collectors()))


def counters(values: Values) -> Values:
    """What happened; what gauges under old names say may come and go."""
    happened = {
        f"{metric.name}{suffix}"
        for fold in FOLDS
        for metric in fold.metrics
        if not metric.is_windowed
        for suffix in (("_bucket", "_count", "_sum") if metric.type == "histogram" else ("",))
    }
    return {series: value for series, value in values.items() if series[0] in happened}


def object_id(moment: datetime, number: int = 0) -> ObjectId:
    return ObjectId(int(moment.timestamp()).to_bytes(4, "big") + number.to_bytes(8, "big"))


def message(moment: datetime, number: int, **fields: Any) -> Document:
    return {
        "_id": object_id(moment, number),
        "messageId": f"m{number}",
        "user": "u1",
        "isCreatedByUser": False,
        "model": "gpt-4o",
        "tokenCount": 10,
        "createdAt": moment,
    } | fields


def set_clock(one: Exporter, now: datetime) -> None:
    one.daemon.librechat.now = lambda: now  # type: ignore[method-assign]

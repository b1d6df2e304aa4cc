"""Messages made by hand, and the series that count them."""

from datetime import datetime
from typing import Any

from bson import ObjectId

from librechat_exporter.collectors import folds_of
from tests import weird
from tests.conftest import Document, Exporter
from tests.meanings import Values
from tests.offered import ALL, COLLECTORS, sample_names

NOW = weird.NOW
MESSAGES = ("librechat_messages_total", ())
TOKENS = ("librechat_output_tokens_total", ())
FOLDS = folds_of(COLLECTORS, ALL)
[MESSAGES_FOLD] = [fold for fold in FOLDS if fold.name == "messages"]


def counters(values: Values) -> Values:
    """The series of what happened; those of gauges under old names may come and go."""
    happened = sample_names(metric for fold in FOLDS for metric in fold.metrics if not metric.is_windowed)
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
    one.at = now

"""How long conversations are."""

import bisect
from datetime import timedelta

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import MESSAGES_LISTED, created_within
from librechat_exporter.metrics.metric import SUM, LabelValues, Metric
from librechat_exporter.settings import Settings

_MESSAGES = Metric(
    name="librechat_conversation_messages",
    help="Messages of each conversation begun in the last 30 days, as it is now; no counter, so not for rate()",
    type="histogram",
    kind="is",
    toggles=("basic",),
    buckets=(2, 4, 6, 10, 20, 50, 100, 200),
)
_BEGUN_WITHIN = timedelta(days=30)


def _read(librechat: LibreChat) -> Values:
    """Conversations that list no messages, as imported ones, are out."""
    if "conversations" not in librechat.collections():
        return {}
    values: dict[LabelValues, float] = dict.fromkeys([(bound,) for bound in (*_MESSAGES.bounds, SUM)], 0)
    match = created_within(librechat.now(), _BEGUN_WITHIN)
    group = {"$group": {"_id": MESSAGES_LISTED, "count": {"$sum": 1}}}
    for row in librechat.aggregate("conversations", match, group):
        length, count = row["_id"], row["count"]
        if length:
            values[_MESSAGES.bounds[bisect.bisect_left(_MESSAGES.buckets, length)],] += count
            values[SUM,] += length * count
    return {_MESSAGES: values}


def collectors(_settings: Settings) -> list[Collector]:
    return [RefreshedCollector("conversation_messages", (_MESSAGES,), _read)]

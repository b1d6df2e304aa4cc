"""How long conversations are."""

import bisect
from datetime import timedelta

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import SUM, LabelValues, Metric

MESSAGES = Metric(
    "librechat_conversation_messages",
    "Messages of each conversation begun in the last 30 days, as it is now; no counter, so not for rate()",
    "histogram",
    "is",
    groups=("basic",),
    buckets=(2, 4, 6, 10, 20, 50, 100, 200),
)
_WINDOW = timedelta(days=30)


def read(librechat: LibreChat) -> Values:
    values: dict[LabelValues, float] = dict.fromkeys([(bound,) for bound in (*MESSAGES.bounds, SUM)], 0)
    if "conversations" not in librechat.collections():
        return {}
    for length, count in librechat.conversation_lengths(_WINDOW).items():
        values[MESSAGES.bounds[bisect.bisect_left(MESSAGES.buckets, length)],] += count
        values[SUM,] += length * count
    return {MESSAGES: values}


def collector() -> StateCollector:
    return StateCollector("conversation_messages", (MESSAGES,), read)

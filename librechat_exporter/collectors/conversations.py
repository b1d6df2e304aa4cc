"""The length of conversations."""

import bisect
import itertools
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import (
    CONVERSATION,
    CONVERSATION_FIELD,
    NOT_SUBAGENTS,
    created_within,
    not_created_within,
)
from librechat_exporter.metrics.metric import SUM, LabelValues, Metric
from librechat_exporter.settings import Settings

_MESSAGES = Metric(
    name="librechat_conversation_messages",
    help="Messages stored now of each conversation that had one in the last 30 days; no counter, so not for rate()",
    type="histogram",
    kind="is",
    toggles=("basic",),
    buckets=(2, 4, 6, 10, 20, 50, 100, 200),
)
_LATELY = timedelta(days=30)
_LOOK_UP_AT_ONCE = 500


def _read(librechat: LibreChat) -> Values:
    """Messages without a conversation, and those of sub-agents' threads, are out."""
    values: dict[LabelValues, float] = dict.fromkeys([(bound,) for bound in (*_MESSAGES.bounds, SUM)], 0)
    for length in _lengths(librechat):
        values[_MESSAGES.bounds[bisect.bisect_left(_MESSAGES.buckets, length)],] += 1
        values[SUM,] += length
    return {_MESSAGES: values}


def _lengths(librechat: LibreChat) -> Iterator[int]:
    """Of each conversation of the time, some at a time: there can be hundreds of thousands."""
    now = librechat.now()
    lately = _count(librechat, created_within(now, _LATELY))
    while some := dict(itertools.islice(lately, _LOOK_UP_AT_ONCE)):
        before = not_created_within(now, _LATELY) | {CONVERSATION_FIELD: {"$in": list(some)}}
        yield from (Counter(some) + Counter(dict(_count(librechat, before)))).values()


def _count(librechat: LibreChat, match: Document) -> Iterator[tuple[str, int]]:
    """The matching messages, by conversation."""
    group = {"$group": {"_id": CONVERSATION, "count": {"$sum": 1}}}
    rows = librechat.stream("messages", {"$and": [match, NOT_SUBAGENTS]}, group)
    return ((row["_id"], row["count"]) for row in rows if row["_id"] is not None)


def collectors(_settings: Settings) -> list[Collector]:
    return [RefreshedCollector("conversation_messages", (_MESSAGES,), _read, collection="messages")]

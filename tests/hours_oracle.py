"""The oracle of what is counted by the hour and by the day: for the page's charts, as no metric shows it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from librechat_exporter.folds import hours
from librechat_exporter.ledger.totals import Totals
from tests.conftest import Document
from tests.meanings import created_within, failed, is_users, tool_calls, user
from tests.oracle import Oracle

# A metric's name, its labels, the hour since 1970.
Hourly = dict[tuple[str, tuple[str, ...], int], float]
_BOUNDS = (1, 2, 4, 8, 15, 30, 60, 120, 300, 900, 3600)
_HOUR = 3600
_DAYS = 33


def hours_and_days(
    documents: Mapping[str, Iterable[Document]], now: datetime, timezone: str, longest: timedelta
) -> tuple[Hourly, dict[date, int]]:
    """All that messages count as by the hour, and on each of the last 33 days the users with one.

    longest: of the windows.
    """
    oracle = Oracle(documents, now)
    counted: Hourly = defaultdict(float)
    days: dict[date, set[str | None]] = {}
    oldest = (now - max(longest, timedelta(days=35))).replace(minute=0, second=0, microsecond=0)
    for message in oracle.counted(oracle.messages):
        if created_within(message, now - timedelta(days=_DAYS), now) and user(message) is not None:
            days.setdefault(message["createdAt"].astimezone(ZoneInfo(timezone)).date(), set()).add(user(message))
        just_before = oldest - timedelta(milliseconds=1)
        if not created_within(message, just_before, now) or message["_id"].generation_time < oldest:
            continue
        hour = math.floor(message["createdAt"].timestamp() / _HOUR)
        if is_users(message) and not failed(message):
            counted["page_questions", (), hour] += 1
        for tool, broken in tool_calls(message):
            counted["page_tool_calls", (tool, "failed" if broken else "ok"), hour] += 1
        waited, model = None if is_users(message) else oracle.waited(message), oracle.named(message)
        if waited is not None and model is not None:
            bound = str(next(bound for bound in _BOUNDS if waited <= bound))
            counted["page_answer_seconds", (model, bound), hour] += 1
    today = now.astimezone(ZoneInfo(timezone)).date()
    shown = (today - timedelta(days=ago) for ago in range(_DAYS - 1))
    return dict(counted), {day: len(days.get(day, ())) for day in shown}


def counted_by_hour(totals: Totals, now: datetime) -> Hourly:
    """The same as the ledger has it."""
    last = math.floor(now.timestamp() / _HOUR)
    found = {
        metric: totals.by_hour(metric, 0, last) or {} for metric in (hours.QUESTIONS, hours.TOOL_CALLS, hours.WAITS)
    }
    return {
        (metric.name, labels, hour): amount
        for metric, values in found.items()
        for labels, amounts in values.items()
        for hour, amount in enumerate(amounts)
        if amount
    }

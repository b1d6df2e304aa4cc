"""The last five minutes, told from what the ledger has in memory of the open messages: no query."""

from collections.abc import Iterator
from functools import partial

from librechat_exporter.collector import Collector, Scrape
from librechat_exporter.folds.messages import MESSAGES
from librechat_exporter.metrics.metric import Family, Metric
from librechat_exporter.settings import Settings

_gauge = partial(Metric, type="gauge", kind="recent")

_ACTIVE_USERS = _gauge(
    name="librechat_active_users", help="Distinct users with a message in the last 5 minutes", toggles=("user",)
)
_ACTIVE_CONVERSATIONS = _gauge(
    name="librechat_active_conversations",
    help="Distinct conversations with a message in the last 5 minutes",
    toggles=("user",),
)
_ACTIVE_TOOL_USERS = _gauge(
    name="librechat_active_tool_users",
    help="Distinct users with a tool call in the last 5 minutes",
    toggles=("user", "tool"),
)
_SUMS = (
    _gauge(
        name="librechat_messages_5m",
        help="Messages in the last 5 minutes",
        toggles=("time_window",),
        recent_of="librechat_messages_total",
    ),
    _gauge(
        name="librechat_error_messages_5m",
        help="Messages of the last 5 minutes that failed",
        toggles=("time_window", "basic"),
        recent_of="librechat_error_messages_total",
    ),
    _gauge(
        name="librechat_input_tokens_5m",
        help="Tokens of users' messages in the last 5 minutes",
        toggles=("time_window", "token"),
        recent_of="librechat_input_tokens_total",
    ),
    _gauge(
        name="librechat_output_tokens_5m",
        help="Tokens of answers in the last 5 minutes",
        toggles=("time_window", "token"),
        recent_of="librechat_output_tokens_total",
    ),
    _gauge(
        name="librechat_messages_per_model_5m",
        help="Answers in the last 5 minutes, per model",
        labels=("model",),
        toggles=("time_window", "model"),
        recent_of="librechat_messages_per_model_total",
    ),
    _gauge(
        name="librechat_errors_per_model_5m",
        help="Messages of the last 5 minutes that failed, per model",
        labels=("model",),
        toggles=("time_window", "model"),
        recent_of="librechat_errors_per_model_total",
    ),
    _gauge(
        name="librechat_model_input_tokens_5m",
        help="Tokens of the users' messages that a model answered in the last 5 minutes, once for each answer",
        labels=("model",),
        toggles=("time_window", "token"),
        recent_of="librechat_input_tokens_per_model_total",
    ),
    _gauge(
        name="librechat_model_output_tokens_5m",
        help="Tokens of answers in the last 5 minutes, per model",
        labels=("model",),
        toggles=("time_window", "token"),
        recent_of="librechat_output_tokens_per_model_total",
    ),
    _gauge(
        name="librechat_tool_calls_5m",
        help="Tool calls in the last 5 minutes",
        toggles=("time_window", "tool"),
        recent_of="librechat_tool_calls_total",
    ),
    _gauge(
        name="librechat_tool_call_errors_5m",
        help="Tool calls of the last 5 minutes that failed",
        toggles=("time_window", "tool"),
        recent_of="librechat_tool_call_errors_total",
    ),
    _gauge(
        name="librechat_tool_calls_per_tool_5m",
        help="Tool calls in the last 5 minutes, per tool",
        labels=("tool_name",),
        toggles=("time_window", "tool"),
        recent_of="librechat_tool_calls_per_tool",
    ),
)


class _RecentCollector(Collector):
    name = "recent"
    metrics = (_ACTIVE_USERS, _ACTIVE_CONVERSATIONS, *_SUMS, _ACTIVE_TOOL_USERS)
    sources = (MESSAGES,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        sums, distinct = scrape.totals.recent(MESSAGES, scrape.now)
        for metric, values in sums.items():
            yield metric.family(values)
        for metric, count in zip((_ACTIVE_USERS, _ACTIVE_CONVERSATIONS, _ACTIVE_TOOL_USERS), distinct, strict=True):
            yield metric.family({(): count})


def collectors(_settings: Settings) -> list[Collector]:
    return [_RecentCollector()]

"""The last five minutes, told from what the ledger has in memory of the open messages: no query."""

from collections.abc import Iterator

from librechat_exporter.collectors import messages, tools
from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.ledger.fold import Fold
from librechat_exporter.metric import Family, Metric


def _gauge(name: str, text: str, *groups: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name, f"{text} in the last 5 minutes", "gauge", "recent", labels, groups)


ACTIVE_USERS = _gauge("librechat_active_users", "Distinct users with a message", "user")
ACTIVE_CONVERSATIONS = _gauge("librechat_active_conversations", "Distinct conversations with a message", "user")
MESSAGES = _gauge("librechat_messages_5m", "Messages", "time_window")
ERRORS = _gauge("librechat_error_messages_5m", "Messages that failed", "time_window", "basic")
INPUT_TOKENS = _gauge("librechat_input_tokens_5m", "Tokens of users' messages", "time_window", "token")
OUTPUT_TOKENS = _gauge("librechat_output_tokens_5m", "Tokens of answers", "time_window", "token")
MESSAGES_PER_MODEL = _gauge("librechat_messages_per_model_5m", "Answers", "time_window", "model", labels=("model",))
ERRORS_PER_MODEL = _gauge(
    "librechat_errors_per_model_5m", "Messages that failed", "time_window", "model", labels=("model",)
)
MODEL_INPUT_TOKENS = _gauge(
    "librechat_model_input_tokens_5m",
    "Tokens of the users' messages that were answered, once for each answer,",
    "time_window",
    "token",
    labels=("model",),
)
MODEL_OUTPUT_TOKENS = _gauge(
    "librechat_model_output_tokens_5m", "Tokens of answers", "time_window", "token", labels=("model",)
)
TOOL_CALLS = _gauge("librechat_tool_calls_5m", "Tool calls", "time_window", "tool")
TOOL_ERRORS = _gauge("librechat_tool_call_errors_5m", "Tool calls that failed", "time_window", "tool")
CALLS_PER_TOOL = _gauge("librechat_tool_calls_per_tool_5m", "Tool calls", "time_window", "tool", labels=("tool_name",))
ACTIVE_TOOL_USERS = _gauge("librechat_active_tool_users", "Distinct users with a tool call", "user", "tool")


# By the ledger's metric: those whose sum over the last five minutes is shown.
MIRRORED = {
    counted.name: shown
    for counted, shown in (
        (messages.MESSAGES, MESSAGES),
        (messages.ERRORS, ERRORS),
        (messages.INPUT_TOKENS, INPUT_TOKENS),
        (messages.OUTPUT_TOKENS, OUTPUT_TOKENS),
        (messages.MESSAGES_PER_MODEL, MESSAGES_PER_MODEL),
        (messages.ERRORS_PER_MODEL, ERRORS_PER_MODEL),
        (messages.INPUT_TOKENS_PER_MODEL, MODEL_INPUT_TOKENS),
        (messages.OUTPUT_TOKENS_PER_MODEL, MODEL_OUTPUT_TOKENS),
        (tools.CALLS, TOOL_CALLS),
        (tools.ERRORS, TOOL_ERRORS),
        (tools.PER_TOOL, CALLS_PER_TOOL),
    )
}


class RecentCollector(Collector):
    name = "recent"
    metrics = (ACTIVE_USERS, ACTIVE_CONVERSATIONS, *MIRRORED.values(), ACTIVE_TOOL_USERS)

    def __init__(self, fold: Fold) -> None:
        self.folds = (fold,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(self.folds[0])
        sums, distinct = scrape.ledger.recent(self.folds[0].name, scrape.now)
        for metric, values in sums.items():
            yield metric.family(values)
        for metric, count in zip((ACTIVE_USERS, ACTIVE_CONVERSATIONS, ACTIVE_TOOL_USERS), distinct, strict=True):
            yield metric.family({(): count})

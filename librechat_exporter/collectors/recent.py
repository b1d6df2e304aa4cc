"""The last five minutes, read through the `createdAt` index on every scrape."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import chain, compress

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.collectors.messages_fold import with_prompts
from librechat_exporter.fields import window
from librechat_exporter.metric import Family, Metric
from librechat_exporter.rows import Messages

WINDOW = timedelta(minutes=5)


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


class RecentCollector(Collector):
    name = "recent"
    metrics = (
        ACTIVE_USERS,
        ACTIVE_CONVERSATIONS,
        MESSAGES,
        ERRORS,
        INPUT_TOKENS,
        OUTPUT_TOKENS,
        MESSAGES_PER_MODEL,
        ERRORS_PER_MODEL,
        MODEL_INPUT_TOKENS,
        MODEL_OUTPUT_TOKENS,
        TOOL_CALLS,
        TOOL_ERRORS,
        CALLS_PER_TOOL,
        ACTIVE_TOOL_USERS,
    )

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        match = window(scrape.now, WINDOW)
        groups = scrape.librechat.messages(match, conversations=True, tools=True)
        samples = scrape.samples()
        samples.add(ACTIVE_USERS, len({user for group in groups for user in group.users} - {None}))
        samples.add(ACTIVE_CONVERSATIONS, len({one for group in groups for one in group.conversations} - {None}))
        samples.add(ACTIVE_TOOL_USERS, len(_users_of_tools(groups) - {None}))
        for group, model, prompt in with_prompts(scrape.librechat, groups):
            count, tokens = len(group.users), sum(group.tokens)
            failed = count if group.failed else 0
            for call in chain.from_iterable(group.tool_calls):
                samples.add(TOOL_CALLS, 1)
                samples.add(TOOL_ERRORS, call.failed)
                samples.add(CALLS_PER_TOOL, 1, call.name)
            samples.add(MESSAGES, count)
            samples.add(ERRORS, failed)
            if failed or not group.by_user:
                samples.add(ERRORS_PER_MODEL, failed, model)
            if group.by_user:
                samples.add(INPUT_TOKENS, tokens)
            else:
                samples.add(OUTPUT_TOKENS, tokens)
                samples.add(MESSAGES_PER_MODEL, count, model)
                samples.add(MODEL_INPUT_TOKENS, prompt, model)
                samples.add(MODEL_OUTPUT_TOKENS, tokens, model)
        for metric in self.metrics:
            yield samples.family(metric)


def _users_of_tools(groups: list[Messages]) -> set[str | None]:
    return {user for group in groups for user in compress(group.users, group.tool_calls)}

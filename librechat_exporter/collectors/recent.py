"""The last five minutes, read through the `createdAt` index on every scrape."""

from collections.abc import Iterator
from datetime import timedelta

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.collectors.messages import with_prompts
from librechat_exporter.librechat import window
from librechat_exporter.metric import Family, Metric

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
    )

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        match = window(scrape.now, WINDOW)
        groups = scrape.librechat.messages(match, conversations=True)
        samples = scrape.samples()
        samples.add(ACTIVE_USERS, len({user for group in groups for user in group.users} - {None}))
        samples.add(ACTIVE_CONVERSATIONS, len({one for group in groups for one in group.conversations} - {None}))
        for group, model, prompt in with_prompts(scrape.librechat, groups):
            count, tokens = len(group.users), sum(group.tokens)
            failed = count if group.failed else 0
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

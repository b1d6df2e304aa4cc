"""The last five minutes, read through the `createdAt` index on every scrape."""

from collections.abc import Iterator
from datetime import timedelta

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.collectors.messages import facts, prompt_tokens_by_model
from librechat_exporter.librechat import CONVERSATION, USER, window
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
MESSAGES_PER_MODEL = _gauge(
    "librechat_messages_per_model_5m", "Answers", "time_window", "model", labels=("model",)
)
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


class ActiveCollector(Collector):
    """Who is there now."""

    name = "active"
    metrics = (ACTIVE_USERS, ACTIVE_CONVERSATIONS)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        match = window(scrape.now, WINDOW)
        group = {"$group": {"_id": {"user": USER, "conversation": CONVERSATION}}}
        pairs = [row["_id"] for row in scrape.librechat.aggregate("messages", match, group)]
        yield ACTIVE_USERS.family({(): len({pair["user"] for pair in pairs} - {None})})
        yield ACTIVE_CONVERSATIONS.family({(): len({pair["conversation"] for pair in pairs} - {None})})


class RecentMessagesCollector(Collector):
    """What is being written now."""

    name = "recent_messages"
    metrics = (
        MESSAGES,
        ERRORS,
        INPUT_TOKENS,
        OUTPUT_TOKENS,
        MESSAGES_PER_MODEL,
        ERRORS_PER_MODEL,
        MODEL_OUTPUT_TOKENS,
    )

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        rows = facts(scrape.librechat, window(scrape.now, WINDOW))
        labels = scrape.librechat.model_labels(row["model"] for row in rows)
        samples = scrape.samples()
        for row in rows:
            model = labels[row["model"]]
            failed = row["count"] if row["failed"] else 0
            samples.add(MESSAGES, row["count"])
            samples.add(ERRORS, failed)
            if failed or not row["users"]:
                samples.add(ERRORS_PER_MODEL, failed, model)
            if row["users"]:
                samples.add(INPUT_TOKENS, row["tokens"])
            else:
                samples.add(OUTPUT_TOKENS, row["tokens"])
                samples.add(MESSAGES_PER_MODEL, row["count"], model)
                samples.add(MODEL_OUTPUT_TOKENS, row["tokens"], model)
        for metric in self.metrics:
            yield samples.family(metric)


class RecentPromptsCollector(Collector):
    """What the models are being asked now."""

    name = "recent_prompts"
    metrics = (MODEL_INPUT_TOKENS,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        by_model = prompt_tokens_by_model(scrape.librechat, window(scrape.now, WINDOW))
        labels = scrape.librechat.model_labels(by_model)
        samples = scrape.samples()
        for model, tokens in by_model.items():
            samples.add(MODEL_INPUT_TOKENS, tokens, labels[model])
        yield samples.family(MODEL_INPUT_TOKENS)

"""Messages, failures and tokens, over all time and per model."""

from librechat_exporter.metric import Metric, Samples
from librechat_exporter.rows import MessageKind

MESSAGES = Metric(
    "librechat_messages_total", "Messages sent, by users and by models", "counter", "happened", groups=("basic",)
)
ERRORS = Metric("librechat_error_messages_total", "Messages that failed", "counter", "happened", groups=("basic",))
INPUT_TOKENS = Metric(
    "librechat_input_tokens_total", "Tokens of users' messages", "counter", "happened", groups=("token",)
)
OUTPUT_TOKENS = Metric("librechat_output_tokens_total", "Tokens of answers", "counter", "happened", groups=("token",))
MESSAGES_PER_MODEL = Metric(
    "librechat_messages_per_model_total", "Answers", "counter", "happened", ("model",), ("model",)
)
ERRORS_PER_MODEL = Metric(
    "librechat_errors_per_model_total", "Messages that failed", "counter", "happened", ("model",), ("model",)
)
INPUT_TOKENS_PER_MODEL = Metric(
    "librechat_input_tokens_per_model_total",
    "Tokens of the users' messages that were answered, once for each answer",
    "counter",
    "happened",
    ("model",),
    ("model", "token"),
)
OUTPUT_TOKENS_PER_MODEL = Metric(
    "librechat_output_tokens_per_model_total",
    "Tokens of answers",
    "counter",
    "happened",
    ("model",),
    ("model", "token"),
)
SKIPPED_TOKEN_COUNTS = Metric(
    "librechat_exporter_skipped_token_counts_total",
    "Messages whose tokenCount is not a number from 0 to 2147483647 and was taken as 0",
    "counter",
    "self",
    groups=("token",),
)
COUNTED = (
    MESSAGES,
    ERRORS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    MESSAGES_PER_MODEL,
    ERRORS_PER_MODEL,
    INPUT_TOKENS_PER_MODEL,
    OUTPUT_TOKENS_PER_MODEL,
    SKIPPED_TOKEN_COUNTS,
)


def add(
    samples: Samples, kind: MessageKind, model: str, count: int, tokens: float, prompt: float, skipped: int
) -> None:
    """Counts so many messages of a kind: the sums of their own tokens, of their questions', and of unusable counts."""
    failed = count if kind.failed else 0
    samples.add(MESSAGES, count)
    samples.add(ERRORS, failed)
    samples.add(SKIPPED_TOKEN_COUNTS, skipped)
    if kind.by_user:
        samples.add(INPUT_TOKENS, tokens)
        if failed:
            samples.add(ERRORS_PER_MODEL, failed, model)
    else:
        samples.add(OUTPUT_TOKENS, tokens)
        samples.add(MESSAGES_PER_MODEL, count, model)
        samples.add(ERRORS_PER_MODEL, failed, model)
        samples.add(INPUT_TOKENS_PER_MODEL, prompt, model)
        samples.add(OUTPUT_TOKENS_PER_MODEL, tokens, model)

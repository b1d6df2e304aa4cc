"""Messages, failures and tokens, over all time and per model."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.messages import MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_SENT = Metric(
    name="librechat_messages_total",
    help="Messages sent, by users and by models",
    type="counter",
    kind="happened",
    toggles=("basic",),
    since=(WITHOUT_SUBAGENTS,),
)
_FAILED = Metric(
    name="librechat_error_messages_total",
    help="Messages that failed",
    type="counter",
    kind="happened",
    toggles=("basic",),
    since=(WITHOUT_SUBAGENTS,),
)
_INPUT_TOKENS = Metric(
    name="librechat_input_tokens_total",
    help="Tokens of users' messages",
    type="counter",
    kind="happened",
    toggles=("token",),
    since=(WITHOUT_SUBAGENTS,),
)
_OUTPUT_TOKENS = Metric(
    name="librechat_output_tokens_total",
    help="Tokens of answers",
    type="counter",
    kind="happened",
    toggles=("token",),
    since=(WITHOUT_SUBAGENTS,),
)
_NAMED = "0.2.0: an answer without a model that is still being written is counted once it has one"
_ANSWERS_PER_MODEL = Metric(
    name="librechat_messages_per_model_total",
    help="Answers, per model",
    type="counter",
    kind="happened",
    labels=("model",),
    toggles=("model",),
    since=(WITHOUT_SUBAGENTS, _NAMED),
)
_FAILED_PER_MODEL = Metric(
    name="librechat_errors_per_model_total",
    help="Messages that failed, per model",
    type="counter",
    kind="happened",
    labels=("model",),
    toggles=("model",),
    since=(WITHOUT_SUBAGENTS, _NAMED),
)
_INPUT_TOKENS_PER_MODEL = Metric(
    name="librechat_input_tokens_per_model_total",
    help="Tokens of the users' messages that a model answered, once for each answer",
    type="counter",
    kind="happened",
    labels=("model",),
    toggles=("model", "token"),
    since=(WITHOUT_SUBAGENTS, _NAMED),
)
_OUTPUT_TOKENS_PER_MODEL = Metric(
    name="librechat_output_tokens_per_model_total",
    help="Tokens of answers, per model",
    type="counter",
    kind="happened",
    labels=("model",),
    toggles=("model", "token"),
    since=(WITHOUT_SUBAGENTS, _NAMED),
)
_SKIPPED_TOKEN_COUNTS = Metric(
    name="librechat_exporter_skipped_token_counts_total",
    help="Messages whose tokenCount is not a number from 0 to 2147483647 and was taken as 0",
    type="counter",
    kind="self",
    toggles=("token",),
    since=(WITHOUT_SUBAGENTS,),
)
_METRICS = (
    _SENT,
    _FAILED,
    _INPUT_TOKENS,
    _OUTPUT_TOKENS,
    _ANSWERS_PER_MODEL,
    _FAILED_PER_MODEL,
    _INPUT_TOKENS_PER_MODEL,
    _OUTPUT_TOKENS_PER_MODEL,
    _SKIPPED_TOKEN_COUNTS,
)


def _add(samples: Samples, group: MessageGroup) -> None:
    failed = group.count if group.kind.failed else 0
    tokens = sum(group.tokens)
    samples.add(_SENT, group.count)
    samples.add(_FAILED, failed)
    samples.add(_SKIPPED_TOKEN_COUNTS, group.skipped)
    if group.kind.by_user:
        samples.add(_INPUT_TOKENS, tokens)
        if failed:
            samples.add(_FAILED_PER_MODEL, failed, group.model)
    else:
        samples.add(_OUTPUT_TOKENS, tokens)
        samples.add(_ANSWERS_PER_MODEL, group.count, group.model)
        samples.add(_FAILED_PER_MODEL, failed, group.model)
        samples.add(_INPUT_TOKENS_PER_MODEL, group.prompts, group.model)
        samples.add(_OUTPUT_TOKENS_PER_MODEL, tokens, group.model)


def collectors(_settings: Settings) -> list[Collector]:
    return [CountingCollector("messages", Counting(MESSAGES, _METRICS, _add))]

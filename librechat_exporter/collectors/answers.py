"""Histograms per model: how long users wait for answers, and how long answers are."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.messages import MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_SECONDS = Metric(
    name="librechat_answer_seconds",
    help="Time from a question to its first answer, up to an hour; imported chats are out",
    type="histogram",
    kind="happened",
    labels=("model",),
    toggles=("answer",),
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
    parts=1000,
    since=(WITHOUT_SUBAGENTS, "0.2.0: of several answers to a question the first alone"),
)
_TOKENS = Metric(
    name="librechat_answer_tokens",
    help="Tokens of each answer that has any",
    type="histogram",
    kind="happened",
    labels=("model",),
    toggles=("answer",),
    buckets=(10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
    since=(WITHOUT_SUBAGENTS,),
)


def _add(samples: Samples, group: MessageGroup) -> None:
    """A document stays in the bucket in which it was observed first."""
    if group.kind.by_user:
        return
    if _TOKENS.name not in group.counted:
        samples.observe(_TOKENS, [tokens for tokens in group.tokens if tokens > 0], group.model)
    if _SECONDS.name not in group.counted:
        samples.observe(_SECONDS, [seconds for seconds in group.waits if seconds is not None], group.model)


def collectors(_settings: Settings) -> list[Collector]:
    return [CountingCollector("answers", Counting(MESSAGES, (_SECONDS, _TOKENS), _add))]

"""How long users wait for answers, and how long answers are: histograms per model."""

from collections.abc import Collection

from librechat_exporter.metric import Metric, Samples

SECONDS = Metric(
    "librechat_answer_seconds",
    "Time from a question to its answer, up to an hour; imported chats are out",
    "histogram",
    "happened",
    ("model",),
    ("answer",),
    (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
)
TOKENS = Metric(
    "librechat_answer_tokens",
    "Tokens of an answer that has any",
    "histogram",
    "happened",
    ("model",),
    ("answer",),
    (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000),
)
COUNTED = (SECONDS, TOKENS)
_LONGEST = 3600


def add(
    samples: Samples, model: str, tokens: float, created: float, asked: float, done: Collection[str] = frozenset()
) -> None:
    """Observes one answer, with the Unix times of it and its question; 0 or less is none.

    done: names of the metrics that have observed it before; what a document was first observed with stays.
    """
    if tokens > 0 and TOKENS.name not in done:
        samples.observe(TOKENS, tokens, model)
    if created > 0 and asked != 0 and 0 <= created - abs(asked) <= _LONGEST and SECONDS.name not in done:
        samples.observe(SECONDS, created - abs(asked), model)

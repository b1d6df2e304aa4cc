"""How long users wait for answers, and how long answers are: histograms per model."""

from collections.abc import Collection, Iterable

from librechat_exporter.metric import Metric, Samples

SECONDS = Metric(
    "librechat_answer_seconds",
    "Time from a question to its answer, up to an hour; imported chats are out",
    "histogram",
    "happened",
    ("model",),
    ("answer",),
    (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600),
    parts=1000,
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


def waited(created: float, asked: float) -> float | None:
    """Seconds between the Unix times of a question and its answer; None if either is 0, or they cannot be meant."""
    seconds = created - abs(asked)
    return seconds if created > 0 and asked and 0 <= seconds <= _LONGEST else None


def add(
    samples: Samples,
    model: str,
    tokens: Iterable[float],
    waits: Iterable[float | None],
    done: Collection[str] = frozenset(),
) -> None:
    """Observes answers of a model.

    done: names of the metrics that have observed them before; what a document was first observed with stays.
    """
    if TOKENS.name not in done:
        samples.observe(TOKENS, [one for one in tokens if one > 0], model)
    if SECONDS.name not in done:
        samples.observe(SECONDS, [one for one in waits if one is not None], model)

"""Answers per agent. Two agents of one name count together."""

from librechat_exporter.metric import Metric, Samples
from librechat_exporter.rows import MessageKind

ANSWERS = Metric(
    "librechat_agent_answers_total",
    "Answers of an agent, by the name it had when the answer was first counted",
    "counter",
    "happened",
    ("agent",),
    ("agent",),
)
COUNTED = (ANSWERS,)


def add(samples: Samples, kind: MessageKind, agent: str | None, count: int) -> None:
    """Counts so many messages of a kind, whose answers are of this agent, if of any."""
    if agent is not None and not kind.by_user:
        samples.add(ANSWERS, count, agent)

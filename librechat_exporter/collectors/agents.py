"""Answers per agent. Two agents of one name count together."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.messages import MESSAGES, MessageGroup
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.metrics.metric import Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.settings import Settings

_ANSWERS = Metric(
    name="librechat_agent_answers_total",
    help="Answers of an agent, by the name it had when the answer was first counted",
    type="counter",
    kind="happened",
    labels=("agent",),
    toggles=("agent",),
)


def _add(samples: Samples, group: MessageGroup) -> None:
    if group.agent is not None and not group.kind.by_user:
        samples.add(_ANSWERS, group.count, group.agent)


def collectors(_settings: Settings) -> list[Collector]:
    return [CountingCollector("agents", Counting(MESSAGES, (_ANSWERS,), _add))]

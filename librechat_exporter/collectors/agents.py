"""Answers per agent. Two agents of one name count together."""

from librechat_exporter.collector import Collector, CountingCollector
from librechat_exporter.folds.messages import MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
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
    since=(WITHOUT_SUBAGENTS,),
)
_SUBAGENTS = Metric(
    name="librechat_subagent_answers_total",
    help="Answers of an agent in sub-agents' threads, by its name",
    type="counter",
    kind="happened",
    labels=("agent",),
    toggles=("agent",),
)


def _add(samples: Samples, group: MessageGroup) -> None:
    if not group.kind.by_user:
        samples.add(_ANSWERS, group.count, group.agent)


def _add_subagents(samples: Samples, group: MessageGroup) -> None:
    if not group.kind.by_user:
        samples.add(_SUBAGENTS, group.count, group.agent)


def collectors(_settings: Settings) -> list[Collector]:
    return [
        CountingCollector("agents", Counting(MESSAGES, (_ANSWERS,), _add)),
        CountingCollector("subagents", Counting(MESSAGES, (_SUBAGENTS,), _add_subagents, of_subagents=True)),
    ]

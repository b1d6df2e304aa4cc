"""Agents: answers, failures, tokens, cost, users. Two agents of one name count together."""

from collections.abc import Iterator, Mapping

from librechat_exporter.collector import Collector, CountingCollector, Scrape, Shown
from librechat_exporter.folds.messages import AGENT_USERS, MESSAGES, WITHOUT_SUBAGENTS, MessageGroup
from librechat_exporter.folds.transactions import TRANSACTIONS
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.librechat.fields import USD_PARTS
from librechat_exporter.librechat.transactions import BY_ANSWER, Billed
from librechat_exporter.metrics.guard import OTHER
from librechat_exporter.metrics.metric import WINDOW, Family, Metric
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
_FAILED = Metric(
    name="librechat_agent_failed_answers_total",
    help="Answers of an agent that failed, by its name",
    type="counter",
    kind="happened",
    labels=("agent",),
    toggles=("agent",),
)
_SUBAGENTS = Metric(
    name="librechat_subagent_answers_total",
    help="Answers of an agent in sub-agents' threads, by its name",
    type="counter",
    kind="happened",
    labels=("agent",),
    toggles=("agent",),
)
_TOKENS = Metric(
    name="librechat_agent_tokens_total",
    help="Tokens billed for an agent's answers: input, output, cache_read, cache_write",
    type="counter",
    kind="happened",
    labels=("agent", "token_type"),
    toggles=("agent",),
    chosen=("token_type",),
)
_COST = Metric(
    name="librechat_agent_cost_usd_total",
    help="US dollars billed for an agent's answers",
    type="counter",
    kind="happened",
    labels=("agent",),
    toggles=("agent",),
    parts=USD_PARTS,
)
_USERS = Metric(
    name="librechat_agent_users",
    help="Distinct users with an answer of the agent in the window, exact to the hour",
    type="gauge",
    kind="recent",
    labels=("agent", WINDOW),
    toggles=("agent",),
)


def _add(samples: Samples, group: MessageGroup) -> None:
    if not group.kind.by_user:
        samples.add(_ANSWERS, group.count, group.agent)
        samples.add(_FAILED, group.count if group.kind.failed else 0, group.agent)


def _add_subagents(samples: Samples, group: MessageGroup) -> None:
    if not group.kind.by_user:
        samples.add(_SUBAGENTS, group.count, group.agent)


def _add_billed(samples: Samples, billed: Billed) -> None:
    if billed.agent is not None and billed.is_spent:
        samples.add(_COST, billed.charged, billed.agent)
        for token_type, tokens in billed.by_token_type().items():
            samples.add(_TOKENS, tokens, billed.agent, token_type)


class _UsersCollector(Collector):
    """The ledger tells from memory who was seen with which agent."""

    name = "agent_users"
    metrics = (_USERS,)
    sources = (MESSAGES,)

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, int]] = {}
        self._shown = Shown()

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(MESSAGES)
        if not scrape.totals.has_seen_all(AGENT_USERS):
            return
        totals, windows = scrape.totals, scrape.totals.windows
        seen = {
            one: totals.count_seen_by_name(AGENT_USERS, windows.beginning(one, scrape.now)) for one in windows.names
        }
        if seen != self._seen:
            self._seen = seen
        yield from self._shown.families(lambda: [self._family(scrape, seen)], self._seen)

    @staticmethod
    def _family(scrape: Scrape, seen: Mapping[str, Mapping[str, int]]) -> Family:
        samples = scrape.samples()
        for window, users_by_agent in seen.items():
            for agent, users in users_by_agent.items():
                if users:
                    samples.add(_USERS, users, agent, window)
        # Users of several agents do not add up.
        return _USERS.family({labels: users for (_, labels), users in samples.items() if labels[0] != OTHER})


def collectors(_settings: Settings) -> list[Collector]:
    return [
        CountingCollector("agents", Counting(MESSAGES, (_ANSWERS, _FAILED), _add)),
        CountingCollector("subagents", Counting(MESSAGES, (_SUBAGENTS,), _add_subagents, of_subagents=True)),
        CountingCollector("agent_cost", Counting(TRANSACTIONS, (_TOKENS, _COST), _add_billed, by=(BY_ANSWER,))),
        _UsersCollector(),
    ]

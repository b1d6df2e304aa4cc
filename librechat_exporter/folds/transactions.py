"""Transactions: those of one kind, model, context and hour are a group, which is librechat.transactions.Billed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from librechat_exporter.folds.payers import Payers
from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Counting, Fold, Found, Kind, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.ledger.windowed import HOUR
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.models import read_answering
from librechat_exporter.librechat.transactions import BY_ANSWER, BY_USER, TRANSACTION_ROW, Billed, read_charged
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.user_ids import UserKey

TRANSACTIONS = "transactions"
CLASSES = ("local", "external", "unclassified")
# Users are seen with a transaction of a model of the class.
SEEN_BY_CLASS = {name: f"window_{name}" for name in CLASSES}
# Of chat requests, of which everything else is background.
CHAT_CONTEXTS = frozenset(("message", "incomplete", "abort", "subagent", "sequential"))
# The answer that a transaction is billed for is saved soon after it: until then it is looked for each second.
_AWAITED = timedelta(minutes=2)


def class_of(model: str, external: re.Pattern[str] | None) -> str:
    """Where a model runs, by EXTERNAL_MODEL_REGEX."""
    if external is None:
        return "unclassified"
    return "external" if external.search(model) else "local"


class TransactionsFold(Fold[Billed]):
    name = TRANSACTIONS
    collection = "transactions"
    row = TRANSACTION_ROW
    reads = ("agents", "groups", "messages", "users")

    def __init__(
        self, countings: Iterable[Counting[Billed]], external: re.Pattern[str] | None, name_user: UserKey
    ) -> None:
        """external: EXTERNAL_MODEL_REGEX. Users are seen by the class of the models that they use. name_user: of
        Payers.
        """
        super().__init__(countings)
        self._external = external
        shape = f"classes by {external.pattern if external is not None else None!r}"
        self.kinds = tuple(Kind(name, shape) for name in SEEN_BY_CLASS.values())
        self._payers = Payers(self.countings, name_user)
        self._of_agents = {
            one.name for counting in self.countings if BY_ANSWER in counting.by for one in counting.metrics
        }

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        groups = []
        for row in rows:
            hour = reading.hour(abs(row["created"]) / 1000)
            groups.append(Billed.of_row(row, int(hour) if hour is not None else None))
        counted = [cell.names() if cell is not None else frozenset() for cell in cells]
        wanted = [
            one.answer if self._of_agents and self._of_agents.isdisjoint(names) else None
            for one, names in zip(groups, counted, strict=True)
        ]
        agents = read_answering(reading.librechat, filter(None, wanted))
        found = []
        for one, row, names, answer in zip(groups, rows, counted, wanted, strict=True):
            agent = agents.get(answer) if answer is not None else None
            waits = self._payers.are_unknown(reading, one.user)
            payers = self._payers.of(reading, one.user) if not waits else {}
            charged = one._replace(agent=agent, payers=payers, counted=names)
            created = abs(row["created"]) / 1000
            is_past = created <= reading.now.timestamp()
            may_be_answered = answer is not None and answer not in agents
            is_awaited = may_be_answered and row["_id"].generation_time > reading.now - _AWAITED
            is_final = is_past and not may_be_answered and not waits
            is_unsettled = is_awaited or waits or reading.is_coming(created)
            found.append(Found(self.count(reading, (charged,)), final=is_final, unsettled=is_unsettled))
        return found, self._seen(groups)

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        by = {name for one in self.countings if reading.wants(*one.names) for name in one.by}
        groups, of_agents = read_charged(reading.librechat, match, reading.span, by)
        charged = (
            [one._replace(payers=self._payers.of(reading, one.user)) for one in groups] if BY_USER in by else groups
        )
        samples = self.count(reading, charged)
        # Those of agents are among the groups as well, which count in all other metrics.
        wanted = self._of_agents if reading.only is None else self._of_agents.intersection(reading.only)
        samples.update(self.count(replace(reading, only=wanted), of_agents))
        return samples, self._seen(groups)

    def _seen(self, billed: Iterable[Billed]) -> Seen:
        """When the users of chat requests were last seen, to the hour, by the class of the model."""
        seen: Seen = {}
        for one in billed:
            if one.hour is not None and one.is_spent and one.context in CHAT_CONTEXTS:
                moment = one.hour * HOUR.total_seconds()
                users = seen.setdefault(SEEN_BY_CLASS[class_of(one.model, self._external)], {})
                users.update((user, moment) for user in one.users if moment > users.get(user, 0))
        return seen

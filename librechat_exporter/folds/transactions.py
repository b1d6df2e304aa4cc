"""Transactions: those of one kind, model, context and hour are a group, which is librechat.transactions.Billed."""

import re
from collections.abc import Iterable, Sequence

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Counting, Fold, Found, Kind, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.ledger.windowed import HOUR
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.transactions import TRANSACTION_ROW, Billed, read_billed
from librechat_exporter.metrics.samples import Samples

TRANSACTIONS = "transactions"
CLASSES = ("local", "external", "unclassified")
# Users are seen with a transaction of a model of the class.
SEEN_BY_CLASS = {name: f"window_{name}" for name in CLASSES}
# Of chat requests, of which everything else is background.
CHAT_CONTEXTS = frozenset(("message", "incomplete", "abort", "subagent", "sequential"))


def class_of(model: str, external: re.Pattern[str] | None) -> str:
    """Where a model runs, by EXTERNAL_MODEL_REGEX."""
    if external is None:
        return "unclassified"
    return "external" if external.search(model) else "local"


class TransactionsFold(Fold[Billed]):
    name = TRANSACTIONS
    collection = "transactions"
    row = TRANSACTION_ROW

    def __init__(self, countings: Iterable[Counting[Billed]], external: re.Pattern[str] | None) -> None:
        """external: EXTERNAL_MODEL_REGEX. Users are seen by the class of the models that they use."""
        super().__init__(countings)
        self._external = external
        shape = f"classes by {external.pattern if external is not None else None!r}"
        self.kinds = tuple(Kind(name, shape) for name in SEEN_BY_CLASS.values())

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        found, groups = [], []
        for row in rows:
            created = abs(row["created"]) / 1000
            hour = reading.hour(created)
            one = Billed.of_row(row, int(hour) if hour is not None else None)
            found.append(Found(self.count(reading, (one,)), final=created <= reading.now.timestamp()))
            groups.append(one)
        return found, self._seen(groups)

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        groups = read_billed(reading.librechat, match, reading.span)
        return self.count(reading, groups), self._seen(groups)

    def _seen(self, billed: Iterable[Billed]) -> Seen:
        """When the users of chat requests were last seen, to the hour, by the class of the model."""
        seen: Seen = {}
        for one in billed:
            if one.hour is not None and one.kind in ("prompt", "completion") and one.context in CHAT_CONTEXTS:
                moment = one.hour * HOUR.total_seconds()
                users = seen.setdefault(SEEN_BY_CLASS[class_of(one.model, self._external)], {})
                users.update((user, moment) for user in one.users if moment > users.get(user, 0))
        return seen

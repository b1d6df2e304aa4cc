"""Documents that are only counted: conversations, files, registered users, audit events."""

from collections.abc import Sequence

from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.collectors.windows import NEW_USERS
from librechat_exporter.fields import CATEGORY, CREATED, OUTCOME, Document, Expression
from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Fold, Found, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.metric import Metric, Samples
from librechat_exporter.rows import labels_of

CONVERSATIONS = Metric(
    "librechat_conversations_total", "Conversations started", "counter", "happened", groups=("basic",)
)
UPLOADED_FILES = Metric("librechat_uploaded_files_total", "Files uploaded", "counter", "happened", groups=("file",))
REGISTERED_USERS = Metric(
    "librechat_registered_users_total", "Users that registered", "counter", "happened", groups=("user",)
)


AUDIT_EVENTS = Metric(
    "librechat_audit_events_total",
    "Events in LibreChat's audit log",
    "counter",
    "happened",
    ("category", "outcome"),
    ("feature",),
)


class CountFold(Fold):
    """Counts the documents of a collection, by the texts that make the metric's labels."""

    def __init__(self, collection: str, metric: Metric, *fields: Expression, in_windows: Metric | None = None) -> None:
        """in_windows: the metric that counts them by the hour of createdAt."""
        self.name = self.collection = collection
        self.metrics = (metric, *((in_windows,) if in_windows is not None else ()))
        self._counted = metric
        self._in_windows = in_windows
        self._fields = fields
        self.row = {str(number): field for number, field in enumerate(fields)}
        self.row |= {"_id": 1} if in_windows is None else {"created": CREATED}

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        found = []
        for row in rows:
            samples = reading.samples()
            samples.add(self._counted, 1, *labels_of(row, len(self._fields)))
            is_final = True
            if self._in_windows is not None:
                created = abs(row["created"]) / 1000
                is_final = created <= reading.now.timestamp()
                hour = reading.hour(created)
                if hour is not None:
                    samples.add(self._in_windows, 1, hour)
            found.append(Found(samples, final=is_final))
        return found, {}

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        samples = reading.samples()
        if reading.wants(self._counted.name):
            counts = reading.librechat.count_by(self.collection, *self._fields, match=match)
            for labels, count in counts.items():
                samples.add(self._counted, count, *labels)
        if self._in_windows is not None and reading.span is not None and reading.wants(self._in_windows.name):
            for hour, count in reading.librechat.count_by_hour(self.collection, match, reading.span).items():
                samples.add(self._in_windows, count, str(hour))
        return samples, {}


def collectors() -> list[LedgerCollector]:
    folds = (
        CountFold("conversations", CONVERSATIONS),
        CountFold("files", UPLOADED_FILES),
        CountFold("users", REGISTERED_USERS, in_windows=NEW_USERS),
        CountFold("auditlogs", AUDIT_EVENTS, CATEGORY, OUTCOME),
    )
    return [LedgerCollector(fold.name, fold, (fold.metrics[0],)) for fold in folds]

"""Documents that are only counted: conversations, files, registered users, audit events."""

from collections.abc import Mapping

from bson import ObjectId

from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.fields import CATEGORY, OUTCOME, Expression
from librechat_exporter.fold import Fold, Reading
from librechat_exporter.metric import Metric, Samples
from librechat_exporter.state import Cell, Seen

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

    version = 1

    def __init__(self, collection: str, metric: Metric, *fields: Expression) -> None:
        self.name = self.collection = collection
        self.metrics = (metric,)
        self._fields = fields

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        found: dict[ObjectId, Cell] = {}
        documents = reading.librechat.labels(self.collection, reading.match, self._fields, limit)
        for document, labels in documents.items():
            found[document] = Cell({reading.guard.series(self.metrics[0], labels): 1.0})
        return found, {}

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        samples = Samples(reading.guard)
        for labels, count in reading.librechat.count_by(self.collection, *self._fields, match=reading.match).items():
            samples.add(self.metrics[0], count, *labels)
        return samples, {}


def collectors() -> list[LedgerCollector]:
    folds = (
        CountFold("conversations", CONVERSATIONS),
        CountFold("files", UPLOADED_FILES),
        CountFold("users", REGISTERED_USERS),
        CountFold("auditlogs", AUDIT_EVENTS, CATEGORY, OUTCOME),
    )
    return [LedgerCollector(fold.name, fold) for fold in folds]

"""Documents that are only counted: conversations, files, registered users."""

from collections.abc import Mapping

from bson import ObjectId

from librechat_exporter.collectors.base import LedgerCollector
from librechat_exporter.fold import Fold, Reading, Seen
from librechat_exporter.metric import Metric, Samples, Series
from librechat_exporter.state import Cell

CONVERSATIONS = Metric(
    "librechat_conversations_total", "Conversations started", "counter", "happened", groups=("basic",)
)
UPLOADED_FILES = Metric("librechat_uploaded_files_total", "Files uploaded", "counter", "happened", groups=("file",))
REGISTERED_USERS = Metric(
    "librechat_registered_users_total", "Users that registered", "counter", "happened", groups=("user",)
)


class CountFold(Fold):
    """Counts the documents of a collection."""

    version = 1

    def __init__(self, collection: str, metric: Metric) -> None:
        self.collection = collection
        self.metrics = (metric,)

    def fold_open(
        self, reading: Reading, cells: Mapping[ObjectId, Cell], limit: int
    ) -> tuple[dict[ObjectId, Cell], Seen]:
        rows = reading.librechat.aggregate(
            self.collection, reading.match, {"$sort": {"_id": 1}}, {"$limit": limit}, {"$project": {"_id": 1}}
        )
        one: dict[Series, float] = {(self.metrics[0].name, ()): 1.0}
        return {row["_id"]: Cell(one) for row in rows}, {}

    def fold_history(self, reading: Reading) -> tuple[Samples, Seen]:
        samples = Samples(reading.guard)
        for row in reading.librechat.aggregate(self.collection, reading.match, {"$count": "count"}):
            samples.add(self.metrics[0], row["count"])
        return samples, {}


def collectors() -> list[LedgerCollector]:
    metrics = {"conversations": CONVERSATIONS, "files": UPLOADED_FILES, "users": REGISTERED_USERS}
    return [LedgerCollector(collection, CountFold(collection, metric)) for collection, metric in metrics.items()]

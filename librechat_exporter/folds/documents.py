"""Documents that are counted by their texts alone, as conversations, files, users and audit events are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Counting, Fold, Found, Reading
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat.database import labels_of
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.librechat.fields import CREATED
from librechat_exporter.metrics.samples import Samples


@dataclass(frozen=True, slots=True)
class DocumentGroup:
    """Documents that share the texts of the counting's labels or, for metrics in windows, the hour of createdAt."""

    count: int
    labels: tuple[str, ...] = ()
    hour: str | None = None


class DocumentsFold(Fold[DocumentGroup]):
    def __init__(self, collection: str, countings: Iterable[Counting[DocumentGroup]]) -> None:
        super().__init__(countings)
        self.name = self.collection = collection
        self._in_windows = any(metric.is_windowed for metric in self.metrics)
        fields = (field for counting in self.countings for field in counting.labels)
        self.row = {str(number): field for number, field in enumerate(fields)}
        self._texts = len(self.row)
        for counting in self.countings:
            if counting.without is not None:
                self.row[f"without {counting.names[0]}"] = counting.without.expression
        self.row |= {"created": CREATED} if self._in_windows else {"_id": 1}

    def fold_open(
        self, reading: Reading, rows: Sequence[Document], cells: Sequence[Cell | None]
    ) -> tuple[list[Found], Seen]:
        return [self._found(reading, row) for row in rows], {}

    def _found(self, reading: Reading, row: Document) -> Found:
        samples = reading.samples()
        created = abs(row["created"]) / 1000 if self._in_windows else 0.0
        texts = iter(labels_of(row, self._texts))
        for counting in self.countings:
            labels = tuple(next(texts) for _ in counting.labels)
            if not row.get(f"without {counting.names[0]}"):
                counting.add(samples, DocumentGroup(1, labels, reading.hour(created)))
        return Found(samples, final=created <= reading.now.timestamp(), unsettled=reading.is_coming(created))

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        samples = reading.samples()
        for counting in self.countings:
            if reading.wants(*counting.names):
                for group in self._groups(reading, counting, match):
                    counting.add(samples, group)
        return samples, {}

    def _groups(self, reading: Reading, counting: Counting[DocumentGroup], match: Document) -> Iterator[DocumentGroup]:
        if counting.without is not None:
            match = {"$and": [match, counting.without.match]}
        if not counting.metrics[0].is_windowed:
            counts = reading.librechat.count_by(self.collection, *counting.labels, match=match)
            yield from (DocumentGroup(int(count), labels) for labels, count in counts.items())
        elif reading.span is not None:
            hours = reading.librechat.count_by_hour(self.collection, match, reading.span)
            yield from (DocumentGroup(count, hour=str(hour)) for hour, count in hours.items())

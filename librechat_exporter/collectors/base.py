"""What a collector is given and what it gives."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from librechat_exporter.ledger import Ledger
from librechat_exporter.ledger.fold import Fold
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Family, Metric, Samples
from librechat_exporter.settings import Settings


@dataclass(frozen=True)
class Scrape:
    """One scrape. now is the server's clock; started and deadline are of time.monotonic()."""

    librechat: LibreChat
    ledger: Ledger
    settings: Settings
    now: datetime
    started: float
    deadline: float

    def refresh(self, fold: Fold, age: float = 0.0) -> None:
        """Folds what is new, unless that was done so many seconds before the scrape began or later.

        Raises HistoryPendingError, TimeoutError, PyMongoError.
        """
        self.ledger.refresh(fold.name, self.now, self.started - age, self.deadline)

    def samples(self) -> Samples:
        return Samples(self.ledger.guard)


class Collector(ABC):
    """A family of metrics. It raises what goes wrong: the scrape isolates, logs and reports it.

    folds: the folds whose totals it shows.
    """

    name: str
    metrics: tuple[Metric, ...]
    folds: tuple[Fold, ...] = ()

    def is_used(self, settings: Settings) -> bool:
        """Whether it has anything to measure with these settings, apart from the toggles."""
        return True

    @abstractmethod
    def collect(self, scrape: Scrape) -> Iterator[Family]:
        """Families of the enabled metrics. Those of others may be yielded too and are dropped."""

    def data_age(self) -> float | None:
        """Seconds since its data was read, for a collector that does not read on every scrape."""
        return None


class LedgerCollector(Collector):
    """Shows totals of a fold: all of them, or some."""

    def __init__(self, name: str, fold: Fold, metrics: tuple[Metric, ...] | None = None) -> None:
        self.name = name
        self.metrics = self._counted = metrics or fold.metrics
        self.folds = (fold,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(self.folds[0])
        for metric in self._counted:
            if scrape.ledger.is_folded(metric):
                yield scrape.ledger.family(metric)

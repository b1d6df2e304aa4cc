"""A collector: what it is given, and what it gives."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from librechat_exporter.ledger import Ledger
from librechat_exporter.ledger.fold import Counting
from librechat_exporter.ledger.kept_reading import KeptReading
from librechat_exporter.ledger.totals import Totals
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.metrics.guard import LabelGuard
from librechat_exporter.metrics.metric import Family, LabelValues, Metric
from librechat_exporter.metrics.samples import Samples
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings


@dataclass(frozen=True)
class Scrape:
    """One scrape. now is the server's clock; started and deadline are of time.monotonic()."""

    librechat: LibreChat
    ledger: Ledger
    settings: Settings
    guard: LabelGuard
    now: datetime
    started: float
    deadline: float

    def refresh(self, *sources: str) -> None:
        """Counts what is new in these sources of the ledger.

        Raises HistoryPendingError, TimeoutError, PyMongoError.
        """
        for source in sources:
            self.ledger.refresh(source, self.now, self.started, self.deadline)

    @property
    def totals(self) -> Totals:
        return self.ledger.totals

    def samples(self) -> Samples:
        return Samples(self.guard)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one collector in one scrape. error is None if it succeeded."""

    families: Sequence[Family]
    seconds: float
    error: BaseException | None = None


class Collector(ABC):
    """A collector serves families of metrics. It raises what goes wrong: the scrape isolates, logs and reports it.

    metrics: all that it may yield. countings: what it counts in the ledger. sources: those of the ledger that it reads.
    """

    name: str
    metrics: tuple[Metric, ...]
    countings: tuple[Counting[Any], ...] = ()
    sources: tuple[str, ...] = ()

    @abstractmethod
    def collect(self, scrape: Scrape) -> Iterator[Family]:
        """Families of the enabled metrics. Those of others may be yielded too and are dropped."""

    def data_age(self) -> float | None:
        """Seconds since its data was read, for a collector that does not read on every scrape."""
        return None


class CountingCollector(Collector):
    """Shows the totals of what it counts in one source of the ledger."""

    def __init__(self, name: str, counting: Counting[Any]) -> None:
        self.name = name
        self.metrics = counting.metrics
        self.countings = (counting,)
        self.sources = (counting.source,)

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        scrape.refresh(*self.sources)
        for metric in self.countings[0].metrics:
            if scrape.totals.is_folded(metric):
                yield scrape.totals.family(metric)


class Shown:
    """Families of what is the same object from scrape to scrape: they are made when it is another one."""

    def __init__(self) -> None:
        self._held: tuple[tuple[object, ...], list[Family]] | None = None

    def families(self, make: Callable[[], Iterable[Family]], *values: object) -> list[Family]:
        """Those made of these values, which are held so that no other object takes their place in memory."""
        held = self._held
        if held is None or any(one is not other for one, other in zip(values, held[0], strict=True)):
            held = self._held = values, list(make())
        return held[1]


# So many series of what was read are kept across restarts at most.
_MOST_KEPT = 1000

# Values by metric and labels. A metric that is not in it, as of a collection that is not there, is not served.
Values = Mapping[Metric, Mapping[LabelValues, float]]


class RefreshedCollector(Collector):
    """Shows what `read` finds in the database, in the background at most every STATE_REFRESH seconds.

    Equal series, as of labels that the guard makes one, add up.
    """

    def __init__(
        self,
        name: str,
        metrics: tuple[Metric, ...],
        read: Callable[[LibreChat], Values],
        *,
        collection: str | None = None,
        depends_on: str = "",
    ) -> None:
        """collection: nothing is read nor served where it is not there. depends_on: settings that the values depend
        on; what was read with others does not serve after a restart.
        """
        self.name = name
        self.metrics = metrics
        self._read = read
        self._collection = collection
        self._values: Refreshed[Values] = Refreshed(name, at_once=0.0)
        self._kept = KeptReading(repr([name, depends_on, *((metric.name, metric.shape) for metric in metrics)]))
        self._shown = Shown()

    def data_age(self) -> float | None:
        return self._values.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        kept = self._kept.restored(scrape.ledger, scrape.now)
        if kept is not None:
            self._values.restore(self._from_json(kept.content), kept.age, kept.took)
        found = self._values.get(lambda: self._read_and_keep(scrape), scrape.deadline, scrape.settings.state_refresh)
        yield from self._shown.families(lambda: self._families(scrape, found), found)

    def _read_and_keep(self, scrape: Scrape) -> Values:
        started = time.time()
        is_there = self._collection is None or self._collection in scrape.librechat.collections()
        found = self._read(scrape.librechat) if is_there else {}
        if sum(map(len, found.values())) <= _MOST_KEPT:
            content = {metric.name: list(values.items()) for metric, values in found.items()}
            self._kept.keep(scrape.ledger, content, started)
        return found

    def _from_json(self, content: dict[str, list[tuple[list[str], float]]]) -> Values:
        values = {name: {tuple(labels): value for labels, value in of_one} for name, of_one in content.items()}
        return {metric: values[metric.name] for metric in self.metrics if metric.name in values}

    @staticmethod
    def _families(scrape: Scrape, found: Values) -> Iterator[Family]:
        samples = scrape.samples()
        for metric, values in found.items():
            for labels, value in values.items():
                samples.add(metric, value, *labels)
            yield samples.family(metric)

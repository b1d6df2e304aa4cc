"""What is in the database now, read in the background at most every STATE_REFRESH seconds."""

from collections.abc import Callable, Iterator, Mapping

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import Family, LabelValues, Metric
from librechat_exporter.refreshed import Refreshed

# Values by metric and labels. A metric that is not in it, as of a collection that is not there, is not served.
Values = Mapping[Metric, Mapping[LabelValues, float]]


class StateCollector(Collector):
    """Shows what `read` finds. Equal series, as of labels that the guard makes one, add up."""

    def __init__(self, name: str, metrics: tuple[Metric, ...], read: Callable[[LibreChat], Values]) -> None:
        self.name = name
        self.metrics = metrics
        self._read = read
        self._values: Refreshed[Values] = Refreshed(name, at_once=0.0)

    def data_age(self) -> float | None:
        return self._values.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        found = self._values.get(lambda: self._read(scrape.librechat), scrape.deadline, scrape.settings.state_refresh)
        samples = scrape.samples()
        for metric, values in found.items():
            for labels, value in values.items():
                samples.add(metric, value, *labels)
            yield samples.family(metric)

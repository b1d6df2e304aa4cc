"""LibreChat's own health check, asked in the background."""

import logging
import time
from collections.abc import Iterator

from librechat_exporter.collector import Collector, Scrape
from librechat_exporter.librechat import health
from librechat_exporter.librechat.health import Answer
from librechat_exporter.metrics.metric import Family, Metric
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings

_log = logging.getLogger(__name__)

_UP = Metric(
    name="librechat_api_up",
    help="1 if LibreChat's /health answered with an HTTP success, else 0",
    type="gauge",
    kind="is",
)
_STATUS_CODE = Metric(
    name="librechat_status_code",
    help="The HTTP status of LibreChat's /health; absent without an answer",
    type="gauge",
    kind="is",
)
_SECONDS = Metric(
    name="librechat_api_response_seconds", help="How long LibreChat's /health took to answer", type="gauge", kind="is"
)

_EVERY_SECONDS = 15.0
# A scrape waits so long for the first answer; the next one has it.
_PATIENCE_SECONDS = 1.0


class _ApiCollector(Collector):
    name = "api"
    metrics = (_UP, _STATUS_CODE, _SECONDS)

    def __init__(self) -> None:
        self._answer: Refreshed[Answer] = Refreshed(self.name, at_once=0.0, in_turn=False)
        self._told: str | None = None

    def data_age(self) -> float | None:
        return self._answer.age

    def _ask(self, url: str) -> Answer:
        """Says once why it is not up."""
        answer = health.ask(url)
        if answer.problem is not None and answer.problem != self._told:
            _log.warning("LIBRECHAT_URL: %s", answer.problem)
        elif answer.problem is None and self._told is not None:
            _log.info("LIBRECHAT_URL: LibreChat answers again")
        self._told = answer.problem
        return answer

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        url = str(scrape.settings.librechat_url)
        patience = min(scrape.deadline, time.monotonic() + _PATIENCE_SECONDS)
        answer = self._answer.get(lambda: self._ask(url), patience, _EVERY_SECONDS)
        yield _UP.family({(): answer.problem is None})
        if answer.status is not None:
            yield _STATUS_CODE.family({(): answer.status})
        if answer.problem is None:
            yield _SECONDS.family({(): answer.seconds})


def collectors(settings: Settings) -> list[Collector]:
    return [_ApiCollector()] if settings.librechat_url is not None else []

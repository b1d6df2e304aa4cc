"""LibreChat's own health check, asked in the background."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from librechat_exporter.collector import Collector, Scrape
from librechat_exporter.metrics.metric import Family, Metric
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings

_UP = Metric(name="librechat_api_up", help="Whether LibreChat's /health answered with 200", type="gauge", kind="is")
_SECONDS = Metric(
    name="librechat_api_response_seconds", help="How long LibreChat's /health took to answer", type="gauge", kind="is"
)

_EVERY_SECONDS = 15.0
_TIMEOUT_SECONDS = 5.0
# A scrape waits so long for the first answer; the next one has it.
_PATIENCE_SECONDS = 1.0


def _ask(url: str) -> tuple[bool, float]:
    """True if the address answered with 200, and after how many seconds."""
    started = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            up = response.status == 200
    except (OSError, ValueError):  # refused, not found, too late, no HTTP
        up = False
    return up, time.monotonic() - started


class _ApiCollector(Collector):
    """Of use with LIBRECHAT_URL."""

    name = "api"
    metrics = (_UP, _SECONDS)

    def __init__(self) -> None:
        self._answer: Refreshed[tuple[bool, float]] = Refreshed(self.name, at_once=0.0, in_turn=False)

    def is_used(self, settings: Settings) -> bool:
        return settings.librechat_url is not None

    def data_age(self) -> float | None:
        return self._answer.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        url = f"{scrape.settings.librechat_url}/health"
        patience = min(scrape.deadline, time.monotonic() + _PATIENCE_SECONDS)
        up, seconds = self._answer.get(lambda: _ask(url), patience, _EVERY_SECONDS)
        yield _UP.family({(): up})
        if up:
            yield _SECONDS.family({(): seconds})


def collectors(_settings: Settings) -> list[Collector]:
    return [_ApiCollector()]

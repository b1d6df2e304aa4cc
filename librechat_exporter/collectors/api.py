"""Whether LibreChat itself answers: its own health check, asked in the background."""

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from librechat_exporter.collectors.base import Collector, Scrape
from librechat_exporter.metric import Family, Metric
from librechat_exporter.refreshed import Refreshed
from librechat_exporter.settings import Settings

UP = Metric("librechat_api_up", "Whether LibreChat's /health answered with 200", "gauge", "is")
SECONDS = Metric("librechat_api_response_seconds", "How long LibreChat's /health took to answer", "gauge", "is")

_EVERY_SECONDS = 15.0
_TIMEOUT_SECONDS = 5.0
# A scrape waits so long for the first answer; the next one has it.
_PATIENCE_SECONDS = 1.0


def ask(url: str) -> tuple[bool, float]:
    """Whether the address answered with 200, and after how many seconds."""
    started = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            up = response.status == 200
    except (OSError, ValueError):  # refused, not found, too late, no HTTP
        up = False
    return up, time.monotonic() - started


class ApiCollector(Collector):
    """Of use with LIBRECHAT_URL."""

    name = "api"
    metrics = (UP, SECONDS)

    def __init__(self) -> None:
        self._answer: Refreshed[tuple[bool, float]] = Refreshed(self.name, at_once=0.0, in_turn=False)

    def is_used(self, settings: Settings) -> bool:
        return settings.librechat_url is not None

    def data_age(self) -> float | None:
        return self._answer.age

    def collect(self, scrape: Scrape) -> Iterator[Family]:
        url = f"{scrape.settings.librechat_url}/health"
        patience = min(scrape.deadline, time.monotonic() + _PATIENCE_SECONDS)
        up, seconds = self._answer.get(lambda: ask(url), patience, _EVERY_SECONDS)
        yield UP.family({(): up})
        if up:
            yield SECONDS.family({(): seconds})

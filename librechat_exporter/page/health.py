"""The exporter's state, and in one word and one colour whether all is well."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from librechat_exporter.scrape import LastScrape

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"


@dataclass(frozen=True)
class Banner:
    """level: GOOD, DOUBTFUL or BAD."""

    level: str
    headline: str
    reasons: Sequence[str] = ()


class Status(Protocol):
    """The daemon, as the page and the health checks ask it."""

    def fault(self) -> str | None:
        """Asks MongoDB: why it cannot be read, None if it can."""

    def now(self) -> datetime:
        """MongoDB's time, as far as it is known."""

    def pending(self) -> Mapping[str, float]:
        """The share of history that is counted, of sources of which nothing can be shown yet."""

    def history(self) -> Mapping[str, float]:
        """The share of history that is counted, by source."""

    def last_scrape(self) -> LastScrape | None:
        """None as long as there was none."""

    def is_persistent(self) -> bool:
        """All that was shown is on disk."""


def readiness(status: Status) -> list[str]:
    """The reasons why the exporter is not ready; empty if it is. Anybody may ask: they name the database at most."""
    fault = status.fault()
    if fault is not None:
        fault = re.split("[:;] ", fault)[0]
    history = [f"the history of {source} is counted to {share:.0%}" for source, share in status.pending().items()]
    return [fault, *history] if fault is not None else history


def banner(status: Status) -> Banner:
    """Asked now, but for the collectors, which are those of the last scrape."""
    fault = status.fault()
    if fault is not None:
        return Banner(BAD, "LibreChat's messages cannot be counted", [fault])
    pending = status.pending()
    if pending:
        told = [f"{source}: {share:.0%} of its history is counted" for source, share in pending.items()]
        return Banner(DOUBTFUL, "The exporter is counting what was there before it", told)
    reasons = []
    last = status.last_scrape()
    if last is not None:
        reasons += [f"Collector {name} failed at the last scrape: {why}" for name, why in last.problems.items()]
    if not status.is_persistent():
        reasons.append("The state file cannot be written: counters may fall at the next restart")
    if reasons:
        return Banner(DOUBTFUL, "Something needs a look", reasons)
    return Banner(GOOD, "All is well")

"""Readings that take long are kept across restarts: the first scrape need not wait for them."""

import json
import time
from datetime import datetime
from typing import Any, NamedTuple

from librechat_exporter.faults import HistoryPendingError
from librechat_exporter.ledger.ledger import Ledger

WORTH_KEEPING_SECONDS = 0.1


class Restored(NamedTuple):
    """A reading's content, as JSON knows it, how many seconds old it is, and how many it took."""

    content: Any
    age: float
    took: float


class KeptReading:
    """The last reading of one thing."""

    def __init__(self, name: str) -> None:
        """name: another one for each form of the content."""
        self._name = name
        self._is_restored = False

    def keep(self, ledger: Ledger, content: Any, started: float) -> None:
        """Keeps what was read from the Unix time `started` until now, if that took long."""
        took = time.time() - started
        if took > WORTH_KEEPING_SECONDS:
            ledger.keep(self._name, json.dumps([started, took, content]))

    def restored(self, ledger: Ledger, now: datetime) -> Restored | None:
        """The reading of a former process, the first time that it is asked for; None if it cannot be told then whether
        the database is the same. Raises PyMongoError.
        """
        if self._is_restored:
            return None
        try:
            kept = ledger.kept(self._name, now)
        except HistoryPendingError:
            kept = None
        self._is_restored = True
        if kept is None:
            return None
        started, took, content = json.loads(kept)
        return Restored(content, max(0.0, time.time() - started), took)

"""MongoDB's clock, as far as it may decide what is sealed or forgotten, for neither can be undone."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

log = logging.getLogger(__name__)

# A clock that has been ahead for so long is believed.
LASTING = timedelta(hours=1)
_MARGIN = timedelta(seconds=60)


class Clock:
    """A clock that is suddenly ahead is believed at twice the pace of time, until it is right again, has been caught up
    with, or has stayed so for an hour. Of several threads, only one at a time may call it.
    """

    def __init__(self, believed: float | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        """believed: the Unix time that a former process believed last."""
        self._monotonic = monotonic
        self._stored = datetime.fromtimestamp(believed, UTC) if believed is not None else None
        self._believed: tuple[datetime, float] | None = None
        self._ahead_since: float | None = None

    @property
    def has_begun(self) -> bool:
        return self._believed is not None

    def begin(self, now: datetime, newest: datetime | None) -> None:
        """At the start, what a former process believed and the newest document tell how far a clock can be believed."""
        if self._believed is None:
            known = max(filter(None, (self._stored, newest)), default=None)
            limit = now if known is None else known + LASTING
            if self._stored is not None and now > limit:
                log.warning(
                    "MongoDB's clock is %.1f days ahead of all that was seen; in an hour it is believed if it stays so",
                    (now - limit).total_seconds() / 86_400,
                )
            self._believed = min(now, limit), self._monotonic()

    def trusted(self, now: datetime) -> datetime:
        """Now, or the latest time before it that can be believed."""
        passed = self._monotonic()
        if self._believed is not None:
            before, at = self._believed
            limit = before + timedelta(seconds=2 * (passed - at)) + _MARGIN
            if now > limit:
                if self._ahead_since is None:
                    self._ahead_since = passed
                if passed - self._ahead_since < LASTING.total_seconds():
                    return limit
        self._ahead_since = None
        self._believed = now, passed
        return now

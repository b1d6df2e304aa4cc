"""MongoDB's clock, as far as it may decide what is sealed or forgotten, for neither can be undone."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

log = logging.getLogger(__name__)

# A clock that has been ahead for so long is believed.
LASTING = timedelta(hours=1)
# At a start, when a machine may still have to set its clock. Until then it is believed this far beyond what a former
# process believed: with the margin that is for how long documents are open at least.
_AT_A_START = timedelta(minutes=10)
_BEYOND_STORED = timedelta(minutes=5)
_MARGIN = timedelta(seconds=60)


class Clock:
    """A clock that is suddenly ahead is believed at the pace of time, until it is right again, or has stayed so for an
    hour, or at a start ten minutes. Safe for use from several threads.
    """

    def __init__(self, believed: float | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        """believed: the Unix time that a former process believed last."""
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self.stored = datetime.fromtimestamp(believed, UTC) if believed is not None else None
        self._believed: tuple[datetime, float] | None = None
        self._ahead_since: float | None = None
        self._lasting = LASTING
        self._jumped = timedelta(0)

    @property
    def has_begun(self) -> bool:
        return self._believed is not None

    def begin(self, now: datetime, newest: datetime | None) -> None:
        """At the start, what a former process believed tells how far a clock can be believed; or the newest document,
        if that is given, which a clock that is wrong could have made.
        """
        if self._believed is None:
            known = max(filter(None, (self.stored, newest)), default=None)
            limit = now
            if newest is not None:
                limit = newest + LASTING
            elif self.stored is not None:
                limit, self._lasting = self.stored + _BEYOND_STORED, _AT_A_START
            if self.stored is not None and known is not None and now > known + LASTING:
                log.info(
                    "MongoDB's clock is %.1f days ahead of all that was seen; it is believed if it stays so",
                    (now - known).total_seconds() / 86_400,
                )
            self._believed = min(now, limit), self._monotonic()

    def trusted(self, now: datetime) -> datetime:
        """Now, or the latest time before it that can be believed."""
        with self._lock:
            passed = self._monotonic()
            if self._believed is not None:
                before, at = self._believed
                limit = before + timedelta(seconds=passed - at) + _MARGIN
                if now > limit:
                    if self._ahead_since is None:
                        self._ahead_since = passed
                    if passed - self._ahead_since < self._lasting.total_seconds():
                        return limit
                    self._jumped += now - limit
            self._ahead_since, self._lasting = None, LASTING
            self._believed = now, passed
            return now

    def steady(self, now: datetime) -> datetime:
        """The same, less what it has jumped ahead since the start when a clock was believed at last: for how long
        something has been so."""
        return self.trusted(now) - self._jumped

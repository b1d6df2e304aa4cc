"""Commits what was counted to the state file."""

import logging
import time
from collections.abc import Iterable

from librechat_exporter.faults import describe
from librechat_exporter.ledger.last_seen import LastSeen
from librechat_exporter.ledger.source import Source
from librechat_exporter.ledger.state_file import State
from librechat_exporter.metrics.guard import LabelGuard

log = logging.getLogger(__name__)

# As all that is unsaved is written each time, a disk that fails is tried for this share of the time at most.
_SHARE_IN_VAIN = 1 / 20
_LONGEST_PAUSE = 60.0


class Saving:
    """The ledger's lock is held for each call."""

    def __init__(self, state: State, guard: LabelGuard, last_seen: LastSeen) -> None:
        self._state = state
        self._guard = guard
        self._last_seen = last_seen
        self._labels: list[tuple[str, str]] = []
        self._try_from = float("-inf")
        self._closed = False
        self.has_failed = False

    def save(self, sources: Iterable[Source]) -> None:
        """Commits what changed, before anybody sees it. If that fails it is kept for the next time."""
        self._labels += self._guard.take_unsaved()
        changed = [source for source in sources if source.has_changed]
        seen = self._last_seen
        if self._closed or not (changed or seen.unsaved or seen.days.unsaved or self._labels):
            return
        begun = time.monotonic()
        if begun < self._try_from:
            return
        try:
            with self._state.transaction():
                for source in changed:
                    self._state.save(source.fold.name, source.changes(), source.expired, source.kept)
                self._state.save_seen(seen.unsaved, seen.days.unsaved, self._labels)
        except Exception as error:  # noqa: BLE001
            if not self.has_failed:
                log.error("STATE_PATH cannot be written (%s): counters may fall at the next restart", describe(error))  # noqa: TRY400
            self.has_failed = True
            self._try_from = time.monotonic() + min((time.monotonic() - begun) / _SHARE_IN_VAIN, _LONGEST_PAUSE)
            return
        if self.has_failed:
            log.info("STATE_PATH can be written again; nothing was lost")
        self.has_failed = False
        for source in changed:
            source.changes_saved()
        seen.unsaved = {}
        seen.days.unsaved = {}
        self._labels = []

    def forget(self) -> None:
        """Another database has come: forgets what the sources do not hold."""
        self._labels.clear()

    def close(self, sources: Iterable[Source]) -> None:
        """Commits for the last time, and closes the state file."""
        self._try_from = float("-inf")
        self.save(sources)
        self._state.close()
        self._closed = True

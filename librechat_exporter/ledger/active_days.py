"""On which of the last days each user was active: a bit a day, so that 50,000 users take a few megabytes.

Users are held as hashes with a key of the state file's own, as nobody asks who they were.
"""

import hashlib
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from librechat_exporter.faults import describe
from librechat_exporter.ledger.state_file import State, log

# The kind of users seen on a day, which stands after the colon.
ACTIVE_DAYS = "active_days"
DAYS_KEPT = timedelta(days=33)
# Of a 64-bit integer so many bits are used in turn: before one is used again, that of the day so long ago is cleared.
_BITS = 62
_KEY = "key of active days"
_QUARTER = 900
_MOST_QUARTERS = 10_000


class Calendar:
    """Days of a time zone. All zones are quarters of an hour off from each other."""

    def __init__(self, timezone: ZoneInfo) -> None:
        self._timezone = timezone
        self._kinds: dict[int, str] = {}

    def kind(self, moment: float) -> str:
        """The kind of users seen on the day of that Unix time."""
        quarter = int(moment // _QUARTER)
        kind = self._kinds.get(quarter)
        if kind is None:
            if len(self._kinds) > _MOST_QUARTERS:
                self._kinds.clear()
            day = datetime.fromtimestamp(moment, self._timezone).date()
            kind = self._kinds[quarter] = f"{ACTIVE_DAYS}:{day.toordinal()}"
        return kind


class ActiveDays:
    """The table. Of several threads, only one at a time may call it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._days = state.active_days()
        self._counts = Counter(bit for days in self._days.values() for bit in range(_BITS) if days >> bit & 1)
        self._key = self._read_key()
        self.unsaved: dict[int, int] = {}

    def _read_key(self) -> bytes:
        key = self._state.kept(_KEY)
        if key is None:
            key = secrets.token_hex(16)
            self._state.keep(_KEY, key)
        return bytes.fromhex(key)

    def add(self, kind: str, users: Iterable[str]) -> None:
        """Users, by their ids, who were active on the day of a Calendar's kind."""
        bit = int(kind.rpartition(":")[2]) % _BITS
        for user in users:
            digest = hashlib.blake2b(user.encode(), digest_size=8, key=self._key).digest()
            hashed = int.from_bytes(digest, signed=True)
            days = self._days.get(hashed, 0)
            if not days >> bit & 1:
                self._counts[bit] += 1
                self._days[hashed] = self.unsaved[hashed] = days | 1 << bit

    def count(self, day: date) -> int:
        """Users who were active on a day, which is no longer ago than days are kept."""
        return self._counts[day.toordinal() % _BITS]

    def forget_old(self, now: datetime) -> None:
        # A day begins up to 14 hours sooner or later than in UTC.
        first, last = (now - DAYS_KEPT).toordinal() - 1, now.toordinal() + 1
        kept = sum(1 << day % _BITS for day in range(first, last + 1))
        if not any(self._counts[bit] and not kept >> bit & 1 for bit in range(_BITS)):
            return
        self._days = {user: days & kept for user, days in self._days.items() if days & kept}
        self.unsaved = {user: days & kept for user, days in self.unsaved.items() if days & kept}
        for bit in [bit for bit in self._counts if not kept >> bit & 1]:
            del self._counts[bit]
        try:
            self._state.keep_days(kept)
        except sqlite3.Error as error:
            log.warning("Old active days could not be removed from STATE_PATH (%s)", describe(error))

    def forget(self) -> None:
        """As if nobody had ever been active."""
        self._days.clear()
        self._counts.clear()
        self.unsaved.clear()
        self._state.keep_days(0)
        self._key = self._read_key()

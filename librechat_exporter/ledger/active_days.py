"""On which of the last days each user was active: a bit a day, so that 50,000 users take a few megabytes.

Users are held as hashes of what LastSeen holds them by, with a key of the state file's own: nobody asks who they were.
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
# More than are kept, and as many as an integer of SQLite's holds.
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
        # By user the last day, and as bits how many days before it the user was active too; days count from the year 1.
        self._days = state.active_days()
        self._counts = Counter(day for last, bits in self._days.values() for day in _days(last, bits))
        self._key = self._read_key()
        self.unsaved: dict[int, tuple[int, int]] = {}

    def _read_key(self) -> bytes:
        key = self._state.kept(_KEY)
        if key is None:
            key = secrets.token_hex(16)
            self._state.keep(_KEY, key)
        return bytes.fromhex(key)

    def add(self, kind: str, users: Iterable[str]) -> None:
        """Users who were active on the day of a Calendar's kind."""
        day = int(kind.rpartition(":")[2])
        for user in users:
            digest = hashlib.blake2b(user.encode(), digest_size=8, key=self._key).digest()
            hashed = int.from_bytes(digest, signed=True)
            last, bits = self._days.get(hashed, (day, 0))
            if day > last:
                last, bits = day, bits << min(day - last, _BITS) & (1 << _BITS) - 1
            ago = last - day
            if ago < _BITS and not bits >> ago & 1:
                self._counts[day] += 1
                self._days[hashed] = self.unsaved[hashed] = last, bits | 1 << ago

    def count(self, day: date) -> int:
        """Users who were active on a day, which is no longer ago than days are kept."""
        return self._counts[day.toordinal()]

    def forget_old(self, now: datetime) -> None:
        """Forgets who was not active since days are kept."""
        first = (now - DAYS_KEPT).toordinal() - 1
        for day in [day for day in self._counts if day < first]:
            del self._counts[day]
        old = [user for user, (last, _) in self._days.items() if last < first]
        if not old:
            return
        for user in old:
            del self._days[user]
            self.unsaved.pop(user, None)
        try:
            self._state.forget_active_days(first)
        except sqlite3.Error as error:
            log.warning("Old active days could not be removed from STATE_PATH (%s)", describe(error))

    def forget(self) -> None:
        """As if nobody had ever been active. Raises sqlite3.Error."""
        self._days.clear()
        self._counts.clear()
        self.unsaved.clear()
        self._state.forget_active_days()
        self._key = self._read_key()


def _days(last: int, bits: int) -> Iterable[int]:
    return (last - ago for ago in range(bits.bit_length()) if bits >> ago & 1)

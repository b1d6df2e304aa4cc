"""Whom users belong to when usage is counted."""

import time
from datetime import timedelta

from pymongo.errors import PyMongoError

from librechat_exporter.librechat.database import LibreChat, allowed
from librechat_exporter.librechat.members import Members, read_members
from librechat_exporter.refreshed import Refreshed

# How long the first reading is waited for. What cannot be counted until then is counted when it is there.
_PATIENCE_SECONDS = 5.0
# It tries again, and scrapes wait for it meanwhile.
_HISTORYS_PATIENCE = 0.5
# Users who cannot be read are waited for so long, which is less than what waits for them stays open.
WAITED_FOR = timedelta(minutes=55)
# What a new user does stays open for an hour.
_LONGEST_INTERVAL = 1800.0


class Membership:
    """Read in the background; where that fails, what was read last goes on. Safe for use from several threads."""

    def __init__(self, librechat: LibreChat, every: float, *, groups: bool) -> None:
        """every: seconds between readings, of which half an hour is the most. groups: users' groups are read too."""
        self._librechat = librechat
        self._every = min(every, _LONGEST_INTERVAL)
        self._groups = groups
        self.forget()

    def forget(self) -> None:
        """Another database has other users."""
        self._last: Members | None = None
        self.renew()

    def renew(self) -> None:
        """They are read anew before they are told again, unless that fails; to history in any case."""
        self._renewed_at = time.monotonic()
        self._refreshed: Refreshed[Members] = Refreshed("users and groups", at_once=0.0)

    @property
    def age(self) -> float:
        """Seconds since it was read, infinite if it never was."""
        return time.monotonic() - self._last.read_at if self._last is not None else float("inf")

    def members(self, patience: float = _PATIENCE_SECONDS) -> Members:
        """All users by their ids. The same object until they are read anew.

        Raises PyMongoError, TimeoutError as long as they have never been read.
        """
        try:
            self._last = self._refreshed.get(self._read, time.monotonic() + patience, self._every)
        except (PyMongoError, TimeoutError):
            if self._last is None:
                raise
        return self._last

    def for_counting(self) -> Members | None:
        """None where users may not be read: usage is counted all the same. Raises as members()."""
        return allowed(self.members)

    def for_history(self) -> Members | None:
        """The same, read since renew(), as history is charged once. Raises TimeoutError until they are."""
        members = allowed(lambda: self.members(_HISTORYS_PATIENCE))
        is_old = members is not None and members.read_at < self._renewed_at
        if is_old and time.monotonic() < self._renewed_at + WAITED_FOR.total_seconds():
            raise TimeoutError("users have not been read since the gap")
        return members

    def _read(self) -> Members:
        return read_members(self._librechat, groups=self._groups)

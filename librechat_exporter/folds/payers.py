"""Payers: whom a user's messages and transactions are charged to."""

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from librechat_exporter.ledger.fold import Cache, Counting, Reading
from librechat_exporter.ledger.membership import WAITED_FOR
from librechat_exporter.librechat.fields import UNKNOWN
from librechat_exporter.librechat.members import NOBODY, UNREAD
from librechat_exporter.user_ids import UserKey

GROUP, DOMAIN, USER = "group", "domain", "user"
_MET_REMEMBERED = 100_000
# Users may be read on a member that is behind the one on which a message of theirs was read.
_LAG_SECONDS = 60.0


class Payers:
    """By kind the values of that label: a user's groups, the domain of the e-mail address, the user."""

    def __init__(self, countings: Collection[Counting[Any]], name_user: UserKey) -> None:
        """countings: the kinds are those labels that come first in their metrics. name_user: makes the label `user`."""
        metrics = (metric for counting in countings for metric in counting.metrics)
        self._kinds = sorted({one.labels[0] for one in metrics if one.labels} & {GROUP, DOMAIN, USER})
        self._name_user = name_user
        # When those who are no users, or not yet, were met first, by time.monotonic() and by Clock.steady.
        self._met: Cache[str, tuple[float, datetime]] = Cache(_MET_REMEMBERED)

    def are_unknown(self, reading: Reading, user: str | None) -> bool:
        """The user may have come since users were read: who pays is not known yet. Who was met before they were read,
        and is not among them, is no user any more. The time of an `_id` does not tell, as its clock may be another.

        Raises PyMongoError, TimeoutError.
        """
        if user is None or not {GROUP, DOMAIN}.intersection(self._kinds):
            return False
        members = reading.members
        if members is None or user in members:
            return False
        if user not in self._met:
            self._met.put(user, (reading.begun, reading.steady))
        met, at = self._met[user]
        lag = _LAG_SECONDS if reading.librechat.may_lag else 0.0
        return members.read_at <= met + lag and reading.steady < at + WAITED_FOR

    def of(self, reading: Reading, user: str | None) -> dict[str, tuple[str, ...]]:
        """Raises PyMongoError, TimeoutError."""
        return {kind: self._of(reading, kind, user) for kind in self._kinds}

    def of_all(self, reading: Reading, users: Iterable[str | None]) -> dict[str, Counter[str]]:
        """Counts of what these users have done, by whom it is charged to. Raises PyMongoError, TimeoutError."""
        found: dict[str, Counter[str]] = {kind: Counter() for kind in self._kinds}
        for user, count in Counter(users).items() if self._kinds else ():
            for kind, names in self.of(reading, user).items():
                for name in names:
                    found[kind][name] += count
        return found

    def _of(self, reading: Reading, kind: str, user: str | None) -> tuple[str, ...]:
        if kind == USER:
            return (self._name_user(user) if user is not None else UNKNOWN,)
        members = reading.members
        member = members.get(user or "", NOBODY) if members is not None else UNREAD
        return member.charged if kind == GROUP else (member.domain,)

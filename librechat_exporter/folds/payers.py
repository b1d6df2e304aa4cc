"""Payers: whom a user's messages and transactions are charged to."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from bson import ObjectId

from librechat_exporter.ledger.fold import Counting, Reading
from librechat_exporter.librechat.fields import UNKNOWN
from librechat_exporter.librechat.members import NOBODY, UNREAD
from librechat_exporter.user_ids import UserKey

GROUP, DOMAIN, USER = "group", "domain", "user"


class Payers:
    """By kind the values of that label: a user's groups, the domain of the e-mail address, the user."""

    def __init__(self, countings: Collection[Counting[Any]], name_user: UserKey) -> None:
        """countings: the kinds are those labels that come first in their metrics. name_user: makes the label `user`."""
        metrics = (metric for counting in countings for metric in counting.metrics)
        self._kinds = sorted({one.labels[0] for one in metrics if one.labels} & {GROUP, DOMAIN, USER})
        self._name_user = name_user

    def are_unknown(self, reading: Reading, user: str | None, document: ObjectId) -> bool:
        """The user of this document may have come since users were read: who pays is not known yet.

        Raises PyMongoError, TimeoutError.
        """
        if user is None or not {GROUP, DOMAIN}.intersection(self._kinds):
            return False
        members = reading.members
        return members is not None and members.may_lack(user, document.generation_time, reading.trusted)

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

"""Whom users belong to: their groups, and the domain of their e-mail address."""

import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

from librechat_exporter.librechat.database import LibreChat, allowed
from librechat_exporter.librechat.fields import GROUP, UNKNOWN, USER_RECORD
from librechat_exporter.metrics.guard import MAX_LABEL_LENGTH

NO_GROUP = "none"


class Member(NamedTuple):
    """A user. groups: names, sorted; None if they may not be read, or are not asked for. created: createdAt as a Unix
    time, None if it is no date that can be meant.
    """

    groups: tuple[str, ...] | None
    domain: str
    created: float | None

    @property
    def charged(self) -> tuple[str, ...]:
        """The groups that his usage is charged to."""
        return (UNKNOWN,) if self.groups is None else self.groups or (NO_GROUP,)


# Who is no user any more, and who cannot be read.
NOBODY = Member((), UNKNOWN, None)
UNREAD = Member(None, UNKNOWN, None)


class Members(dict[str, Member]):
    """All users by their ids. read_at: by time.monotonic(), when they began to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.read_at = time.monotonic()


def read_members(librechat: LibreChat, *, groups: bool) -> Members:
    """Their groups are read if these are asked for."""
    members = Members()
    listed = allowed(lambda: _groups_by_member(librechat)) if groups else None
    for row in librechat.stream("users", {}, {"$project": USER_RECORD}):  # there may be very many
        user = str(row["_id"])
        of_user = None
        if listed is not None:
            of_user = listed.united(listed.by_member.get(user, ()), listed.by_member.get(row["external"] or "", ()))
        domain = sys.intern((row["domain"] or UNKNOWN)[:MAX_LABEL_LENGTH])
        created = row["created"] / 1000 if row["created"] else None
        members[user] = Member(of_user, domain, created)
    return members


class _Listed:
    """Names of groups by what they list: a user's idOnTheSource, or its `_id`. Groups of one name count as one.

    Equal tuples of names are one object, as thousands are held.
    """

    def __init__(self) -> None:
        self.by_member: dict[str, tuple[str, ...]] = {}
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}

    def united(self, some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(sorted({*some, *others})) if others and some != others else some
        return self._shared.setdefault(names, names)

    def add(self, name: str, members: Iterable[object]) -> None:
        for member in members:
            if type(member) is str and member:  # not one of BSON's own
                self.by_member[member] = self.united((name,), self.by_member.get(member, ()))


def _groups_by_member(librechat: LibreChat) -> _Listed:
    listed = _Listed()
    for row in librechat.stream("groups", {}, {"$project": GROUP}):
        listed.add((row["name"] or UNKNOWN)[:MAX_LABEL_LENGTH], row["members"])
    return listed

"""Whom users belong to: their groups, and the domain of their e-mail address."""

from collections import defaultdict
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


def read_members(librechat: LibreChat, *, groups: bool) -> dict[str, Member]:
    """All users by their ids, with their groups if these are asked for."""
    member_of = allowed(lambda: _groups_by_member(librechat)) if groups else None
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    members: dict[str, Member] = {}
    for row in librechat.aggregate("users", {}, {"$project": USER_RECORD}):
        user = str(row["_id"])
        listed = None
        if member_of is not None:
            names = member_of.get(user, set()) | member_of.get(row["external"] or "", set())
            listed = shared.setdefault(tuple(sorted(names)), tuple(sorted(names)))
        domain = (row["domain"] or UNKNOWN)[:MAX_LABEL_LENGTH]
        created = row["created"] / 1000 if row["created"] else None
        members[user] = Member(listed, domain, created)
    return members


def _groups_by_member(librechat: LibreChat) -> dict[str, set[str]]:
    """Names of groups by what they list: a user's idOnTheSource, or its `_id`. Groups of one name count as one."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in librechat.aggregate("groups", {}, {"$project": GROUP}):
        name = (row["name"] or UNKNOWN)[:MAX_LABEL_LENGTH]
        for member in row["members"]:
            if isinstance(member, str) and member:
                found[member].add(name)
    return found

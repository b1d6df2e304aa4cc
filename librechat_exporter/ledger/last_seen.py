"""When each user was last seen, by kind of what the user was seen with; held by ids or by keyed hashes. On which days
users were active is held apart."""

import bisect
import logging
import sqlite3
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta

from librechat_exporter.faults import describe
from librechat_exporter.ledger.active_days import ACTIVE_DAYS, ActiveDays
from librechat_exporter.ledger.state_file import Seen, State
from librechat_exporter.user_ids import UserKey, raw

log = logging.getLogger(__name__)

# Of users seen with things that have names, so many pairs are held; later ones are not counted.
MOST_PAIRS = 200_000
_TIMES_REMEMBERED = 20
# Made a user key of, this tells how users are held.
USERS_HELD = "how users are held"
_OF = ":"


def kind_by(label: str) -> str:
    """The kind of users seen with any of the things that have values of a label."""
    return f"{label}_users"


def of_kind(kind: str, name: str) -> str:
    """The kind for one of the things, by its name, that users are seen with."""
    return f"{kind}{_OF}{name}"


class LastSeen:
    """The table, and what of it is not on disk yet. Of several threads, only one at a time may call it."""

    def __init__(self, state: State, kept: timedelta, hold_user: UserKey) -> None:
        """kept: how long a user who is not seen again stays. hold_user: makes what users are held by."""
        self._state = state
        self._kept = kept
        self.user_key = hold_user
        self._users = self._load()
        self.unsaved: Seen = {}
        self.days = ActiveDays(state)
        self._pairs = sum(len(users) for kind, users in self._users.items() if _OF in kind)
        self._dropped_told = False
        # What is worked out from it, until it changes.
        self._sorted: dict[str, list[float]] = {}
        self._counts: dict[str, dict[datetime, int]] = {}
        self._snapshots: dict[str, dict[str, float]] = {}

    def _load(self) -> Seen:
        """Users whose ids are in the file become hashes if they should be. Others are forgotten, and history is folded
        for them again."""
        seen = self._state.seen()
        wanted, held = self.user_key(USERS_HELD), self._state.kept(USERS_HELD)
        if held == wanted or not (seen or held):
            self._state.keep(USERS_HELD, wanted)
            return seen
        if held in (None, raw(USERS_HELD)):
            seen = {kind: {self.user_key(user): time for user, time in users.items()} for kind, users in seen.items()}
        else:
            log.warning("STATE_USER_IDS or USER_ID_SALT has changed: unique users are counted anew from what is stored")
            self._state.replace_seen({}, USERS_HELD, wanted, anew={kind.partition(_OF)[0] for kind in seen})
            return {}
        self._state.replace_seen(seen, USERS_HELD, wanted)
        return seen

    def count(self, kind: str, since: datetime) -> int:
        """Distinct users of this kind seen since then, which is no longer ago than they are kept."""
        if kind not in self._sorted:
            self._sorted[kind] = sorted(self._users.get(kind, {}).values())
        times = self._sorted[kind]
        return len(times) - bisect.bisect_left(times, since.timestamp())

    def of_kind(self, kind: str) -> dict[str, float]:
        """When each user was last seen with this kind, as a Unix time. The same object until that changes."""
        if kind not in self._snapshots:
            self._snapshots[kind] = dict(self._users.get(kind, {}))
        return self._snapshots[kind]

    def add(self, seen: Seen) -> None:
        """Users by their ids."""
        newer: Seen = {}
        for kind, users in seen.items():
            if kind.startswith(ACTIVE_DAYS):
                self.days.add(kind, map(self.user_key, users))
                continue
            known = self._users.get(kind, {})
            keyed = ((sys.intern(self.user_key(user)), moment) for user, moment in users.items())
            newer[kind] = {user: moment for user, moment in keyed if moment > known.get(user, 0)}
            if _OF in kind:
                self._bound_pairs(known, newer[kind])
            if newer[kind]:
                self._sorted.pop(kind, None)
                self._counts.pop(kind, None)
                self._snapshots.pop(kind, None)
        merge(self._users, newer)
        merge(self.unsaved, newer)

    def _bound_pairs(self, known: Mapping[str, float], newer: dict[str, float]) -> None:
        """Takes out users who were not seen with the thing before and are too many."""
        for user in [one for one in newer if one not in known]:
            if self._pairs < MOST_PAIRS:
                self._pairs += 1
                continue
            del newer[user]
            if not self._dropped_told:
                log.warning(
                    "More than %d pairs of an agent and a user: the users of later ones are not counted", MOST_PAIRS
                )
                self._dropped_told = True

    def count_by_name(self, kind: str, since: datetime) -> dict[str, int]:
        """Distinct users seen since then with each thing of this kind, by its name."""
        prefix = of_kind(kind, "")
        kinds = [one for one in self._users if one.startswith(prefix)]
        return {one.removeprefix(prefix): self._count_once(one, since) for one in kinds}

    def _count_once(self, kind: str, since: datetime) -> int:
        counts = self._counts.setdefault(kind, {})
        if since not in counts:
            if len(counts) > _TIMES_REMEMBERED:
                counts.clear()
            counts[since] = self.count(kind, since)
        return counts[since]

    def forget_kind(self, kind: str) -> None:
        """As if nobody had been seen with it, or with any thing of it; the state file has forgotten it."""
        if kind == ACTIVE_DAYS:
            self.days.forget()
        self._counts.clear()
        for held in (self._users, self.unsaved, self._sorted, self._snapshots):
            for one in [one for one in held if one == kind or one.startswith(of_kind(kind, ""))]:
                del held[one]
        self._pairs = sum(len(users) for one, users in self._users.items() if _OF in one)

    def forget_old(self, now: datetime) -> None:
        self.days.forget_old(now)
        before = (now - self._kept).timestamp()
        if not any(moment < before for users in self._users.values() for moment in users.values()):
            return
        self._users = {
            kind: {user: moment for user, moment in users.items() if moment >= before}
            for kind, users in self._users.items()
        }
        self._pairs = sum(len(users) for kind, users in self._users.items() if _OF in kind)
        self._sorted.clear()
        self._counts.clear()
        self._snapshots.clear()
        try:
            self._state.forget_seen(before)
        except sqlite3.Error as error:
            log.warning("Old users could not be removed from STATE_PATH (%s)", describe(error))

    def begin(self) -> None:
        """As if nobody had been seen; the state file has been emptied."""
        self.days.forget()
        self._state.keep(USERS_HELD, self.user_key(USERS_HELD))
        self._users.clear()
        self._pairs = 0
        self.unsaved.clear()
        self._sorted.clear()
        self._counts.clear()
        self._snapshots.clear()


def merge(seen: Seen, more: Seen) -> None:
    """Adds what is more recent to seen."""
    for kind, users in more.items():
        held = seen.setdefault(kind, {})
        held.update((user, moment) for user, moment in users.items() if moment > held.get(user, 0))

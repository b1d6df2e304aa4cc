"""One run of the export: days are read side by side and written in their order."""

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from zoneinfo import ZoneInfo

import pymongo
from pymongo.errors import ConnectionFailure, PyMongoError

from librechat_exporter.faults import describe, places
from librechat_exporter.historic.dates import Period, Plan, Range, bounds
from librechat_exporter.historic.day import Day, Labels, Telling, new_users, read_day
from librechat_exporter.historic.lock import LockedError
from librechat_exporter.historic.store import Store, StoreError
from librechat_exporter.historic.tables import DAILY_NEW_USERS
from librechat_exporter.librechat.database import LibreChat
from librechat_exporter.librechat.fields import created_between
from librechat_exporter.librechat.members import read_members
from librechat_exporter.librechat.messages import read_users

log = logging.getLogger(__name__)

# Two queries at a time leave a small server able to answer LibreChat.
_READERS = 2
_READ_AHEAD = 4
_DAY_SECONDS = 600.0
_PERIOD_SECONDS = 3600.0
_PING_SECONDS = 30.0


@dataclass
class RunResult:
    """The result of a run. failed: days that are as they were before; problems: a line for each."""

    days: int = 0
    rows: int = 0
    skipped: int = 0
    failed: list[date] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Export:
    """Copies what a plan says. on_day is told of each day that was written or failed, with its messages."""

    def __init__(
        self,
        librechat: LibreChat,
        store: Store,
        timezone: ZoneInfo,
        telling: Telling,
        on_day: Callable[[int], None],
        *,
        groups: bool = False,
    ) -> None:
        """groups: usage by group is told; users' groups are read when it runs."""
        self._groups = groups
        self._librechat = librechat
        self._store = store
        self._timezone = timezone
        self._telling = telling
        self._on_day = on_day
        self._labels: Labels = {}
        # Of each period that is under way: the days that this run has read, and their users.
        self._seen: dict[Period, tuple[set[date], set[str]]] = {}

    def run(self, plan: Plan, outcome: RunResult, *, force: bool) -> None:
        """Notes in the outcome what was done, as it is done.

        A day that cannot be read is left as it is. A database that is gone ends the run; the days left failed.
        """
        left = deque(plan.days)
        closing = plan.closing()
        pool = ThreadPoolExecutor(_READERS, thread_name_prefix="day")
        try:
            if plan.days:
                with pymongo.timeout(_DAY_SECONDS):
                    registered = new_users(self._librechat, Range(plan.days[0], plan.days[-1]), self._timezone)
                    if self._groups:
                        members = read_members(self._librechat, groups=True)
                        self._telling = replace(self._telling, members=members)
            for day, future in _ahead(pool, self._read, plan.days):
                try:
                    read = future.result()
                    users = self._users(read, plan, closing.get(day, []))
                except Exception as error:
                    if self._is_away(error):
                        raise
                    self._failed(day, error, outcome)
                else:
                    read.rows[DAILY_NEW_USERS] = registered.get(day, [])
                    self._write(read, users, outcome, force=force)
                left.popleft()
            for period in closing.get(None, []):
                self._write(None, {period: len(self._users_of(period.days))}, outcome, force=force)
        except PyMongoError as error:
            outcome.problems.append(describe(error))
        except (StoreError, LockedError) as error:
            outcome.problems.append(str(error))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        outcome.failed += left

    def _is_away(self, error: Exception) -> bool:
        """MongoDB is gone, not merely too slow for one day. Raises PyMongoError if it is."""
        if not isinstance(error, ConnectionFailure):
            return False
        if error.timeout:
            with pymongo.timeout(_PING_SECONDS):
                self._librechat.now()
        return not error.timeout

    def _failed(self, day: date, error: Exception, outcome: RunResult) -> None:
        if not isinstance(error, PyMongoError):  # a defect
            log.error("Reading %s failed: %s%s", day, describe(error), places(error.__traceback__))
        outcome.failed.append(day)
        outcome.problems.append(f"{day}: {describe(error)}")
        self._on_day(0)

    def _read(self, day: date) -> Day:
        with pymongo.timeout(_DAY_SECONDS):
            return read_day(self._librechat, day, *bounds(Range(day, day), self._timezone), self._telling, self._labels)

    def _write(self, day: Day | None, users: dict[Period, int], outcome: RunResult, *, force: bool) -> None:
        outcome.rows += self._store.write(day, users, force=force)
        if day is not None:
            outcome.days += 1
            outcome.skipped += day.skipped
            log.debug("%s: %d messages of %d users", day.date, day.messages, len(day.users))
            self._on_day(day.messages)

    def _users(self, day: Day, plan: Plan, closing: Iterable[Period]) -> dict[Period, int]:
        """Users of the periods that close with this day."""
        for period in plan.containing(day.date):
            days, users = self._seen.setdefault(period, (set(), set()))
            days.add(day.date)
            users |= day.users
        counts = {}
        for period in closing:
            days, users = self._seen.pop(period)
            whole = len(days) == len(list(period.days))
            counts[period] = len(users if whole else self._users_of(period.days))
        return counts

    def _users_of(self, days: Range) -> set[str]:
        with pymongo.timeout(_PERIOD_SECONDS):
            return read_users(self._librechat, created_between(*bounds(days, self._timezone)))


def _ahead(pool: Executor, read: Callable[[date], Day], days: Iterable[date]) -> Iterator[tuple[date, "Future[Day]"]]:
    """Each day with its reading, of which a few are begun before they are asked for."""
    coming = iter(days)
    begun = deque((day, pool.submit(read, day)) for day in itertools.islice(coming, _READ_AHEAD))
    while begun:
        yield begun.popleft()
        begun.extend((day, pool.submit(read, day)) for day in itertools.islice(coming, 1))

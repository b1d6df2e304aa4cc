"""Days, weeks and months of a time zone, and which of them an export writes."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from librechat_exporter.historic.tables import MONTHLY_USERS, WEEKLY_USERS, Table

EARLIEST = date(2000, 1, 1)
DEFAULT_DAYS = 30
ONE_DAY = timedelta(days=1)


class DatesError(Exception):
    """The dates asked for make no sense. Its text says what would be right."""


@dataclass(frozen=True)
class Range:
    """Days from first to last, both included. Raises DatesError."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise DatesError(f"the start {self.first} is after the end {self.last}")

    def __str__(self) -> str:
        return f"{self.first} to {self.last}" if self.first != self.last else str(self.first)

    def __iter__(self) -> Iterator[date]:
        return (self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1))


@dataclass(frozen=True)
class Period:
    """A week from Monday or a calendar month: its days, and the table that holds its users."""

    table: Table
    days: Range


@dataclass(frozen=True)
class Plan:
    """The plan of an export: days in their order, and the periods that are due."""

    range: Range
    days: list[date]
    periods: list[Period]

    def containing(self, day: date) -> list[Period]:
        """The periods that the day is of."""
        return [period for period in self.periods if period.days.first <= day <= period.days.last]

    def closing(self) -> dict[date | None, list[Period]]:
        """The periods by the last of their days that is written; under None, those of which no day is."""
        found: dict[date | None, list[Period]] = defaultdict(list)
        days = set(self.days)
        for period in self.periods:
            found[max(days.intersection(period.days), default=None)].append(period)
        return found


def today(timezone: ZoneInfo) -> date:
    return datetime.now(timezone).date()


def start_of(day: date, timezone: ZoneInfo) -> datetime:
    """When the day begins there, in UTC. Where clocks skip midnight, it is the moment of the skip."""
    return datetime(day.year, day.month, day.day, tzinfo=timezone).astimezone(UTC)


def bounds(days: Range, timezone: ZoneInfo) -> tuple[datetime, datetime]:
    """When these days begin and end."""
    return start_of(days.first, timezone), start_of(days.last + ONE_DAY, timezone)


def default_range(existing: Collection[date], yesterday: date, redo: int) -> Range:
    """The last 30 days, or more: from the last exported day on, or from where a larger `redo` begins."""
    start = yesterday - max(DEFAULT_DAYS - 1, redo) * ONE_DAY
    return Range(max(EARLIEST, min(start, max(existing, default=start))), yesterday)


def periods(days: Range) -> Iterator[Period]:
    """The weeks and months of which the range has a day, in their order."""
    monday = days.first - timedelta(days=days.first.weekday())
    while monday <= days.last:
        yield Period(WEEKLY_USERS, Range(monday, monday + timedelta(days=6)))
        monday += timedelta(days=7)
    month = days.first.replace(day=1)
    while month <= days.last:
        following = (month + timedelta(days=31)).replace(day=1)
        yield Period(MONTHLY_USERS, Range(month, following - ONE_DAY))
        month = following


def plan(
    days: Range,
    yesterday: date,
    existing: Collection[date],
    existing_periods: Mapping[Table, Collection[date]],
    *,
    force: bool,
    redo: int,
) -> Plan:
    """Days that exist are left alone, except the last `redo` of them, or with force. Of these only as many days before
    yesterday: what was exported longer ago may have lost chats since.

    A period is due once it is complete, if it is missing or one of its days is written, or with force.
    """
    last = {day for day in sorted(existing)[-redo:] if day >= yesterday - redo * ONE_DAY} if redo else set()
    written = [day for day in days if force or day not in existing or day in last]
    due = [
        period
        for period in periods(days)
        if period.days.last <= yesterday
        and (
            force
            or period.days.first not in existing_periods.get(period.table, ())
            or not set(written).isdisjoint(period.days)
        )
    ]
    return Plan(days, written, due)


def named(days: Collection[date]) -> str:
    """The days in words, neighbours as a range: `2024-01-05, 2024-01-07 to 2024-01-09`."""
    found: list[Range] = []
    for day in sorted(days):
        if found and found[-1].last + ONE_DAY == day:
            found[-1] = Range(found[-1].first, day)
        else:
            found.append(Range(day, day))
    return ", ".join(map(str, found))

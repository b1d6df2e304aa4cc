"""Which days, weeks and months an export writes."""

from datetime import UTC, date, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librechat_exporter.historic.dates import DatesError, Plan, Range, bounds, default_range, named, periods, plan
from librechat_exporter.historic.tables import MONTHLY_USERS, WEEKLY_USERS, Table

YESTERDAY = date(2026, 4, 5)  # a Sunday


def days(*numbers: int) -> list[date]:
    """Days of April 2026; those of March are 0 and below."""
    return [date(2026, 3, 31) + timedelta(days=number) for number in numbers]


def made(first: int, last: int, existing: list[date], *, force: bool = False, redo: int = 2, **there: date) -> Plan:
    tables = {"weekly_users": WEEKLY_USERS, "monthly_users": MONTHLY_USERS}
    known: dict[Table, list[date]] = {tables[name]: [day] for name, day in there.items()}
    return plan(Range(*days(first, last)), YESTERDAY, existing, known, force=force, redo=redo)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2025, 10, 26), 25),
        ("Asia/Beirut", date(2026, 3, 29), 23),  # the clocks skip midnight
        ("America/Havana", date(2025, 11, 2), 25),  # and here they repeat it
        ("Pacific/Apia", date(2011, 12, 30), 0),  # a day that never was
        ("UTC", date(2026, 3, 29), 24),
    ],
)
def test_days_are_as_long_as_the_clocks_make_them(zone: str, day: date, hours: int) -> None:
    start, end = bounds(Range(day, day), ZoneInfo(zone))
    assert end - start == timedelta(hours=hours)


@given(
    st.dates(date(2001, 1, 1), date(2050, 1, 1)), st.sampled_from(["Europe/Berlin", "Asia/Beirut", "America/Havana"])
)
def test_a_day_begins_with_its_first_moment(day: date, zone: str) -> None:
    start, end = bounds(Range(day, day), ZoneInfo(zone))
    moment = timedelta(milliseconds=1)
    assert start.astimezone(ZoneInfo(zone)).date() == day
    assert (start - moment).astimezone(ZoneInfo(zone)).date() < day
    assert (end - moment).astimezone(ZoneInfo(zone)).date() == day
    assert start.tzinfo == UTC


def test_the_default_range() -> None:
    month = Range(date(2026, 3, 7), YESTERDAY)
    assert default_range([], YESTERDAY, 2) == month
    assert default_range(days(1, 2, 3), YESTERDAY, 2) == month, "those before the first one may have failed"
    assert default_range(days(7), YESTERDAY, 2) == month
    assert default_range(days(-200, -199), YESTERDAY, 2) == Range(*days(-199, 5)), "cron stood still for months"
    assert default_range(days(1, 2, 3), YESTERDAY, 60) == Range(*days(-55, 5))
    assert default_range([date(1970, 1, 1)], YESTERDAY, 2) == Range(date(2000, 1, 1), YESTERDAY)


def test_days_that_are_there_are_left_alone() -> None:
    assert made(1, 5, []).days == days(1, 2, 3, 4, 5)
    assert made(1, 5, days(1, 2, 3, 4)).days == days(3, 4, 5), "but the last two"
    assert made(1, 5, days(1, 2, 3)).days == days(3, 4, 5), "a night was missed: what is older stays as it was then"
    assert made(-20, 5, days(-20, -19)).days == days(*range(-18, 6)), "after a long pause both stay"
    assert made(-40, 5, days(*range(-40, 5)), redo=40).days == days(*range(-35, 6))
    assert made(1, 5, days(1, 2, 4), redo=0).days == days(3, 5), "a gap is filled"
    assert made(1, 3, days(1, 2, 3, 4, 5)).days == []
    assert made(1, 3, days(1, 2, 3, 4, 5), force=True).days == days(1, 2, 3)


def test_periods_are_written_when_they_are_over() -> None:
    march = Range(date(2026, 3, 1), date(2026, 3, 31))
    weeks = [Range(date(2026, 3, 23), date(2026, 3, 29)), Range(date(2026, 3, 30), YESTERDAY)]
    found = made(-3, 5, [])
    assert [(period.table, period.days) for period in found.periods] == [
        (WEEKLY_USERS, weeks[0]),
        (WEEKLY_USERS, weeks[1]),
        (MONTHLY_USERS, march),
    ]
    assert [period.days for period in found.closing()[date(2026, 3, 29)]] == [weeks[0]]
    assert [period.days for period in found.closing()[YESTERDAY]] == [weeks[1]]
    assert [period.days for period in found.closing()[date(2026, 3, 31)]] == [march]
    today = plan(Range(*days(6, 6)), YESTERDAY, [], {}, force=False, redo=2)
    assert today.periods == [], "today's week and month go on"


def test_periods_that_are_there_are_written_when_one_of_their_days_is() -> None:
    there = days(*range(-40, 6))
    monday, march = date(2026, 3, 23), date(2026, 3, 1)
    assert made(-5, -3, there, weekly_users=monday, monthly_users=march).periods == []
    [week] = made(-5, -3, there, monthly_users=march).periods
    assert made(-5, -3, there, monthly_users=march).closing() == {None: [week]}
    without = [day for day in there if day != days(-4)[0]]
    assert len(made(-5, -3, without, weekly_users=monday, monthly_users=march).periods) == 2
    assert len(made(-5, -3, there, force=True, weekly_users=monday, monthly_users=march).periods) == 2


@given(st.dates(date(2001, 1, 1), date(2050, 1, 1)), st.integers(0, 200))
def test_periods_cover_the_range_without_gaps(first: date, length: int) -> None:
    asked = Range(first, first + timedelta(days=length))
    for table in (WEEKLY_USERS, MONTHLY_USERS):
        covered = [day for period in periods(asked) if period.table is table for day in period.days]
        assert set(asked) <= set(covered)
        assert covered == list(Range(covered[0], covered[-1]))


def test_ranges_that_make_no_sense() -> None:
    with pytest.raises(DatesError, match="the start 2026-04-02 is after the end 2026-04-01"):
        Range(*days(2, 1))


def test_days_in_words() -> None:
    assert named(days(5, 1, 7, 6)) == "2026-04-01, 2026-04-05 to 2026-04-07"
    assert named([]) == ""

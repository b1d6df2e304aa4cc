"""The arguments of the historic export's command line, and the days that they name."""

import argparse
from datetime import date, datetime
from datetime import time as clock
from pathlib import Path
from zoneinfo import ZoneInfo

from librechat_exporter import __version__
from librechat_exporter.historic.dates import EARLIEST, ONE_DAY, DatesError, Range

_EPILOG = """examples:
  %(prog)s                          what is new, up to yesterday: for cron
  %(prog)s 2024-01-01 2024-12-31    a year, both days included; days that are there are left alone
  %(prog)s --days 7 --force         the last week, written anew
  %(prog)s --dry-run -v             what it would do

a line for cron, every night at half past two:
  30 2 * * *  cd /opt/librechat-exporter && uv run historic-analysis/export_metrics.py

It exits with 0 if all went well; 1 if anything failed: it says what, and which days are missing; 2 if settings or
arguments are wrong, and it did nothing; 128 and the signal's number if a signal ended it.
Settings come from environment variables or from .env; .env.example lists them.
"""


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(
        prog="export_metrics.py",
        description="Copies daily, weekly and monthly aggregates of LibreChat's MongoDB into MariaDB, for Grafana.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    without = "without any of these: what is missing of the last 30 days, and what is new, up to yesterday"
    dates = one.add_argument_group("days", without)
    dates.add_argument("start", nargs="?", type=_day, metavar="START", help="first day, such as 2024-01-01")
    dates.add_argument("end", nargs="?", type=_day, metavar="END", help="last day, included, such as 2024-12-31")
    dates.add_argument("--start-date", type=_day, metavar="DAY", help="the same as START")
    dates.add_argument("--end-date", type=_day, metavar="DAY", help="the same as END")
    dates.add_argument("--days", type=_number, metavar="N", help="the last N days, up to yesterday, such as --days 7")
    one.add_argument(
        "--force",
        action="store_true",
        help="write days that are there already anew, without the chats that were deleted since",
    )
    one.add_argument(
        "--redo",
        type=_number,
        default=2,
        metavar="N",
        help="write anew what is there of the last N days, for late changes (default: 2; 0 for none)",
    )
    one.add_argument(
        "--cleanup",
        action="store_true",
        help="after a success, delete all rows outside the days asked for, such as --days 365 --cleanup",
    )
    one.add_argument("--yes", action="store_true", help="do not ask before --cleanup deletes")
    one.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    one.add_argument(
        "--textfile",
        type=Path,
        metavar="PATH",
        help="tell node_exporter of this run, such as --textfile /var/lib/node_exporter/librechat_export.prom",
    )
    one.add_argument(
        "--daily",
        type=_time,
        metavar="HH:MM",
        help="do not end, but run again every day at this time, such as --daily 02:30: for containers without cron",
    )
    one.add_argument("-v", "--verbose", action="store_true", help="say what happens, a line for each day")
    one.add_argument("--version", action="version", version=f"librechat-exporter {__version__}")
    return one


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day; write it as 2024-01-31") from None


def _time(text: str) -> clock:
    try:
        return datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time of day; write it as 02:30") from None


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) > 36_600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return int(text)


def asked_range(arguments: argparse.Namespace, today: date, timezone: ZoneInfo) -> Range | None:
    """The days that the arguments name, None if they name none. Raises DatesError.

    Today is not among them: it would count as exported when it is over. timezone: of the days.
    """
    named_by = [
        (arguments.start, arguments.end, "START", "END"),
        (arguments.start_date, arguments.end_date, "--start-date", "--end-date"),
    ]
    given = [forms for forms in named_by if forms[0] is not None or forms[1] is not None]
    if len(given) + (arguments.days is not None) > 1:
        raise DatesError("name the days in one way: START END, --start-date and --end-date, or --days")
    yesterday = today - ONE_DAY
    if arguments.days is not None:
        if arguments.days == 0:
            raise DatesError("--days must be at least 1")
        return _of_librechat(Range(yesterday - (arguments.days - 1) * ONE_DAY, yesterday))
    for start, end, start_name, end_name in given:
        if start is None or end is None:
            missing = start_name if start is None else end_name
            raise DatesError(f"{start_name} and {end_name} belong together; {missing} is missing")
        if end > yesterday:
            raise DatesError(f"the end {end} is not over in {timezone.key}; the last day that is over is {yesterday}")
        return _of_librechat(Range(start, end))
    return None


def _of_librechat(days: Range) -> Range:
    if days.first < EARLIEST:
        raise DatesError(f"the start {days.first} is before {EARLIEST}, and LibreChat is younger")
    return days

"""The command line of the historic export."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from zoneinfo import ZoneInfo

import pymongo
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from librechat_exporter import __version__, ending, log_lines
from librechat_exporter.faults import describe
from librechat_exporter.historic import textfile
from librechat_exporter.historic.dates import ONE_DAY, DatesError, Plan, Range, default_range, named, plan, today
from librechat_exporter.historic.day import Telling, user_key
from librechat_exporter.historic.export import Export, RunResult
from librechat_exporter.historic.lock import LockedError
from librechat_exporter.historic.store import Store, StoreError
from librechat_exporter.librechat.database import connect
from librechat_exporter.settings import ExportSettings, SettingsError

log = logging.getLogger(__name__)

_CHECK_SECONDS = 30
COLLECTIONS = ("messages", "conversations", "users", "agents", "transactions")

_EPILOG = """examples:
  %(prog)s                          what is new, up to yesterday: for cron
  %(prog)s 2024-01-01 2024-12-31    a year, both days included; days that are there are left alone
  %(prog)s --days 7 --force         the last week, written anew
  %(prog)s --dry-run -v             what it would do

a line for cron, every night at half past two:
  30 2 * * *  cd /opt/librechat-exporter && uv run historic-analysis/export_metrics.py

It exits with 0 if all went well, 1 if days could not be exported, which it names, 2 if it was asked for nonsense.
Settings come from environment variables or from .env; .env.example lists them.
"""


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(
        prog="export_metrics.py",
        description="Copies daily, weekly and monthly aggregates of LibreChat's MongoDB into MariaDB, for Grafana.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    dates = one.add_argument_group("days", "without any of these: from the last exported day to yesterday")
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
        help="write the last N exported days anew, for late changes (default: 2; 0 for none)",
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


def asked_range(arguments: argparse.Namespace, timezone: ZoneInfo) -> Range | None:
    """The days that the arguments name, None if they name none. Raises DatesError."""
    named_by = [
        (arguments.start, arguments.end, "START", "END"),
        (arguments.start_date, arguments.end_date, "--start-date", "--end-date"),
    ]
    given = [forms for forms in named_by if forms[0] is not None or forms[1] is not None]
    if len(given) + (arguments.days is not None) > 1:
        raise DatesError("name the days in one way: START END, --start-date and --end-date, or --days")
    now = today(timezone)
    if arguments.days is not None:
        if arguments.days == 0:
            raise DatesError("--days must be at least 1")
        return Range(now - arguments.days * ONE_DAY, now - ONE_DAY)
    for start, end, start_name, end_name in given:
        if start is None or end is None:
            missing = start_name if start is None else end_name
            raise DatesError(f"{start_name} and {end_name} belong together; {missing} is missing")
        if end > now:
            raise DatesError(f"the end {end} is in the future; today is {now} in {timezone.key}")
        return Range(start, end)
    return None


def main(arguments: list[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    try:
        with ending.raising():
            return _main(parser().parse_args(arguments))
    except ending.EndedError as ended:
        print(f"Ended by {ended}; each day is as it was before or complete.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(ended.exit_code)  # queries that still run must not keep the process


def _main(options: argparse.Namespace) -> int:
    try:
        settings = ExportSettings.load()
        days = asked_range(options, settings.metrics_timezone)
        if options.daily is not None and days is not None:
            raise DatesError("--daily exports what is new each time; name no days")
        if options.cleanup and days is None:
            raise DatesError("--cleanup deletes what is outside the days asked for: name them, such as --days 365")
        if options.cleanup and not (options.yes or options.dry_run or sys.stdin.isatty()):
            raise DatesError("--cleanup asks before it deletes, and there is no terminal to ask on: add --yes")
    except SettingsError as error:
        print(f"The settings are wrong:\n{error}", file=sys.stderr)
        if not options.dry_run:
            _tell_node_exporter(options.textfile, RunResult(), 0.0, success=False)
        return 2
    except DatesError as error:
        print(f"{parser().prog}: error: {error}", file=sys.stderr)
        return 2
    console = Console(stderr=True)
    _set_up_log(settings, console, verbose=options.verbose)
    for warning in settings.warnings:
        log.warning("%s", warning)
    code = _Run(options, settings, days, console).run()
    while options.daily is not None:
        time.sleep(seconds_until(options.daily, datetime.now(settings.metrics_timezone)))
        code = _Run(options, settings, days, console).run()
    return code


def _tell_node_exporter(path: Path | None, outcome: RunResult, seconds: float, *, success: bool) -> bool:
    """Writes --textfile; False, with a line, if it cannot be written."""
    if path is None:
        return True
    try:
        textfile.write(path, success=success, seconds=seconds, days=outcome.days, rows=outcome.rows)
    except OSError as error:
        print(f"--textfile {path} cannot be written: {error.strerror}", file=sys.stderr)
        return False
    return True


def seconds_until(moment: clock, now: datetime) -> float:
    """From now, an aware time, to this time of the same or the next day there."""
    then = now.replace(hour=moment.hour, minute=moment.minute, second=0, microsecond=0)
    if then <= now:
        then += ONE_DAY
    return (then.astimezone(UTC) - now.astimezone(UTC)).total_seconds()


def _set_up_log(settings: ExportSettings, console: Console, *, verbose: bool) -> None:
    if console.is_terminal:
        handler: logging.Handler = RichHandler(console=console, show_path=False)
        logging.basicConfig(level=settings.logging_level.upper(), format="%(message)s", handlers=[handler])
    else:
        log_lines.set_up(settings.logging_level, settings.logging_format)
    if verbose:
        logging.getLogger("librechat_exporter").setLevel(logging.DEBUG)
    for foreign in ("pymongo", "mysql"):  # at debug level they write commands, and so rows
        logging.getLogger(foreign).setLevel(logging.WARNING)


class _Run:
    def __init__(
        self, options: argparse.Namespace, settings: ExportSettings, days: Range | None, console: Console
    ) -> None:
        self._options = options
        self._settings = settings
        self._days = days
        self._console = console
        self._started = time.monotonic()
        self._librechat = connect(settings)
        self._store = Store(settings)

    def run(self) -> int:
        try:
            if self._options.dry_run:
                return self._dry_run()
            outcome = self._export()
        except LockedError as error:
            print(f"{error}; this one did nothing", file=sys.stderr)
            return 1
        except ending.EndedError:
            if not self._options.dry_run:
                _tell_node_exporter(self._options.textfile, RunResult(), self._seconds, success=False)
            raise
        finally:
            self._store.close()
            self._librechat.close()
        seconds = self._seconds
        self._say(outcome, seconds)
        success = not outcome.problems
        told = _tell_node_exporter(self._options.textfile, outcome, seconds, success=success)
        return 0 if success and told else 1

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _dry_run(self) -> int:
        try:
            self._check()
            made = self._plan()
            rows = self._store.outside(made.range) if self._options.cleanup else 0
        except PyMongoError as error:
            print(f"MongoDB cannot be read: {describe(error)}", file=sys.stderr)
            return 1
        except (StoreError, _UnusableError) as error:
            print(error, file=sys.stderr)
            return 1
        print(f"Days asked for: {made.range}")
        print(f"Would be written: {named(made.days) or 'none'}")
        for period in made.periods:
            print(f"Would be written: {period.table.name} of {period.days}")
        if rows:
            print(f"Would be deleted: {rows} rows")
        return 0

    def _export(self) -> RunResult:
        """All of it. A fault before the first day makes an outcome without days. Raises LockedError."""
        try:
            self._check()
            self._store.lock()
            changes = self._store.upgrade()
            if changes:
                log.info("The schema was brought up to date: %s", ", ".join(changes))
            made = self._plan()
            if self._options.cleanup and not self._may_clean_up(made.range):
                return RunResult(problems=["--cleanup was not agreed to; nothing was done"])
        except PyMongoError as error:
            return RunResult(problems=[f"MongoDB cannot be read: {describe(error)}"])
        except (StoreError, _UnusableError) as error:
            return RunResult(problems=[str(error)])
        outcome = RunResult()
        try:
            self._store.begin_run(made.range)
            with self._progress(made) as on_day:
                settings = self._settings
                telling = Telling(user_key(settings), prices=settings.price_list)
                timezone, groups = settings.metrics_timezone, settings.group_metrics
                export = Export(self._librechat, self._store, timezone, telling, on_day, groups=groups)
                export.run(made, outcome, force=self._options.force)
            if self._options.cleanup and not outcome.problems:
                log.info("%d rows outside %s were deleted", self._store.cleanup(made.range), made.range)
        except (StoreError, LockedError) as error:
            outcome.problems.append(str(error))
        except BaseException as error:
            self._store.do_not_wait()
            self._note(outcome, "stopped" if isinstance(error, ending.EndedError) else "failed")
            raise
        self._note(outcome, "failed" if outcome.problems else "success")
        return outcome

    def _note(self, outcome: RunResult, word: str) -> None:
        try:
            self._store.end_run(outcome.days, outcome.rows, self._seconds, word)
        except (StoreError, LockedError) as error:
            outcome.problems.append(f"export_runs: {error}")

    def _check(self) -> None:
        """Raises PyMongoError or _UnusableError if LibreChat's database cannot be read."""
        with pymongo.timeout(_CHECK_SECONDS):
            self._librechat.probe(COLLECTIONS)
            nothing = self._librechat.without_messages()
            if nothing is not None:
                raise _UnusableError(nothing)
            for index in self._librechat.missing_indexes():
                log.warning("%s has no index, which LibreChat makes itself: every day reads all of it", index)

    def _plan(self) -> Plan:
        yesterday = today(self._settings.metrics_timezone) - timedelta(days=1)
        existing = self._store.days()
        return plan(
            self._days or default_range(existing, yesterday),
            yesterday,
            existing,
            self._store.periods(),
            force=self._options.force,
            redo=self._options.redo,
        )

    def _may_clean_up(self, days: Range) -> bool:
        rows = self._store.outside(days)
        if self._options.yes or not rows:
            return True
        try:
            answer = input(f"{rows} rows outside {days} will be deleted from MariaDB. Go on? [y/N] ")
        except EOFError:
            return False
        return answer.strip().lower() in ("y", "yes")

    @contextmanager
    def _progress(self, made: Plan) -> Iterator[Callable[[int], None]]:
        """On a terminal, a bar of days with messages per second and the time left."""
        messages = 0
        started = time.monotonic()
        with Progress(
            TextColumn("days"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]:,.0f} messages/s"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        ) as bar:
            task = bar.add_task("days", total=len(made.days), speed=0.0)

            def advance(more: int) -> None:
                nonlocal messages
                messages += more
                bar.update(task, advance=1, speed=messages / max(1e-9, time.monotonic() - started))

            yield advance

    def _say(self, outcome: RunResult, seconds: float) -> None:
        for problem in outcome.problems:
            print(problem, file=sys.stderr)
        if outcome.failed:
            count = f"{len(outcome.failed)} day{'s' if len(outcome.failed) > 1 else ''}"
            print(f"{count} failed: {named(outcome.failed)}", file=sys.stderr)
        skipped = ""
        if outcome.skipped:
            skipped = f"; {outcome.skipped:,} amounts were no sensible numbers and count as 0"
        print(f"{outcome.days} days, {outcome.rows:,} rows written in {seconds:.1f} s{skipped}")


class _UnusableError(Exception):
    """The database cannot be LibreChat's."""

"""The command line of the historic export."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from datetime import time as clock
from pathlib import Path

import pymongo
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from librechat_exporter import ending, log_lines
from librechat_exporter.faults import describe
from librechat_exporter.historic import textfile
from librechat_exporter.historic.arguments import asked_range, parser
from librechat_exporter.historic.dates import ONE_DAY, DatesError, Plan, Range, default_range, named, plan, today
from librechat_exporter.historic.day import Telling, user_key
from librechat_exporter.historic.export import Export, RunResult
from librechat_exporter.historic.lock import LockedError
from librechat_exporter.historic.store import Store, StoreError
from librechat_exporter.librechat.database import connect
from librechat_exporter.settings import ExportSettings, SettingsError

log = logging.getLogger(__name__)

_CHECK_SECONDS = 30
# Without one of these no day can be told. Agents that may not be read are unknown.
COLLECTIONS = ("messages", "conversations", "users", "transactions")


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
        days = asked_range(options, today(settings.metrics_timezone), settings.metrics_timezone)
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
        except BaseException:
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
            refused = self._librechat.refused(COLLECTIONS)
            if refused:
                raise _UnusableError(
                    f"MongoDB's user may not read {', '.join(refused)}; grant it the role `read` on the database "
                    f"{self._librechat.name!r}"
                )
            nothing = self._librechat.without_messages()
            if nothing is not None:
                raise _UnusableError(nothing)
            for index in self._librechat.missing_indexes():
                log.warning("%s has no index, which LibreChat makes itself: every day reads all of it", index)

    def _plan(self) -> Plan:
        yesterday = today(self._settings.metrics_timezone) - ONE_DAY
        existing = self._store.days()
        return plan(
            self._days or default_range(existing, yesterday, self._options.redo),
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

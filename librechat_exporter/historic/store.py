"""MariaDB or MySQL: the schema and its upgrade, days replaced in one transaction each, retries, and the lock."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import mysql.connector
from mysql.connector.abstracts import MySQLConnectionAbstract, MySQLCursorAbstract

from librechat_exporter.historic import tables
from librechat_exporter.historic.dates import Period, Range
from librechat_exporter.historic.day import Day, Row
from librechat_exporter.historic.faults import describe, tries
from librechat_exporter.historic.lock import Lock
from librechat_exporter.historic.tables import (
    ALL,
    COUNT,
    DAILY,
    EXPORT_RUNS,
    FORMAT,
    NAME,
    NAME_CHARACTERS,
    PERIODIC,
    Table,
)
from librechat_exporter.settings import ExportSettings

log = logging.getLogger(__name__)

T = TypeVar("T")
Users = Mapping[Period, int]

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 300
_LAST_SECONDS = 2, 3
_LONGEST_WAIT = 300.0
_RETAKE_SECONDS = 10  # until the server has noticed that the connection which held the lock is gone
_FREED_SECONDS = 1  # the same of a run that has just ended
_ROWS_AT_ONCE = 5000


class StoreError(Exception):
    """MariaDB refuses, or does not answer after all tries. Its text quotes no row."""


class Store:
    """The database that the settings name. Every method raises StoreError, and LockedError if the lock is lost."""

    def __init__(self, settings: ExportSettings) -> None:
        self._settings = settings
        self._connection: MySQLConnectionAbstract | None = None
        self._retries = settings.mysql_max_retries
        self._patience = _CONNECT_SECONDS, _ANSWER_SECONDS
        self._lock_wait: int | None = None
        self._lock = Lock(settings.mysql_database)

    def close(self) -> None:
        self._disconnect()
        self._lock.release()

    def do_not_wait(self) -> None:
        """From now on nothing is tried again, nor waited for long: the process is to end."""
        self._retries = 0
        self._patience = _LAST_SECONDS

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None

    def lock(self) -> None:
        """From now on, no other export writes into this database. Raises LockedError if one does already."""
        self._lock_wait = _FREED_SECONDS
        self._transaction(lambda _: None)
        self._lock_wait = _RETAKE_SECONDS

    def upgrade(self) -> list[str]:
        """Brings the schema up to date; what was done, a line each."""
        return self._transaction(lambda cursor: [_execute(cursor, *change) for change in _changes(cursor)])

    def days(self) -> set[date]:
        """The days that are there."""
        return self._dates((tables.DAILY_USERS, tables.DAILY_MESSAGES))

    def periods(self) -> dict[Table, set[date]]:
        """First days of the weeks and months that are there."""
        return {table: self._dates((table,)) for table in PERIODIC}

    def write(self, day: Day | None, users: Users, *, force: bool) -> int:
        """Replaces the day, and adds these periods' users, in one transaction. Returns the number of rows.

        Without force a period that is there already does not shrink: chats may have been deleted since.
        """

        def work(cursor: MySQLCursorAbstract) -> int:
            rows = _replace(cursor, day) if day is not None else 0
            for period, count in users.items():
                newer = "VALUES(unique_users)" if force else "GREATEST(unique_users, VALUES(unique_users))"
                cursor.execute(
                    f"INSERT INTO `{period.table.name}` (`{period.table.day}`, unique_users) VALUES (%s, %s)"  # noqa: S608
                    f" ON DUPLICATE KEY UPDATE unique_users = {newer}",
                    (period.days.first, count),
                )
            return rows + len(users)

        return self._transaction(work)

    def outside(self, days: Range) -> int:
        """The number of rows that cleanup would delete."""
        return self._transaction(lambda cursor: sum(_count(cursor, *clause) for clause in _outside(cursor, days)))

    def cleanup(self, days: Range) -> int:
        """Deletes all days outside the range, and weeks and months of which no day is in it. Returns the rows."""

        def work(cursor: MySQLCursorAbstract) -> int:
            deleted = 0
            for table, condition, parameters in _outside(cursor, days):
                cursor.execute(f"DELETE FROM `{table.name}` WHERE {condition}", parameters)  # noqa: S608
                deleted += cursor.rowcount
            return deleted

        return self._transaction(work)

    def begin_run(self, days: Range) -> None:
        """Notes in export_runs that a run began. With the lock held, those that run are none any more."""

        def work(cursor: MySQLCursorAbstract) -> None:
            cursor.execute("UPDATE export_runs SET outcome = 'failed' WHERE outcome = 'running'")
            now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
            names = ", ".join(EXPORT_RUNS.values)
            cursor.execute(
                f"INSERT INTO export_runs ({names}) VALUES (%s, %s, %s, 0, 0, 0, 'running')",  # noqa: S608
                (now, days.first, days.last),
            )

        self._transaction(work)

    def end_run(self, days: int, rows: int, seconds: float, outcome: str) -> None:
        """Notes how the run that was begun last ended."""
        statement = (
            "UPDATE export_runs SET days_written=%s, rows_written=%s, seconds=%s, outcome=%s WHERE outcome = 'running'"
        )
        self._transaction(lambda cursor: cursor.execute(statement, (days, rows, round(seconds, 3), outcome)))

    def _dates(self, of: Iterable[Table]) -> set[date]:
        def work(cursor: MySQLCursorAbstract) -> set[date]:
            found: set[date] = set()
            for table in _existing(cursor, of):
                cursor.execute(f"SELECT DISTINCT `{table.day}` FROM `{table.name}`")  # noqa: S608
                found.update(row[0] for row in _rows(cursor))
            return found

        return self._transaction(work)

    def _transaction(self, work: Callable[[MySQLCursorAbstract], T]) -> T:
        """All of the work or nothing of it; again, after a wait, if the connection is lost or there is a deadlock."""
        tried = 0
        while True:
            try:
                connection = self._connected()
                cursor = connection.cursor()
                result = work(cursor)
                connection.commit()
                cursor.close()
            except mysql.connector.Error as error:
                self._disconnect()
                most = tries(error, self._retries)
                if tried >= most:
                    self._retries = 0  # who gave up once does not wait again
                    raise StoreError(describe(error)) from None
                wait = min(self._settings.mysql_retry_delay * 2**tried, _LONGEST_WAIT)
                tried += 1
                log.warning("%s; try %d of %d in %g s", describe(error), tried, most, wait)
                time.sleep(wait)
            except BaseException:
                self._disconnect()
                raise
            else:
                return result

    def _connected(self) -> MySQLConnectionAbstract:
        if self._connection is None:
            self._connection = _connect(self._settings, *self._patience)
            if self._lock_wait is not None:
                self._lock.take(self._connection, lambda: _connect(self._settings, *self._patience), self._lock_wait)
        return self._connection


def _connect(settings: ExportSettings, connect: float, answer: float) -> MySQLConnectionAbstract:
    """connect, answer: the seconds that each may take."""
    options: dict[str, Any] = {}
    if settings.mysql_ssl_ca is not None:
        options = {"ssl_ca": str(settings.mysql_ssl_ca), "ssl_verify_cert": True, "ssl_verify_identity": True}
    connection = mysql.connector.connect(
        host=settings.mysql_host,
        port=settings.mysql_port,
        user=settings.mysql_user,
        password=settings.mysql_password.get_secret_value(),
        database=settings.mysql_database,
        charset="utf8mb4",
        collation="utf8mb4_bin",  # the driver's own default is unknown to MariaDB
        connection_timeout=connect,
        read_timeout=answer,
        write_timeout=answer,
        sql_mode="TRADITIONAL",
        use_pure=True,  # the C part has other errors, and does not load on every machine
        **options,
    )
    if not isinstance(connection, MySQLConnectionAbstract):
        raise TypeError("the driver gave a connection of a pool")
    return connection


def _rows(cursor: MySQLCursorAbstract) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in cursor.fetchall()]


def _execute(cursor: MySQLCursorAbstract, said: str, statement: str) -> str:
    cursor.execute(statement)
    return said


def _replace(cursor: MySQLCursorAbstract, day: Day) -> int:
    written = 0
    for table in (one for one in DAILY if one in day.rows):
        cursor.execute(f"DELETE FROM `{table.name}` WHERE `{table.day}` = %s", (day.date,))  # noqa: S608
        rows = day.rows[table]
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            _insert(cursor, table, day.date, rows[start : start + _ROWS_AT_ONCE])
        written += len(rows)
    return written


def _insert(cursor: MySQLCursorAbstract, table: Table, day: date, rows: list[Row]) -> None:
    """All in one statement. Only names are parameters: the driver takes its time to quote each.

    Raises mysql.connector.Error, with the table's name as a note.
    """
    names = len(table.key) - 1
    lines = [f"('{day}'{', %s' * names}, {', '.join(map(_literal, row[names:]))})" for row in rows]
    columns = ", ".join(f"`{name}`" for name in table.columns)
    statement = f"INSERT INTO `{table.name}` ({columns}) VALUES {', '.join(lines)}"  # noqa: S608
    try:
        cursor.execute(statement, [name for row in rows for name in row[:names]])
    except mysql.connector.Error as error:
        error.add_note(f"table {table.name}")
        raise


def _literal(amount: object) -> str:
    return "NULL" if amount is None else str(amount)


def _existing(cursor: MySQLCursorAbstract, of: Iterable[Table]) -> list[Table]:
    cursor.execute("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()")
    names = {row[0] for row in _rows(cursor)}
    return [table for table in of if table.name in names]


def _outside(cursor: MySQLCursorAbstract, days: Range) -> list[tuple[Table, str, tuple[date, date]]]:
    """Conditions on the tables' rows that are outside the range."""
    found = []
    for table in _existing(cursor, (*DAILY, *PERIODIC)):
        last = f"`{table.day}`"
        if table is tables.WEEKLY_USERS:
            last = f"{last} + INTERVAL 6 DAY"
        elif table is tables.MONTHLY_USERS:
            last = f"LAST_DAY({last})"
        found.append((table, f"{last} < %s OR `{table.day}` > %s", (days.first, days.last)))
    return found


def _count(cursor: MySQLCursorAbstract, table: Table, condition: str, parameters: tuple[date, date]) -> int:
    cursor.execute(f"SELECT COUNT(*) FROM `{table.name}` WHERE {condition}", parameters)  # noqa: S608
    [(count,)] = _rows(cursor)
    return int(count)


def _fits(kind: str, data_type: str, collation: str | None, length: int | None) -> bool:
    """A column of this form holds what one of this kind does."""
    if kind == COUNT:
        return data_type == "bigint"
    return kind != NAME or (collation == "utf8mb4_bin" and (length or 0) >= NAME_CHARACTERS)


def _changes(cursor: MySQLCursorAbstract) -> list[tuple[str, str]]:
    """The lacks of the schema: each in words, with the statement that mends it."""
    cursor.execute(
        "SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLLATION_NAME, CHARACTER_MAXIMUM_LENGTH"
        " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE()"
    )
    columns = {(table, column): form for table, column, *form in _rows(cursor)}
    cursor.execute(
        "SELECT TABLE_NAME, ENGINE, UPPER(ROW_FORMAT) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()"
    )
    formats = {name: (engine, row_format) for name, engine, row_format in _rows(cursor)}
    changes = []
    for table in ALL:
        if table.name not in formats:
            changes.append((f"created the table {table.name}", table.create))
            continue
        engine, row_format = formats[table.name]
        if engine != "InnoDB":  # others have no transactions
            changes.append((f"moved {table.name} to InnoDB", f"ALTER TABLE `{table.name}` {FORMAT}"))
        elif row_format in ("COMPACT", "REDUNDANT"):  # the key of names would be too long for these
            changes.append((f"changed the rows of {table.name} to DYNAMIC", f"ALTER TABLE `{table.name}` {FORMAT}"))
        for name, kind in table.columns.items():
            form = columns.get((table.name, name))
            if form is None:
                done, how = f"added the column {table.name}.{name}", "ADD COLUMN"
            elif not _fits(kind, *form):
                done, how = f"changed {table.name}.{name} to {kind}", "MODIFY COLUMN"
            else:
                continue
            changes.append((done, f"ALTER TABLE `{table.name}` {how} `{name}` {kind}"))
    return changes

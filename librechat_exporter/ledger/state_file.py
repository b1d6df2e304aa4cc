"""The ledger's memory on disk: one SQLite file in WAL mode, synced on every commit, owned by one process."""

import contextlib
import json
import logging
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.cell_table import SCHEMA as CELLS_SCHEMA
from librechat_exporter.ledger.cell_table import CellTable
from librechat_exporter.ledger.state_copy import copied, log_of
from librechat_exporter.ledger.state_lock import can_lock, in_use, is_in_use
from librechat_exporter.ledger.upgrade import UpgradeError, upgrade
from librechat_exporter.metrics.metric import Series

log = logging.getLogger(__name__)

# When each user was last seen, as a Unix time, by kind of what the user was seen with.
Seen = dict[str, dict[str, float]]

_SCHEMA = f"""{CELLS_SCHEMA}
CREATE TABLE IF NOT EXISTS binding (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, open_from TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metric (
    source TEXT, name TEXT, shape TEXT, changes INTEGER, missing TEXT, PRIMARY KEY (source, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (
    source TEXT, metric TEXT, labels TEXT, value, PRIMARY KEY (source, metric, labels)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_seen (kind TEXT, user TEXT, time REAL, PRIMARY KEY (kind, user)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS active_days (user INTEGER PRIMARY KEY, last INTEGER, days INTEGER);
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label (name TEXT, value TEXT, PRIMARY KEY (name, value)) WITHOUT ROWID;
"""
# Instead of a file's identity: what it holds could not be read.
_UNREAD = ("unread",)
_TABLES = ("binding", "source", "metric", "total", "open", "shape", "last_seen", "active_days", "kept", "label")
IN_MEMORY = ":memory:"
# SQLite's integers end here; a total that is larger is kept as a text.
_MOST = 2**63 - 1


class StateError(Exception):
    """The state file cannot be used. Its text names it and says what would be right."""


class StateInUseError(StateError):
    """Another process holds the state file."""


Range = tuple[bytes, bytes]  # documents from one `_id` on and before another


@dataclass
class Counted:
    """A metric, or a kind of users seen, is counted but for the ranges of history that it is missing."""

    shape: str
    changes: int
    missing: list[Range] = field(default_factory=list)


@dataclass
class SourceState:
    """A source as it is on disk, or what of it has changed.

    Documents from open_from on are open. totals: by series, those of windows among them. counted: by name.
    """

    open_from: bytes
    counted: dict[str, Counted] = field(default_factory=dict)
    totals: dict[Series, float] = field(default_factory=dict)
    cells: dict[bytes, Cell] = field(default_factory=dict)


class State:
    """The state file, or memory alone if the path cannot be written.

    Raises StateError if the file is another program's, StateInUseError when another process has it. sqlite3.Error from
    a writing method means that nothing of it was written. Not safe for concurrent use: the ledger serializes.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.on_disk = True
        # The file that the memory began with, if the state is in memory.
        self._held: tuple[object, ...] | None = None
        if path == IN_MEMORY:
            log.warning("STATE_PATH is %s: the state ends with the process", IN_MEMORY)
            self.on_disk, self._held = False, _UNREAD
            self._use(self._open(IN_MEMORY))
            return
        try:
            self._use(self._open_file())
        except (sqlite3.OperationalError, OSError) as error:
            if is_in_use(error) and can_lock(self._path.parent):
                raise StateInUseError(in_use(self._path)) from None
            why = "files on this share cannot be locked" if is_in_use(error) else str(error)
            log.warning(
                "STATE_PATH %s cannot be written (%s): the state is in memory only, and at the next restart counters "
                "fall if chats were deleted",
                self._path,
                why,
            )
            self.on_disk = False
            self._use(self._open_in_memory())

    def _use(self, connection: sqlite3.Connection) -> None:
        self._connection, self._cells = connection, CellTable(connection)

    def _open_in_memory(self) -> sqlite3.Connection:
        """With what the file holds, where it can be read: a disk that has become read-only makes no counter fall."""
        memory = self._open(IN_MEMORY)
        self._held = self._file()
        if self._held is None:
            return memory
        try:
            with copied(self._path) as copy, contextlib.closing(self._open(str(copy))) as readable:
                readable.backup(memory)
        except StateError:
            raise
        except (OSError, sqlite3.Error) as error:
            log.error("STATE_PATH %s cannot be read either (%s): starting afresh", self._path, error)  # noqa: TRY400
            self._held = _UNREAD
        return memory

    def _file(self) -> tuple[object, ...] | None:
        """The identity that tells the file from another one; None if there is none."""
        try:
            status = self._path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            return _UNREAD
        return status.st_dev, status.st_ino, status.st_size

    def return_to_disk(self) -> bool:
        """Writes all that is in memory to the file, once that can be written; whether it could be.

        Not over a file that holds what the memory does not, such as one on a volume that came late.
        """
        if self._held is _UNREAD or self._file() != self._held:
            return False
        made = self._held
        try:
            if made is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.touch(mode=0o600, exist_ok=False)  # fails if a volume with a file has come just now
                made = self._file()
            connection = self._open_file()
            try:
                self._connection.backup(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            log.debug("STATE_PATH %s still cannot be written: %s", self._path, error)
            found = self._file()
            if found is None or (made is not None and found[:2] == made[:2]):
                self._held = found  # the attempt may have made it longer
            return False
        self._connection.close()
        self._use(connection)
        self.on_disk = True
        return True

    def _open_file(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        try:
            connection = self._open(str(self._path))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
            self._path.rename(aside)
            if log_of(self._path).exists():  # it has the latest commits
                log_of(self._path).rename(log_of(aside))
            log.error("STATE_PATH %s is damaged (%s): kept as %s, starting afresh", self._path, error, aside)  # noqa: TRY400
            connection = self._open(str(self._path))
        for file in (self._path, log_of(self._path)):
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)  # it holds user ids
        return connection

    @staticmethod
    def _open(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=1, check_same_thread=False)
        try:
            # Exclusive: from its first write on, one process owns the file until it ends, however it ends.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            check_owner(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA cache_size = -500")  # KiB: the system holds the file as well
            # Synced to the disk on each commit: not even a power cut makes a counter fall.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN EXCLUSIVE")
            check_owner(connection, path)
            try:
                upgrade(connection)
            except UpgradeError as error:
                raise StateError(f"STATE_PATH {path} {error}") from None
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute("COMMIT")
            [(verdict,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except BaseException:
            connection.close()
            raise
        return connection

    def binding(self) -> dict[str, str | None]:
        return dict(self._connection.execute("SELECT key, value FROM binding"))

    def labels(self) -> list[tuple[str, str]]:
        return list(self._connection.execute("SELECT name, value FROM label"))

    def seen(self) -> Seen:
        """When each user was last seen, by kind."""
        seen: Seen = {}
        for kind, user, time in self._connection.execute("SELECT kind, user, time FROM last_seen"):
            seen.setdefault(kind, {})[user] = time
        return seen

    def active_days(self) -> dict[int, tuple[int, int]]:
        """By user the last day, and as bits those before it."""
        rows = self._connection.execute("SELECT user, last, days FROM active_days")
        return {user: (last, days) for user, last, days in rows}

    def source(self, name: str) -> SourceState | None:
        row = self._connection.execute("SELECT open_from FROM source WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        source = SourceState(bytes.fromhex(row[0]))
        for metric, shape, changes, missing in self._connection.execute(
            "SELECT name, shape, changes, missing FROM metric WHERE source = ?", (name,)
        ):
            ranges = [(bytes.fromhex(start), bytes.fromhex(end)) for start, end in json.loads(missing)]
            source.counted[metric] = Counted(shape, changes, ranges)
        for metric, labels, value in self._connection.execute(
            "SELECT metric, labels, value FROM total WHERE source = ?", (name,)
        ):
            source.totals[metric, tuple(json.loads(labels))] = int(value) if isinstance(value, str) else value
        source.cells = self._cells.read(name)
        return source

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """In which several things are saved, all or none."""
        try:
            with self._connection:
                yield
        except BaseException:
            self._cells.forget_shapes()
            raise

    def save(
        self, name: str, changed: SourceState, expired: Iterable[Series], kept: Collection[bytes] | None = None
    ) -> None:
        """Writes what of a source has changed, within a transaction.

        expired: series that are no longer needed. kept: after a seal, all documents before open_from whose cells are.
        """
        connection = self._connection
        connection.execute("INSERT OR REPLACE INTO source VALUES (?, ?)", (name, changed.open_from.hex()))
        connection.executemany(
            "INSERT OR REPLACE INTO metric VALUES (?, ?, ?, ?, ?)",
            (
                (name, metric, one.shape, one.changes, json.dumps([[a.hex(), b.hex()] for a, b in one.missing]))
                for metric, one in changed.counted.items()
            ),
        )
        connection.executemany(
            "INSERT OR REPLACE INTO total VALUES (?, ?, ?, ?)",
            (
                (name, metric, json.dumps(values), amount if abs(amount) <= _MOST else str(int(amount)))
                for (metric, values), amount in changed.totals.items()
            ),
        )
        self._cells.write(name, changed.cells)
        if kept is not None:
            self._cells.drop(name, changed.open_from, kept)
        connection.executemany(
            "DELETE FROM total WHERE source = ? AND metric = ? AND labels = ?",
            ((name, metric, json.dumps(values)) for metric, values in expired),
        )

    def save_seen(self, seen: Seen, days: Mapping[int, tuple[int, int]], labels: Iterable[tuple[str, str]]) -> None:
        """Writes users that were seen, their days and label values that were admitted, within a transaction."""
        insert = self._connection.executemany
        insert("INSERT OR REPLACE INTO active_days VALUES (?, ?, ?)", ((user, *one) for user, one in days.items()))
        insert("INSERT OR REPLACE INTO last_seen VALUES (?, ?, ?)", _rows(seen))
        insert("INSERT OR IGNORE INTO label VALUES (?, ?)", labels)

    def forget_metric(self, source: str, name: str) -> None:
        """Forgets the totals of a metric, or the users seen of a kind."""
        with self._connection as connection:
            connection.execute("DELETE FROM total WHERE source = ? AND metric = ?", (source, name))
            _forget_kind(connection, name)

    def forget_kind(self, kind: str) -> None:
        with self._connection as connection:
            _forget_kind(connection, kind)

    def bind(self, binding: dict[str, str | None]) -> None:
        with self._connection as connection:
            connection.executemany("INSERT OR REPLACE INTO binding VALUES (?, ?)", binding.items())

    def keep(self, name: str, value: str) -> None:
        """Keeps a text across restarts, for kept()."""
        with self._connection as connection:
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))

    def kept(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM kept WHERE name = ?", (name,)).fetchone()
        return row[0] if row is not None else None

    def replace_seen(self, seen: Seen, name: str, value: str, anew: Iterable[str] = ()) -> None:
        """With a text for kept(), which says what they are now. anew: kinds that miss all history from now on."""
        with self._connection as connection:
            connection.executemany("DELETE FROM metric WHERE name = ?", [(kind,) for kind in anew])
            connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, value))
            connection.execute("DELETE FROM last_seen")
            connection.executemany("INSERT INTO last_seen VALUES (?, ?, ?)", _rows(seen))

    def forget_seen(self, before: float) -> None:
        with self._connection as connection:
            connection.execute("DELETE FROM last_seen WHERE time < ?", (before,))

    def forget_active_days(self, before: int | None = None) -> None:
        """Forgets users whose last day is before this one, or all."""
        with self._connection as connection:
            connection.execute("DELETE FROM active_days WHERE ? IS NULL OR last < ?", (before, before))

    def forget_label(self, label: str, value: str) -> None:
        with self._connection as connection:
            connection.execute("DELETE FROM label WHERE name = ? AND value = ?", (label, value))

    def forget_labels(self, label: str) -> None:
        """Forgets all values of the label that were admitted."""
        with self._connection as connection:
            connection.execute("DELETE FROM label WHERE name = ?", (label,))

    def forget_all(self) -> None:
        with self._connection as connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608
        self._cells.forget_shapes()

    def tidy(self) -> None:
        """Deletes what no cell needs any more."""
        with self.transaction():
            self._cells.tidy()

    def close(self) -> None:
        self._connection.close()


def check_owner(connection: sqlite3.Connection, path: str) -> None:
    """Raises StateError if the file is another program's."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"binding", "source", "open"} <= tables:
        raise StateError(f"STATE_PATH {path} is a database of another program; name a file of the exporter's own")


def _forget_kind(connection: sqlite3.Connection, kind: str) -> None:
    """With those of its things."""
    connection.execute(
        "DELETE FROM last_seen WHERE kind = ? OR substr(kind, 1, ?) = ?", (kind, len(kind) + 1, f"{kind}:")
    )


def _rows(seen: Seen) -> list[tuple[str, str, float]]:
    return [(kind, user, time) for kind, users in seen.items() for user, time in users.items()]

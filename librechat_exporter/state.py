"""The ledger's memory on disk: one SQLite file in WAL mode, synced on every commit, owned by one process."""

import contextlib
import json
import logging
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bson import ObjectId

from librechat_exporter.metric import Series
from librechat_exporter.rows import Model, model_of

log = logging.getLogger(__name__)

# When each user was last seen, as a Unix time, by kind of what the user was seen with.
Seen = dict[str, dict[str, float]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS binding (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS source (name TEXT PRIMARY KEY, version INTEGER, folded TEXT, open_from TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS series (
    source TEXT, metric TEXT, labels TEXT, value NUMERIC, PRIMARY KEY (source, metric, labels)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open (source TEXT, id TEXT, cell TEXT, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen (user TEXT PRIMARY KEY, time REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS last_seen (kind TEXT, user TEXT, time REAL, PRIMARY KEY (kind, user)) WITHOUT ROWID;
INSERT INTO last_seen SELECT 'messages', user, time FROM seen WHERE true
    ON CONFLICT (kind, user) DO UPDATE SET time = max(time, excluded.time);
DROP TABLE seen;
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS label (name TEXT, value TEXT, PRIMARY KEY (name, value)) WITHOUT ROWID;
"""
# In a container whose filesystem is read-only, this can be written.
_MEMORY = "/dev/shm"  # noqa: S108
# Instead of a file's identity: what it holds could not be read.
_UNREAD = ("unread",)
# The file and its log, and what is written when the one is taken into the other.
_COPY_TIMES = 2
_TABLES = ("binding", "source", "series", "open", "last_seen", "kept", "label")


class StateInUseError(Exception):
    """Another process holds the state file."""


@dataclass
class Cell:
    """What one open document has been counted as: per series the most it ever was, and what must not be decided twice.

    model: the document's model and the label that it was first counted under; agent: the same of its agent's name.
    prompt: the tokens of the question that it answers.
    """

    samples: dict[Series, float] = field(default_factory=dict)
    model: tuple[Model, str] | None = None
    prompt: float | None = None
    agent: str | None = None

    def dump(self) -> str:
        samples = [[metric, labels, amount] for (metric, labels), amount in self.samples.items()]
        return json.dumps([samples, self.model, self.prompt, self.agent])

    @classmethod
    def load(cls, text: str) -> "Cell":
        samples, model, prompt, agent = (*json.loads(text), None)[:4]  # older ones have no agent
        return cls(
            {(metric, tuple(labels)): amount for metric, labels, amount in samples},
            (model_of(model[0]), model[1]) if model else None,
            prompt,
            agent,
        )


@dataclass
class SourceState:
    """How far a source is folded.

    Documents below `folded` are in the totals for good. From `open_from` on they have cells. What lies between is
    history, still to be folded.
    """

    version: int
    folded: ObjectId
    open_from: ObjectId
    totals: dict[Series, float] = field(default_factory=dict)
    cells: dict[ObjectId, Cell] = field(default_factory=dict)


class State:
    """The state file, or memory alone if the path cannot be written.

    Raises StateInUseError when another process has the file. sqlite3.Error from a writing method means that nothing of
    it was written. Not safe for concurrent use: the ledger serializes.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.on_disk = True
        # The file that the memory began with, if the state is in memory.
        self._held: tuple[object, ...] | None = None
        try:
            self._connection = self._open_file()
        except (sqlite3.OperationalError, OSError) as error:
            if "locked" in str(error):
                raise StateInUseError(
                    f"STATE_PATH {self._path} is in use by another exporter; give each its own state file"
                ) from None
            log.warning(
                "STATE_PATH %s cannot be written (%s): the state is in memory only, and at the next restart counters "
                "fall if chats were deleted",
                self._path,
                error,
            )
            self.on_disk = False
            self._connection = self._open_in_memory()

    def _open_in_memory(self) -> sqlite3.Connection:
        """With what the file holds, where it can be read: a disk that has become read-only makes no counter fall."""
        memory = self._open(":memory:")
        self._held = self._file()
        if self._held is None:
            return memory
        try:
            # SQLite reads the latest commits, which are in the write-ahead log, only where it can write.
            files = [file for file in (self._path, _log_of(self._path)) if file.exists()]
            size = sum(file.stat().st_size for file in files)
            with tempfile.TemporaryDirectory(dir=_scratch(_COPY_TIMES * size)) as folder:
                copy = Path(folder) / self._path.name
                for file in files:
                    shutil.copyfile(file, copy.with_name(file.name))
                with contextlib.closing(self._open(str(copy))) as readable:
                    readable.backup(memory)
        except (OSError, sqlite3.Error) as error:
            log.error("STATE_PATH %s cannot be read either (%s): starting afresh", self._path, error)  # noqa: TRY400
            self._held = _UNREAD
        return memory

    def _file(self) -> tuple[object, ...] | None:
        """What tells the file from another one; None if there is none."""
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
        try:
            connection = self._open_file()
            try:
                self._connection.backup(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            log.debug("STATE_PATH %s still cannot be written: %s", self._path, error)
            self._held = self._file()  # the attempt may have made it, or made it longer
            return False
        self._connection.close()
        self._connection = connection
        self.on_disk = True
        return True

    def _open_file(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch(mode=0o600)
        try:
            return self._open(str(self._path))
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
            self._path.rename(aside)
            _log_of(self._path).unlink(missing_ok=True)
            log.error("STATE_PATH %s is damaged (%s): kept as %s, starting afresh", self._path, error, aside)  # noqa: TRY400
            return self._open(str(self._path))

    @staticmethod
    def _open(path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=1, check_same_thread=False)
        try:
            # Exclusive: from its first write on, one process owns the file until it ends, however it ends.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            # Synced to the disk on each commit: not even a power cut makes a counter fall.
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(f"BEGIN EXCLUSIVE; {_SCHEMA} COMMIT;")
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

    def source(self, name: str) -> SourceState | None:
        rows = self._connection.execute("SELECT version, folded, open_from FROM source WHERE name = ?", (name,))
        row = rows.fetchone()
        if row is None:
            return None
        source = SourceState(row[0], ObjectId(row[1]), ObjectId(row[2]))
        for metric, labels, value in self._connection.execute(
            "SELECT metric, labels, value FROM series WHERE source = ?", (name,)
        ):
            source.totals[metric, tuple(json.loads(labels))] = value
        for document, cell in self._connection.execute("SELECT id, cell FROM open WHERE source = ?", (name,)):
            source.cells[ObjectId(document)] = Cell.load(cell)
        return source

    def save(
        self,
        name: str,
        changed: SourceState,
        dropped: Iterable[ObjectId],
        expired: Iterable[Series],
        seen: Seen,
        labels: Iterable[tuple[str, str]],
    ) -> None:
        """Writes the changed series and cells of a source, and what came with them, in one transaction.

        dropped: documents whose cells are no longer needed; expired: series that are not.
        """
        with self._connection as connection:
            connection.execute(
                "INSERT OR REPLACE INTO source VALUES (?, ?, ?, ?)",
                (name, changed.version, str(changed.folded), str(changed.open_from)),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?)",
                [(name, metric, json.dumps(values), amount) for (metric, values), amount in changed.totals.items()],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO open VALUES (?, ?, ?)",
                [(name, str(document), cell.dump()) for document, cell in changed.cells.items()],
            )
            connection.executemany(
                "DELETE FROM open WHERE source = ? AND id = ?", [(name, str(document)) for document in dropped]
            )
            connection.executemany(
                "DELETE FROM series WHERE source = ? AND metric = ? AND labels = ?",
                [(name, metric, json.dumps(values)) for metric, values in expired],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO last_seen VALUES (?, ?, ?)",
                _rows(seen),
            )
            connection.executemany("INSERT OR IGNORE INTO label VALUES (?, ?)", labels)

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

    def replace_seen(self, seen: Seen) -> None:
        with self._connection as connection:
            connection.execute("DELETE FROM last_seen")
            connection.executemany("INSERT INTO last_seen VALUES (?, ?, ?)", _rows(seen))

    def forget_seen(self, before: float) -> None:
        with self._connection as connection:
            connection.execute("DELETE FROM last_seen WHERE time < ?", (before,))

    def forget_source(self, name: str, kinds: Iterable[str]) -> None:
        """Forgets a source, and the users seen that are of its kinds."""
        with self._connection as connection:
            connection.executemany("DELETE FROM last_seen WHERE kind = ?", [(kind,) for kind in kinds])
            connection.execute("DELETE FROM source WHERE name = ?", (name,))
            connection.execute("DELETE FROM series WHERE source = ?", (name,))
            connection.execute("DELETE FROM open WHERE source = ?", (name,))

    def forget_all(self) -> None:
        with self._connection as connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608

    def close(self) -> None:
        self._connection.close()


def _log_of(path: Path) -> Path:
    """SQLite's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


def _scratch(needed: int) -> str:
    """A folder with so many bytes of room. Raises OSError if there is none."""
    for folder in (_MEMORY, tempfile.gettempdir()):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > needed:
            return folder
    raise OSError(f"there is no room for a copy, which takes {needed / 1e6:.0f} MB")


def _rows(seen: Seen) -> list[tuple[str, str, float]]:
    return [(kind, user, time) for kind, users in seen.items() for user, time in users.items()]

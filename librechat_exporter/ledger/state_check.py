"""Tries whether a state file could be used; nothing in it is lost."""

import contextlib
import sqlite3
import tempfile
from pathlib import Path

from librechat_exporter.ledger.state_file import IN_MEMORY, StateInUseError, check_owner
from librechat_exporter.ledger.state_lock import can_lock, in_use, is_in_use


def examine(path: str) -> str | None:
    """Why a start with this path would not keep the counters, None if it would. Loses nothing. Raises StateError."""
    if path == IN_MEMORY:
        return f"{IN_MEMORY} ends with the process: at the next start counters fall if chats were deleted"
    file = Path(path).absolute()
    try:
        if not _is_there(file):
            tempfile.TemporaryFile(dir=next(one for one in file.parents if one.exists())).close()
            return None
        if not file.is_file():
            return f"{path} is not a file: the state would be in memory"
    except OSError as error:
        return f"{path} cannot be made ({error.strerror}): the state would be in memory"
    try:
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", timeout=1, uri=True)) as connection:
            check_owner(connection, path)
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("ROLLBACK")
            [(verdict,)] = connection.execute("PRAGMA quick_check(1)").fetchall()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
    except sqlite3.OperationalError as error:
        if is_in_use(error) and can_lock(file.parent):
            raise StateInUseError(in_use(path)) from None
        return f"{path} cannot be written ({error}): the state would be in memory"
    except sqlite3.DatabaseError as error:
        return f"{path} is damaged ({error}): a start would keep it aside, and count what is stored afresh"
    return None


def _is_there(file: Path) -> bool:
    """A link that leads nowhere is there, and cannot be made. Raises OSError."""
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True

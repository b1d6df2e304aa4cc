"""The state file's lock: another process may hold it, or files there cannot be locked at all."""

import fcntl
import sqlite3
import tempfile
from pathlib import Path


def in_use(path: str | Path) -> str:
    return f"STATE_PATH {path} is in use by another exporter; give each its own state file"


def is_in_use(error: Exception) -> bool:
    """The file is locked, or cannot be: SQLite does not tell these apart."""
    codes = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR_LOCK)
    code = getattr(error, "sqlite_errorcode", None)
    return code in codes or (code is not None and code & 0xFF in codes[:2])


def can_lock(folder: Path) -> bool:
    """Files in this folder can be locked at all: on some network shares they cannot."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True

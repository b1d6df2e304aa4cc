"""A copy of a state file that can be read, but not written."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# In a container whose filesystem is read-only, this can be written.
_MEMORY = "/dev/shm"  # noqa: S108
# The file and its log, and what is written when the one is taken into the other.
_COPY_TIMES = 2


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log."""
    return path.with_name(f"{path.name}-wal")


@contextlib.contextmanager
def copied(path: Path) -> Iterator[Path]:
    """As long as the context lasts. Raises OSError.

    SQLite reads the latest commits, which are in the write-ahead log, only where it can write.
    """
    if not path.is_file():
        raise OSError("it is no file")  # and may have no end, or no name
    files = [file for file in (path, log_of(path)) if file.exists()]
    size = sum(file.stat().st_size for file in files)
    with tempfile.TemporaryDirectory(dir=_scratch(_COPY_TIMES * size)) as folder:
        copy = Path(folder) / path.name
        for file in files:
            shutil.copyfile(file, copy.with_name(file.name))
        yield copy


def _scratch(needed: int) -> str:
    """A folder with so many bytes of room. Raises OSError if there is none."""
    for folder in (_MEMORY, tempfile.gettempdir()):
        if os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > needed:
            return folder
    raise OSError(f"there is no room for a copy, which takes {needed / 1e6:.0f} MB")

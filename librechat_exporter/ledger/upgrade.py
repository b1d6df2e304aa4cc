"""State files of earlier releases: what they hold goes on in the form of today, and no counter falls.

The file's form is its `user_version`. In form 2 each cell held its series. In form 0 a source had one cursor and one
version for all its metrics, and totals stood in the table `series`: what the metrics were is told by their totals, and
one that has none is folded anew, which comes to the same.
"""

import json
import math
import sqlite3
from collections.abc import Callable
from fractions import Fraction

from librechat_exporter.librechat.fields import USD_PARTS

_FORM = 3
# What was counted as fractions once: until which version of the source, and how many parts a value of 1 has now.
_FRACTIONS: dict[str, tuple[str, int, Callable[[list[str]], int]]] = {
    "librechat_llm_cost_usd_total": ("transactions", 1, lambda _labels: USD_PARTS),
    "librechat_credits_granted_total": ("transactions", 1, lambda _labels: 10_000),
    "librechat_answer_seconds": ("messages", 2, lambda labels: 1000 if labels[-1] == "sum" else 1),
}
_AGENT = "\0"  # once, before an agent's id


class UpgradeError(Exception):
    """The file cannot be made one of today. Its text follows the file's name, and says what would be right."""


def upgrade(connection: sqlite3.Connection) -> None:
    """Within the transaction that has begun. Raises UpgradeError."""
    try:
        _upgrade(connection)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR:  # the disk's fault
            raise
        raise UpgradeError(f"is of no form that is known ({error}): put back a copy of it") from None


def _upgrade(connection: sqlite3.Connection) -> None:
    [(form,)] = connection.execute("PRAGMA user_version").fetchall()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if form > _FORM:
        raise UpgradeError(
            f"was written by a newer release, in form {form}, and this one knows form {_FORM}: run that release, or "
            "put back the copy that was made before the upgrade"
        )
    if form == 0 and "series" in tables:
        if "seen" in tables:
            _convert_seen(connection)
        _convert_sources(connection)
    # Not by the form: an earlier release that opens a file of today calls it one of its own.
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(open)")}
    if columns and "shape" not in columns:
        _share_series(connection)
    connection.execute(f"PRAGMA user_version = {_FORM}")


def _convert_seen(connection: sqlite3.Connection) -> None:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS last_seen (kind TEXT, user TEXT, time REAL, PRIMARY KEY (kind, user)) WITHOUT ROWID"
    )
    connection.execute(
        "INSERT INTO last_seen SELECT 'messages', user, time FROM seen WHERE true "
        "ON CONFLICT (kind, user) DO UPDATE SET time = max(time, excluded.time)"
    )
    connection.execute("DROP TABLE seen")


def _convert_sources(connection: sqlite3.Connection) -> None:
    sources = connection.execute("SELECT name, version, folded, open_from FROM source").fetchall()
    connection.execute("DROP TABLE source")
    connection.execute("CREATE TABLE source (name TEXT PRIMARY KEY, open_from TEXT) WITHOUT ROWID")
    connection.execute(
        "CREATE TABLE metric (source TEXT, name TEXT, shape TEXT, changes INTEGER, missing TEXT, "
        "PRIMARY KEY (source, name)) WITHOUT ROWID"
    )
    connection.execute(
        "CREATE TABLE total (source TEXT, metric TEXT, labels TEXT, value, PRIMARY KEY (source, metric, labels)) "
        "WITHOUT ROWID"
    )
    for name, version, folded, open_from in sources:
        if name.startswith("window_"):  # these are counted with the others now, and folded anew
            connection.execute("DELETE FROM open WHERE source = ?", (name,))
            continue
        missing = json.dumps([[folded, open_from]] if folded < open_from else [])
        connection.execute("INSERT INTO source VALUES (?, ?)", (name, open_from))
        connection.execute(
            "INSERT INTO metric SELECT DISTINCT source, metric, '', 0, ? FROM series WHERE source = ?", (missing, name)
        )
        totals = connection.execute("SELECT metric, labels, value FROM series WHERE source = ?", (name,)).fetchall()
        connection.executemany(
            "INSERT INTO total VALUES (?, ?, ?, ?)",
            [
                (name, metric, labels, _whole(name, version, metric, json.loads(labels), value))
                for metric, labels, value in totals
            ],
        )
        _convert_cells(connection, name, version)
    connection.execute("DROP TABLE series")


def _whole(source: str, version: int, metric: str, labels: list[str], value: float) -> int:
    """In the parts of today, rounded up where it was a fraction: it must not be less."""
    if metric in _FRACTIONS:
        of_source, until, parts = _FRACTIONS[metric]
        if source == of_source and version <= until:
            return math.ceil(Fraction(value) * parts(labels))
    return math.ceil(value)


def _convert_cells(connection: sqlite3.Connection, source: str, version: int) -> None:
    cells = connection.execute("SELECT id, cell FROM open WHERE source = ?", (source,)).fetchall()
    for document, cell in cells:
        samples, model, prompt, agent = (*json.loads(cell), None)[:4]
        series = [[metric, labels] for metric, labels, _ in samples]
        amounts = [_whole(source, version, metric, labels, amount) for metric, labels, amount in samples]
        if model and isinstance(model[0], str) and model[0].startswith(_AGENT):
            model[0] = [model[0].removeprefix(_AGENT)]
        told = [[*model, prompt, agent], []] if model else []
        connection.execute(
            "UPDATE open SET cell = ? WHERE source = ? AND id = ?",
            (json.dumps([series, amounts, told]), source, document),
        )


def _share_series(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE open RENAME TO open_before")
    connection.execute(
        "CREATE TABLE open (source TEXT, id TEXT, shape INTEGER, series TEXT, cell TEXT, "
        "PRIMARY KEY (source, id)) WITHOUT ROWID"
    )
    connection.execute("CREATE TABLE shape (id INTEGER PRIMARY KEY, series TEXT)")
    shapes: dict[str, int | None] = {}
    for source, document, cell in connection.execute("SELECT source, id, cell FROM open_before"):
        written, *others = json.loads(cell)
        series = json.dumps(written)
        if series not in shapes:
            shapes[series] = connection.execute("INSERT INTO shape (series) VALUES (?)", (series,)).lastrowid
        row = (source, document, shapes[series], None, json.dumps(others))
        connection.execute("INSERT INTO open VALUES (?, ?, ?, ?, ?)", row)
    connection.execute("DROP TABLE open_before")

"""Cells on disk: a row for each, and once the series of all that count alike, which are most of what there is."""

import json
import sqlite3
from collections.abc import Collection, Mapping

from librechat_exporter.ledger.cell import MOST_SHARED, Cell
from librechat_exporter.metrics.metric import Series

SCHEMA = """
CREATE TABLE IF NOT EXISTS open (
    source TEXT, id TEXT, shape INTEGER, series TEXT, cell TEXT, PRIMARY KEY (source, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shape (id INTEGER PRIMARY KEY, series TEXT);
"""
_SHAPES_REMEMBERED = 20_000


class CellTable:
    """Writes within a transaction of the state file. Every method raises sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # Rows of `shape`, by the series. Several may have the same ones.
        self._shapes: dict[tuple[Series, ...], int] = {}

    def read(self, source: str) -> dict[bytes, Cell]:
        """The cells of a source, by the document's `_id`."""
        rows = self._connection.execute(
            "SELECT id, series FROM shape WHERE id IN (SELECT shape FROM open WHERE source = ?)", (source,)
        )
        series: dict[int | None, tuple[Series, ...]] = {shape: _parsed(text) for shape, text in rows}
        cells: dict[bytes, Cell] = {}
        rows = self._connection.execute("SELECT id, shape, series, cell FROM open WHERE source = ?", (source,))
        for document, shape, text, cell in rows:
            cells[bytes.fromhex(document)] = Cell.load(series[shape] if shape is not None else _parsed(text), cell)
        return cells

    def write(self, source: str, cells: Mapping[bytes, Cell]) -> None:
        rows = [(source, document.hex(), *self._shape(cell), cell.dump()) for document, cell in cells.items()]
        self._connection.executemany("INSERT OR REPLACE INTO open VALUES (?, ?, ?, ?, ?)", rows)

    def _shape(self, cell: Cell) -> tuple[int | None, str | None]:
        """Where the cell's series are, or these themselves, if it will hardly share them."""
        if len(cell.series) > MOST_SHARED:
            return None, json.dumps(cell.series)
        shape = self._shapes.get(cell.series)
        if shape is not None:
            return shape, None
        insert = "INSERT INTO shape (series) VALUES (?)"
        shape = self._connection.execute(insert, (json.dumps(cell.series),)).lastrowid
        if len(self._shapes) >= _SHAPES_REMEMBERED:
            self._shapes.clear()
        if shape is not None:
            self._shapes[cell.series] = shape
        return shape, None

    def drop(self, source: str, before: bytes, kept: Collection[bytes]) -> None:
        """Deletes the cells before this `_id` but those that are kept. Their series stay until tidy()."""
        rows = self._connection.execute("SELECT id FROM open WHERE source = ? AND id < ?", (source, before.hex()))
        gone = [(source, document) for (document,) in rows if bytes.fromhex(document) not in kept]
        self._connection.executemany("DELETE FROM open WHERE source = ? AND id = ?", gone)

    def tidy(self) -> None:
        """Deletes series that no cell has any more."""
        self._connection.execute("DELETE FROM shape WHERE id NOT IN (SELECT shape FROM open WHERE shape IS NOT NULL)")
        self.forget_shapes()

    def forget_shapes(self) -> None:
        """Rows that were written may not be there, as after a transaction that failed."""
        self._shapes.clear()


def _parsed(text: str) -> tuple[Series, ...]:
    return tuple((name, tuple(labels)) for name, labels in json.loads(text))

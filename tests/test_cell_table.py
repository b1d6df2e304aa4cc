"""Cells on disk: each as it was, and the series of all that count alike once."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librechat_exporter.ledger.cell import MOST_SHARED, Cell, Pins
from librechat_exporter.ledger.state_file import SourceState, State
from librechat_exporter.metrics.metric import Series

LABEL = st.text(st.characters(codec="utf-8"), max_size=8)
SERIES = st.tuples(st.sampled_from(["one", "two"]), st.lists(LABEL, max_size=2).map(tuple))
AMOUNT = st.integers(0, 2**70) | st.floats(0, 1e12)
CELL = st.builds(
    Cell,
    st.dictionaries(SERIES, AMOUNT, max_size=5)
    | st.just({("one", (str(number),)): number for number in range(MOST_SHARED + 1)}),
    st.none() | st.builds(Pins, LABEL | st.tuples(LABEL) | st.none(), LABEL, AMOUNT | st.none(), LABEL | st.none()),
    settled=st.frozensets(LABEL),
)
BEGINNING = bytes(12)


def document(number: int) -> bytes:
    return number.to_bytes(12)


def told(cell: Cell) -> object:
    return cell.samples(), cell.pins, cell.settled


def alike(number: int) -> Cell:
    return Cell({(f"librechat_messages_per_something_{name}_total", ("a", "b")): number for name in range(15)})


def save(state: State, cells: dict[bytes, Cell], expired: Iterable[Series] = ()) -> None:
    with state.transaction():
        state.save("messages", SourceState(BEGINNING, cells=cells), expired)


def read(path: Path) -> dict[bytes, Cell]:
    state = State(str(path))
    found = state.source("messages")
    state.close()
    assert found is not None
    return found.cells


def shapes(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM shape").fetchall()
    return int(count)


@given(cells=st.lists(CELL, max_size=4))
def test_cells_are_read_as_they_were_written(cells: list[Cell]) -> None:
    state = State(":memory:")
    for _ in range(2):
        save(state, {document(number): cell for number, cell in enumerate(cells)})
    found = state.source("messages")
    state.close()
    assert found is not None
    assert [told(cell) for cell in found.cells.values()] == [told(cell) for cell in cells]


def test_documents_that_count_alike_take_little_room(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    state = State(str(path))
    for start in range(0, 10_000, 100):
        save(state, {document(start + number): alike(number) for number in range(100)})
    state.close()
    assert shapes(path) == 1
    assert path.stat().st_size / 10_000 < 200


def test_series_that_were_rolled_back_are_written_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    state = State(str(path))

    def full() -> Iterator[Series]:
        yield "one", ()
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError):
        save(state, {document(1): alike(1)}, full())
    save(state, {document(2): alike(2)})
    state.close()
    assert {one: told(cell) for one, cell in read(path).items()} == {document(2): told(alike(2))}


def test_series_that_no_cell_has_any_more_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    state = State(str(path))
    large = Cell({("one", (str(number),)): number for number in range(MOST_SHARED + 1)})
    cells = {document(1): Cell({("one", ()): 1}), document(2): alike(1), document(3): large}
    save(state, cells)
    with state.transaction():
        state.save("messages", SourceState(document(5)), (), kept={document(1), document(3)})
    state.tidy()
    assert sorted(read_open(state)) == [document(1), document(3)]
    save(state, {document(4): alike(4)})
    state.close()
    assert shapes(path) == 2
    assert told(read(path)[document(4)]) == told(alike(4))


def test_the_names_that_an_upgrade_settles_are_held_once() -> None:
    """A hundred of them take 8 kB, and all that is open has them."""
    one, other = Cell({}), Cell({})
    one.settle(["a", "b"])
    other.settle(["b"])
    other.settle(["a"])
    assert one.settled == {"a", "b"}
    assert one.settled is other.settled
    assert Cell.load((), one.dump()).settled is one.settled


def read_open(state: State) -> dict[bytes, Cell]:
    found = state.source("messages")
    assert found is not None
    return found.cells

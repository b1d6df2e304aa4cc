"""Giving back the place of a label value that will not come again."""

from collections.abc import Iterable
from typing import Any

from librechat_exporter.ledger.cell import Cell
from librechat_exporter.ledger.fold import Fold
from librechat_exporter.ledger.last_seen import kind_by, of_kind
from librechat_exporter.ledger.state_file import SourceState, State
from librechat_exporter.metrics.metric import Series


def forget_label(state: State, folds: Iterable[Fold[Any]], label: str, value: str) -> int:
    """Deletes the series with this label value, from totals and cells, and frees its place; how many they were. Users
    who were seen with it are forgotten.

    Nothing is moved to `other`. If the value comes again, it counts from 0. Raises sqlite3.Error.
    """
    forgotten = 0
    for fold in folds:
        source = state.source(fold.name)
        if source is None:
            continue
        places = {metric.name: metric.labels.index(label) for metric in fold.metrics if label in metric.labels}

        def is_of(series: Series, places: dict[str, int] = places) -> bool:
            name, labels = series
            return name in places and labels[places[name]] == value

        series = [one for one in source.totals if is_of(one)]
        cells = {
            document: Cell(
                {one: amount for one, amount in cell.samples().items() if not is_of(one)}, cell.pins, cell.settled
            )
            for document, cell in source.cells.items()
            if any(map(is_of, cell.series))
        }
        with state.transaction():
            state.save(fold.name, SourceState(source.open_from, cells=cells), series)
        forgotten += len(series)
    state.forget_label(label, value)
    state.forget_kind(of_kind(kind_by(label), value))
    return forgotten

"""Cells hold what open documents have been counted as."""

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple

from librechat_exporter.librechat.models import Model, model_of
from librechat_exporter.metrics.guard import OTHER
from librechat_exporter.metrics.metric import Series

_SHAPES_REMEMBERED = 5_000
_SERIES_REMEMBERED = 20_000
_NUMBERS_REMEMBERED = 20_000
# Documents with more series, as those with many tool calls, hardly share them.
MOST_SHARED = 60
_shapes: dict[tuple[Series, ...], tuple[Series, ...]] = {}
_series: dict[Series, Series] = {}
_numbers: dict[float, float] = {}


class Pins(NamedTuple):
    """These are decided once for a message: its model and the label that it was first counted under, its agent's name,
    and the tokens of the question that it answers."""

    model: Model
    label: str
    prompt: float | None
    agent: str | None


_pins: dict[Pins, Pins] = {}
_names: dict[frozenset[str], frozenset[str]] = {}


class Cell:
    """Per series the most that the document ever counted as; in windows, what it counts as now.

    Thousands are held, so series are in a tuple that documents of the same sort share. settled: names of metrics that
    have changed their meaning since the document was counted, as which it stays. row: a hash of the row that it was
    counted from, None if it must be counted anew even if that has not changed.
    """

    __slots__ = ("amounts", "pins", "row", "series", "settled")

    def __init__(
        self,
        samples: Mapping[Series, float],
        pins: Pins | None = None,
        settled: frozenset[str] = frozenset(),
    ) -> None:
        self.hold(samples)
        self.pins = _shared(pins)
        self.row: int | None = None
        self.settled = _same_names(settled)

    def hold(self, samples: Mapping[Series, float]) -> None:
        self.series = _shape(tuple(samples))
        self.amounts = tuple(map(_number, samples.values()))

    def holds(self, samples: Mapping[Series, float]) -> bool:
        """These are what it has, in the same order."""
        return self.amounts == tuple(samples.values()) and self.series == tuple(samples)

    def samples(self) -> dict[Series, float]:
        return dict(zip(self.series, self.amounts, strict=True))

    def names(self) -> set[str]:
        """Of the metrics that it counts in."""
        return {name for name, _ in self.series}

    def settle(self, names: Collection[str]) -> None:
        """These metrics have changed their meaning."""
        self.settled = _same_names(self.settled.union(names))

    def dump(self) -> str:
        """All but its series."""
        told = [self.pins, sorted(self.settled)] if self.pins is not None or self.settled else []
        return json.dumps([self.amounts, told])

    @classmethod
    def load(cls, series: tuple[Series, ...], text: str) -> "Cell":
        """text: what dump() gave."""
        amounts, told = json.loads(text)
        pins, settled = told or (None, ())
        return cls(
            dict(zip(series, amounts, strict=True)),
            Pins(model_of(pins[0]), *pins[1:]) if pins else None,
            settled=frozenset(settled),
        )


def under_other(
    held: Mapping[Series, float], found: Mapping[Series, float], windowed: Collection[str]
) -> Mapping[Series, float]:
    """What a document is found to count as; what of it was counted under `other` stays there, though there is a place
    for it by now: a limit was raised, or a label was forgotten. windowed: metrics that follow what is found.
    """
    left = [
        series
        for series, amount in held.items()
        if OTHER in series[1] and amount > found.get(series, 0) and series[0] not in windowed
    ]
    if not left:
        return found
    counted: dict[Series, float] = {}
    for series, amount in found.items():
        place = series if series in held else next((one for one in left if _includes(one, series)), series)
        counted[place] = counted.get(place, 0) + amount
    return counted


def _includes(other: Series, series: Series) -> bool:
    """The series would be that one, of the same metric, if some of its labels had no place."""
    pairs = zip(other[1], series[1], strict=False)
    return other[0] == series[0] and all(one in (OTHER, value) for one, value in pairs)


def _one(series: Series) -> Series:
    """The same object for the same series: those of many shapes are the same."""
    if len(_series) >= _SERIES_REMEMBERED:
        _series.clear()
    return _series.setdefault(series, series)


def _number(amount: float) -> float:
    """The same object for the same number, as a message's tokens count in many series."""
    if len(_numbers) >= _NUMBERS_REMEMBERED:
        _numbers.clear()
    return _numbers.setdefault(amount, amount)


def _shared(pins: Pins | None) -> Pins | None:
    if pins is None:
        return None
    if len(_pins) >= _SHAPES_REMEMBERED:
        _pins.clear()
    return _pins.setdefault(pins, pins)


def _same_names(names: frozenset[str]) -> frozenset[str]:
    """The same object for the same names: after an upgrade all that is open has them, and a hundred take 8 kB."""
    if len(_names) >= _SHAPES_REMEMBERED:
        _names.clear()
    return _names.setdefault(names, names)


def _shape(series: tuple[Series, ...]) -> tuple[Series, ...]:
    """The same object for the same series, of which each is the same object as well."""
    if len(series) > MOST_SHARED:
        return series
    known = _shapes.get(series)
    if known is None:
        if len(_shapes) >= _SHAPES_REMEMBERED:
            _shapes.clear()
        known = tuple(map(_one, series))
        _shapes[known] = known
    return known

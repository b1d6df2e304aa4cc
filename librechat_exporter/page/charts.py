"""Bar charts and their geometry, for a template that draws them as SVG."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from librechat_exporter.metrics.guard import OTHER

# More series than this are told apart by no colour.
MOST_SERIES = 7
_WIDTH, _HEIGHT = 420, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 6, 8, 20
_GAP = 0.22
_LABELS = 7
_LETTER = 7  # about as wide as one of a label
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MOST_TICKS = 5
_LEAST = 1e-9  # less is nothing, also of a dollar


class Bar(NamedTuple):
    """A rectangle, in the chart's units."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    told: str


class Tick(NamedTuple):
    place: float
    text: str


@dataclass(frozen=True)
class Chart:
    """Stacked bars: for each series an amount in each bin.

    unit: stands before a value if it is a currency's sign, else after it. is_of_time: the bins are hours or days.
    is_counted: else its history is still being counted, and it has no series.
    """

    title: str
    unit: str
    bins: Sequence[str]
    series: Mapping[str, Sequence[float]]
    is_of_time: bool = True
    is_counted: bool = True

    width, height = _WIDTH, _HEIGHT
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    @property
    def totals(self) -> list[float]:
        """Of each bin."""
        return [sum(amounts) for amounts in zip(*self.series.values(), strict=True)] or [0.0] * len(self.bins)

    @property
    def is_empty(self) -> bool:
        return not any(self.totals)

    @property
    def step(self) -> float:
        """Between two lines of the vertical axis: a round number, and a whole one for what is counted."""
        highest = max(self.totals, default=0.0)
        if highest < _LEAST:
            return 1.0
        power = 10.0 ** math.floor(math.log10(highest / _MOST_TICKS))
        step = next(one * power for one in _STEPS if one * power * _MOST_TICKS >= highest)
        return step if self.unit == "$" else float(math.ceil(step))

    @property
    def most(self) -> float:
        """Where the vertical axis ends."""
        return self.step * max(1, math.ceil(max(self.totals, default=0.0) / self.step))

    def bars(self) -> list[Bar]:
        found = []
        step = (self.right - _LEFT) / max(1, len(self.bins))
        scale = (self.bottom - _TOP) / self.most
        for place, label in enumerate(self.bins):
            amounts = [of_series[place] for of_series in self.series.values()]
            for colour, (name, amount, top) in enumerate(zip(self.series, amounts, accumulate(amounts), strict=True)):
                if amount > 0:
                    told = f"{label}, {name}: {self.told(amount)}" if name else f"{label}: {self.told(amount)}"
                    x, y = _LEFT + (place + _GAP / 2) * step, self.bottom - top * scale
                    found.append(Bar(x, y, step * (1 - _GAP), amount * scale, colour, told))
        return found

    def lines(self) -> list[Tick]:
        """Of the vertical axis."""
        amounts = [self.step * place for place in range(round(self.most / self.step) + 1)]
        return [Tick(self.bottom - (self.bottom - _TOP) * one / self.most, self.told(one)) for one in amounts]

    def names(self) -> list[Tick]:
        """Of the bins, as many as have room."""
        step = (self.right - _LEFT) / max(1, len(self.bins))
        every = max(1, math.ceil(len(self.bins) / _LABELS))
        last = len(self.bins) - 1
        return [
            Tick(min(_LEFT + (place + 0.5) * step, _WIDTH - len(label) * _LETTER / 2), label)
            for place, label in enumerate(self.bins)
            if (last - place) % every == 0
        ]

    def told(self, amount: float) -> str:
        return tell(amount, self.unit)


def tell(amount: float, unit: str = "") -> str:
    """A number for people: at most four digits, and its unit, such as 12.5k, 3.4M tokens or $1.20."""
    if unit == "$":
        size = abs(amount)
        digits = 0 if size >= 1000 or amount == 0 else 2 if size >= 0.01 else 4
        return f"${amount:,.{digits}f}" if size < 1e6 else f"${_short(amount)}"
    return f"{_short(amount)} {unit}".rstrip()


def _short(amount: float) -> str:
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        # Three digits of a little less than the next size are that size.
        if abs(amount) >= size * (10 if letter == "k" else 0.9995):
            return f"{amount / size:.3g}{letter}" if abs(amount) < 999.5 * size else f"{amount / size:,.0f}{letter}"
    return f"{amount:,.0f}" if amount == int(amount) or abs(amount) >= 100 else f"{amount:.3g}"


def largest(series: Mapping[str, Sequence[float]], before: Iterable[str] = ()) -> dict[str, Sequence[float]]:
    """The series with the largest sums, those that are too many together as `other`.

    before: names of another chart's series, which come first here as well, so that they have the same colours.
    """
    places = {name: place for place, name in enumerate(before) if name != OTHER}
    nothing = [0.0] * len(next(iter(series.values()), ()))
    series = dict.fromkeys(places, nothing) | dict(series) if series else {}
    ordered = sorted(series, key=lambda name: (name == OTHER, places.get(name, len(places)), -sum(series[name]), name))
    if len(ordered) <= MOST_SERIES:
        return {name: series[name] for name in ordered}
    kept = {name: series[name] for name in ordered[: MOST_SERIES - 1]}
    rest = [series[name] for name in ordered[MOST_SERIES - 1 :]]
    return kept | {OTHER: [sum(amounts) for amounts in zip(*rest, strict=True)]}

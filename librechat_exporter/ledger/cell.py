"""What one open document has been counted as."""

import json
from collections.abc import Mapping
from typing import NamedTuple

from librechat_exporter.metric import Series
from librechat_exporter.rows import Model, model_of

_SHAPES_REMEMBERED = 20_000
_shapes: dict[tuple[Series, ...], tuple[Series, ...]] = {}


class Pins(NamedTuple):
    """What must not be decided twice of a message: its model and the label that it was first counted under, its agent's
    name, and the tokens of the question that it answers."""

    model: Model
    label: str
    prompt: float | None
    agent: str | None


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
        row: int | None = None,
        settled: frozenset[str] = frozenset(),
    ) -> None:
        series = tuple(samples)
        if len(_shapes) >= _SHAPES_REMEMBERED:
            _shapes.clear()
        self.series = _shapes.setdefault(series, series)
        self.amounts = tuple(samples.values())
        self.pins = pins
        self.row = row
        self.settled = settled

    def samples(self) -> dict[Series, float]:
        return dict(zip(self.series, self.amounts, strict=True))

    def names(self) -> set[str]:
        """Of the metrics that it counts in."""
        return {name for name, _ in self.series}

    def dump(self) -> str:
        samples = [[name, labels, amount] for (name, labels), amount in zip(self.series, self.amounts, strict=True)]
        model, prompt, agent = None, None, None
        if self.pins is not None:
            model, prompt, agent = [self.pins.model, self.pins.label], self.pins.prompt, self.pins.agent
        return json.dumps([samples, model, prompt, agent, sorted(self.settled)])

    @classmethod
    def load(cls, text: str) -> "Cell":
        """Older ones have no agent, or nothing that is settled."""
        samples, model, prompt, agent, settled = (*json.loads(text), None, None)[:5]
        return cls(
            {(name, tuple(labels)): amount for name, labels, amount in samples},
            Pins(model_of(model[0]), model[1], prompt, agent) if model else None,
            settled=frozenset(settled or ()),
        )

"""The text of a scrape. prometheus-client writes it; what of its lines stays the same is kept, as nothing else in
answering takes as long."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

_MOST_BEGINNINGS = 200_000

# By a sample's id, the sample and its line.
_Lines = dict[int, tuple[Sample, str]]


class _Written(NamedTuple):
    family: PrometheusMetric
    text: bytes
    lines: _Lines


class _Families(Collector):
    def __init__(self, *families: PrometheusMetric) -> None:
        self._families = families

    def collect(self) -> Iterable[PrometheusMetric]:
        return self._families


class Exposition:
    """One of prometheus-client's formats, for families that stay as they are. Safe for use from several threads."""

    def __init__(self, encode: Callable[[Collector], bytes]) -> None:
        self._encode = encode
        self._end = encode(_Families())
        # By a family's name, type and help its comments; by a sample's name and label values its line up to the value.
        self._comments: dict[tuple[str, str, str], str] = {}
        self._beginnings: dict[tuple[str, ...], str] = {}
        # Of the last text, by the family's name: what did not change is the same family in the next one, or shares its
        # samples with it.
        self._written: dict[str, _Written] = {}

    def text(self, families: Collector) -> bytes:
        """The same bytes as prometheus-client's encoder makes."""
        before, written, parts = self._written, {}, []
        for family in families.collect():
            one = before.get(family.name)
            if one is None or one.family is not family:
                one = self._family(family, one.lines if one is not None else {})
            written[family.name] = one
            parts.append(one.text)
        self._written = written
        return b"".join((*parts, self._end))

    def _family(self, family: PrometheusMetric, before: _Lines) -> _Written:
        lines: _Lines = {}
        try:
            parts = [self._comments[family.name, family.type, family.documentation]]
            for sample in family.samples:
                place = id(sample)
                known = before.get(place)
                if known is None or known[0] is not sample:
                    known = sample, self._line(sample)
                lines[place] = known
                parts.append(known[1])
        except KeyError:
            return _Written(family, self._write(family), {})
        return _Written(family, "".join(parts).encode(), lines)

    def _line(self, sample: Sample) -> str:
        """Raises KeyError if its beginning is not known."""
        value: str = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
        return f"{self._beginnings[sample.name, *sample.labels.values()]} {value}\n"

    def _write(self, family: PrometheusMetric) -> bytes:
        """By the library; the beginnings of its lines are kept."""
        text = self._encode(_Families(family)).removesuffix(self._end)
        lines = text.decode().split("\n")[:-1]
        comments = [line for line in lines if line.startswith("#")]
        lines = lines[len(comments) :]
        if len(self._beginnings) > _MOST_BEGINNINGS:
            self._beginnings = {}
        # A line that tells more than a value, as of a time, is left to the library.
        if len(lines) == len(family.samples) and not any(any(sample[3:]) for sample in family.samples):
            for sample, line in zip(family.samples, lines, strict=True):
                self._beginnings[sample.name, *sample.labels.values()] = line.rpartition(" ")[0]
            self._comments[family.name, family.type, family.documentation] = "".join(f"{one}\n" for one in comments)
        return text
